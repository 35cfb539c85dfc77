"""Fields of a request that nothing reads: clients may send them, and a response header names them."""

from collections.abc import Iterable
from contextvars import ContextVar
from urllib.parse import quote

HEADER = b"x-ignored-fields"
MAX_NAMES = 20
MAX_NAME_LENGTH = 64
# What forms of Laravel's clients carry for the framework.
_FRAMEWORK = frozenset({"_method", "_token"})

_names: ContextVar[list[str] | None] = ContextVar("ignored_fields", default=None)


def collect() -> list[str]:
    """The list in which this request's ignored fields will be found, once its body was validated."""
    names: list[str] = []
    _names.set(names)
    return names


def note(unknown: Iterable[str]) -> None:
    """Called by the schemas."""
    names = _names.get()
    if names is not None:
        names.extend(name for name in unknown if name not in _FRAMEWORK)


def headers(names: list[str]) -> list[tuple[bytes, bytes]]:
    """The response header, where there are any names. They are the client's words, so all but letters is encoded."""
    if not names:
        return []
    shown = [quote(name[:MAX_NAME_LENGTH], safe="[]", errors="replace") for name in names[:MAX_NAMES]]
    if len(names) > MAX_NAMES:
        shown.append("...")
    return [(HEADER, ", ".join(shown).encode("ascii"))]
