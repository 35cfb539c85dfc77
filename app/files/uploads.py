"""A file in a request's body: as the body itself, or in the field `file` of a form, as a browser sends it."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import BinaryIO

from fastapi import Request
from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File

from app.core.dependencies import Large
from app.core.errors import Invalid, UnsupportedMediaType
from app.core.refusals import UNSUPPORTED_FILE_TYPE
from app.core.validation import Model
from app.files.errors import unreadable

XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
CSV_TYPE = "text/csv"
# What browsers and programs call them besides. What a file is, is read from the file.
_TYPES = frozenset({XLSX_TYPE, CSV_TYPE, "application/csv", "text/tab-separated-values", "application/vnd.ms-excel"})
_FORM = "multipart/form-data"
_FILE_PART = b'name="file"'
_MAX_FIELD_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A file, the encoding its sender says it has, and the other fields of its form."""

    file: BinaryIO
    charset: str | None
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LargeOrFile(Large[Model]):
    """As `Large` for a route that takes files too: None where the body is one, for the route to open."""

    async def __call__(self, request: Request) -> Model | None:  # type: ignore[override]  # wider
        state = request.state
        if state.body_error is None and has_file(state.raw_body, state.content_type):
            return None
        try:
            return await Large.__call__(self, request)
        except UnsupportedMediaType:
            raise UnsupportedMediaType(UNSUPPORTED_FILE_TYPE) from None


def has_file(raw: bytes, content_type: str | None) -> bool:
    """Whether a body is a file, or a form with a field `file`."""
    kind = _header(content_type).get_content_type() if content_type else ""
    return kind in _TYPES or (kind == _FORM and _FILE_PART in raw)


@contextmanager
def opened(raw: bytes, content_type: str) -> Iterator[Upload]:
    """The file in a body that `has_file`. Raises `Invalid`."""
    header = _header(content_type)
    if header.get_content_type() != _FORM:
        yield Upload(io.BytesIO(raw), header.get_content_charset(), {})
        return
    fields: dict[str, str] = {}
    files: list[File] = []

    def add_field(field: Field) -> None:
        name, value = field.field_name or b"", field.value or b""
        fields[name.decode("utf-8", "replace")] = value[:_MAX_FIELD_LENGTH].decode("utf-8", "replace")

    def add_file(file: File) -> None:
        if file.field_name == b"file" and len(files) <= 1:
            files.append(file)
        else:
            file.close()

    try:
        try:
            parse_form({"Content-Type": content_type.encode("latin-1")}, io.BytesIO(raw), add_field, add_file)
        except (FormParserError, ValueError):
            raise Invalid({"body": ["The request body is not a valid form."]}) from None
        if len(files) != 1:
            raise unreadable("The file field must be one file.")
        file = files[0].file_object
        file.seek(0)
        yield Upload(file, None, fields)
    finally:
        for each in files:
            each.close()


def _header(content_type: str) -> Message:
    header = Message()
    header["Content-Type"] = content_type
    return header
