"""Request bodies, from bytes to a JSON value: size, content type, encoding, depth, and text that can be stored.

Plain functions, used by the edge in front of FastAPI and by the hot calls, which have no framework around them.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field

from app.core.errors import MAX_NAMED_ERRORS, Invalid, UnsupportedMediaType

XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
CSV_TYPE = "text/csv"
FORM_TYPE = "multipart/form-data"
# What browsers and programs call files besides. What a file is, is read from the file.
_FILE_TYPES = frozenset(
    {XLSX_TYPE, CSV_TYPE, "application/csv", "text/tab-separated-values", "application/vnd.ms-excel"}
)
OFFLOAD_BYTES = 64 * 1024
MAX_FORM_FIELDS = 400_000
# A body of nothing but brackets takes thirty times its size once it is read.
MAX_JSON_VALUES = 2_000_000
MAX_DEPTH = 32

_UNREADABLE = "The request body is not valid JSON."
_JSON_AS_FORM = (
    "The request body is JSON, but its Content-Type is application/x-www-form-urlencoded. "
    "Send the header Content-Type: application/json."
)
_TOO_MANY_VALUES = "The request body has too many values."
_TOO_DEEP = "The request body is nested too deeply."
_BAD_NAME = "The request body has a field whose name is not valid text."


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """A request header's value, by its lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return None


def parse_body(raw: bytes, content_type: str | None) -> Any:
    """The JSON value of a body: JSON as it is, a form as the nested object its bracketed names describe, nothing as {}.

    Raises `Invalid` for what cannot be read or stored, and `UnsupportedMediaType`.
    """
    if not raw.strip():
        return {}
    if is_json(content_type):
        return _parse_json(raw)
    kind = _kind(content_type)
    if kind == "application/x-www-form-urlencoded":
        if raw.lstrip()[:1] in {b"{", b"["}:
            raise Invalid({"body": [_JSON_AS_FORM]})
        fields = _urlencoded(raw)
    elif kind == FORM_TYPE:
        fields = _multipart(raw, content_type or "")
    else:
        raise UnsupportedMediaType
    value = unflatten(fields)
    _refuse_bad_text(value)
    return value


def is_json(content_type: str | None) -> bool:
    """Whether a body of this type is read as JSON; one without a type is."""
    kind = _kind(content_type)
    return kind in {"", "application/json", "text/json"} or kind.endswith("+json")


def is_file(content_type: str | None) -> bool:
    """Whether a body of this type is a file, or a form that may have one, for a route that takes files."""
    return (kind := _kind(content_type)) in _FILE_TYPES or kind == FORM_TYPE


