"""Placeholders of a text: `{name}`, and `{name|there}` with what stands in for an empty or missing value."""

import re
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\{([^{}|\n]+)(?:\|([^{}\n]*))?\}")


def fill(text: str, values: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """The text with its placeholders replaced once, and the names without a value or a default, which stay as they are.

    What a value holds is text, placeholders too. Letter case does not matter in a name.
    """
    known = {_plain(name): value for name, value in values.items()}
    unknown: dict[str, None] = {}

    def put(found: re.Match[str]) -> str:
        name, default = _plain(found[1]), found[2]
        value = known.get(name)
        if value:
            return value
        if default is not None:
            return default
        if name in known:
            return ""
        unknown[found[1].strip()] = None
        return found[0]

    return _PLACEHOLDER.sub(put, text), list(unknown)


def names(text: str) -> list[str]:
    """The names of the text's placeholders, each once, as they are first written."""
    found: dict[str, str] = {}
    for name, _ in _PLACEHOLDER.findall(text):
        found.setdefault(_plain(name), " ".join(name.split()))
    return list(found.values())


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
