"""Placeholders of a text: `{name}`, and `{name|there}` with what stands in for an empty or missing value."""

import re
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\{([^{}|\n]+)(?:\|([^{}\n]*))?\}")


def fill(text: str, values: Mapping[str, str | None]) -> tuple[str, list[str]]:
    """The text with its placeholders replaced once, and the names without a value or a default, which stay as they are.

    What a value holds is text, placeholders too. Letter case does not matter in a name.
    """
    known = {plain(name): value for name, value in values.items()}
    unknown: dict[str, None] = {}

    def put(found: re.Match[str]) -> str:
        name, default = plain(found[1]), found[2]
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
        found.setdefault(plain(name), " ".join(name.split()))
    return list(found.values())


def split(text: str) -> list[tuple[str, str | None, str | None]]:
    """The text in pieces: what stands before each placeholder, its name and its default; at the end what follows."""
    pieces: list[tuple[str, str | None, str | None]] = []
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        pieces.append((text[end : match.start()], match[1].strip(), match[2]))
        end = match.end()
    return [*pieces, (text[end:], None, None)]


def plain(name: str) -> str:
    """A name without what does not matter in it: letter case, and how many blanks."""
    return " ".join(name.split()).casefold()