def _kind(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _parse_json(raw: bytes) -> Any:
    if has_too_many_values(raw):
        raise Invalid({"body": [_TOO_MANY_VALUES]})
    try:
        value = _DECODER.decode(raw.decode("utf-8", "surrogateescape"))
    except RecursionError:
        raise Invalid({"body": [_TOO_DEEP]}) from None
    except ValueError:
        raise Invalid({"body": [_UNREADABLE]}) from None
    # Only these can hide text that cannot be stored, or nesting; the walk costs ten times the parsing.
    suspicious = b"\\u0000" in raw or b"\\ud" in raw or b"\\uD" in raw or not _is_utf8(raw)
    if suspicious or is_too_deep(raw, value):
        _refuse_bad_text(value)
    return value


def has_too_many_values(raw: bytes, most: int = MAX_JSON_VALUES) -> bool:
    """Whether JSON may hold more values than any body needs; a comma in a text counts as one."""
    return len(raw) > most and raw.count(b",") + raw.count(b"[") + raw.count(b"{") > most


def is_too_deep(raw: bytes, value: Any) -> bool:
    """Whether `value`, read from `raw`, is nested deeper than any body may be."""
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _give_way(value: dict[str, Any]) -> dict[str, Any]:
    """Nothing, in Python: while a parser in C reads 100,000 objects no other thread has the interpreter otherwise."""
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_hook=_give_way)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def storable(text: str) -> bool:
    """Whether PostgreSQL and UTF-8 can hold it: no NUL, no half of a surrogate pair."""
    if text.isascii():
        return "\0" not in text
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def sanitize(text: str) -> str:
    """The text as it can be stored: without NUL, with a question mark for each half of a surrogate pair."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


_Path = tuple[str, ...]


def _refuse_bad_text(value: Any) -> None:
    """Raises `Invalid`, by field, for text that cannot be stored; for bad names and too deep nesting, as `body`."""
    errors: dict[str, list[str]] = {}
    unnamed = 0
    walks: list[Iterator[tuple[_Path, Any]]] = [iter([((), value)])]
    while walks:
        path, item = next(walks[-1], ((), None))
        if item is None:
            walks.pop()
        elif isinstance(item, str):
            if storable(item):
                continue
            if len(errors) < MAX_NAMED_ERRORS:
                field = ".".join(path) or "body"
                errors[field] = [f"The {field.replace('_', ' ')} field contains invalid characters."]
            else:
                unnamed += 1
        elif not isinstance(item, dict | list):
            continue
        elif len(path) > MAX_DEPTH:
            raise Invalid({"body": [_TOO_DEEP]})
        elif isinstance(item, dict) and not all(map(storable, item)):
            raise Invalid({"body": [_BAD_NAME]})
        else:
            walks.append(_children(path, item))
    if errors:
        raise Invalid(errors, unnamed=unnamed)


def _children(path: _Path, item: dict[str, Any] | list[Any]) -> Iterator[tuple[_Path, Any]]:
    """What may hold text in an object or a list, each with where it stands."""
    pairs = item.items() if isinstance(item, dict) else enumerate(item)
    return (((*path, str(name)), child) for name, child in pairs if isinstance(child, str | dict | list))


def without_blanks(query: bytes) -> bytes:
    """The query without parameters that have no value: blank is as good as absent."""
    if b"=&" not in query and not query.endswith(b"="):
        return query
    return b"&".join(part for part in query.split(b"&") if part.partition(b"=")[2])


def _urlencoded(raw: bytes) -> Iterable[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError:
        raise Invalid({"body": ["The request body has too many fields."]}) from None


def _multipart(raw: bytes, content_type: str) -> Iterable[tuple[str, str]]:
    fields: list[tuple[str, str]] = []

    def add(field: Field) -> None:
        name, value = field.field_name or b"", field.value or b""
        fields.append((name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")))

    try:
        parse_form({"Content-Type": content_type.encode("latin-1")}, io.BytesIO(raw), add, None)
    except (FormParserError, ValueError):
        raise Invalid({"body": ["The request body is not a valid form."]}) from None
    return fields


def unflatten(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A form's fields as the object their names describe: `recipients[0][number]`, `abilities[]`."""
    root = _Node()
    for name, value in fields:
        *parents, last = _steps(name)
        node = root
        for step in parents:
            node = node.child(step)
        node[node.place(last)] = value
    return {key: _with_lists(child) for key, child in root.items()}


class _Node(dict[str, Any]):
    """An object or a list of a form; `[]` is the place behind the highest index, as PHP counts."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    def place(self, step: str) -> str:
        if not step:
            step = str(self._next)
        if is_index(step):
            self._next = max(self._next, int(step) + 1)
        return step

    def child(self, step: str) -> "_Node":
        place = self.place(step)
        found = self.get(place)
        if not isinstance(found, _Node):
            found = self[place] = _Node()
        return found


def _steps(name: str) -> Iterator[str]:
    head, bracket, rest = name.partition("[")
    if not head or not bracket or not rest.endswith("]"):
        yield name
        return
    steps = rest[:-1].split("][")
    if len(steps) >= MAX_DEPTH:
        raise Invalid({"body": [_TOO_DEEP]})
    yield head
    yield from steps


def is_index(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) < 10  # noqa: PLR2004 - 9 digits


def _with_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    children = {key: _with_lists(child) for key, child in value.items()}
    if children and all(map(is_index, children)):
        return [children[key] for key in sorted(children, key=int)]
    return children
