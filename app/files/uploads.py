"""A file in a request's body: as the body itself, or in the field `file` of a form, as a browser sends it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from typing import BinaryIO

from fastapi import Request
from python_multipart import parse_form
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File

from app.core.bodies import FORM_TYPE
from app.core.dependencies import Large
from app.core.errors import Invalid, TooLarge, UnsupportedMediaType
from app.core.heavy import Heavy
from app.core.reading import LARGE_BODY_LIMIT
from app.core.refusals import UNSUPPORTED_FILE_TYPE
from app.core.validation import Model
from app.files.errors import unreadable

_FILE_PART = b'name="file"'
_CHUNK = 1024 * 1024
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
        if state.body_error is None and state.file is not None:
            heavy: Heavy = state.heavy
            if await heavy.run(has_file, state.file, state.content_type):
                return None
            state.raw_body = await heavy.run(state.file.read, LARGE_BODY_LIMIT)
        try:
            return await Large.__call__(self, request)
        except UnsupportedMediaType:
            raise UnsupportedMediaType(UNSUPPORTED_FILE_TYPE) from None


def has_file(file: BinaryIO, content_type: str) -> bool:
    """Whether a body is a file, or a form with a field `file`. Raises `TooLarge` for a large form that has none."""
    if _header(content_type).get_content_type() != FORM_TYPE:
        return True
    end = b""
    while chunk := file.read(_CHUNK):
        if _FILE_PART in end + chunk:
            return True
        end = chunk[-len(_FILE_PART) :]
    if file.tell() > LARGE_BODY_LIMIT:
        raise TooLarge
    file.seek(0)
    return False


@contextmanager
def opened(body: BinaryIO, content_type: str) -> Iterator[Upload]:
    """The file in a body that `has_file`. Raises `Invalid`."""
    header = _header(content_type)
    body.seek(0)
    if header.get_content_type() != FORM_TYPE:
        yield Upload(body, header.get_content_charset(), {})
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
            parse_form({"Content-Type": content_type.encode("latin-1")}, body, add_field, add_file)
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
