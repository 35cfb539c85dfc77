"""Contacts out of a CSV or XLSX file."""

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from app.accounts.principals import Principal
from app.contacts.importing import LENGTHS, TEXTS, Validated, store
from app.contacts.schemas import MAX_IMPORTED, FileImport, Imported
from app.core.hours import zone_names
from app.core.validation import read
from app.files import uploads
from app.files.recipients import with_numbers
from app.files.table import Table, open_table
from app.files.words import EMAIL, NAME, NOTES, ZONE

_HEADERS = {"name": NAME, "email": EMAIL, "notes": NOTES, "time_zone": ZONE}
_ZONE = TEXTS.index("time_zone")


def take_in(user: Principal, body: BinaryIO, content_type: str, wanted: FileImport) -> Imported:
    """Import the file in a request's body, in a transaction of its own.

    The other fields of its form name columns and group, before the query does. Raises `Invalid`.
    """
    with uploads.opened(body, content_type) as upload:
        return read_in(user, upload, {**wanted.given(), **upload.fields})


def read_in(user: Principal, upload: uploads.Upload, fields: Mapping[str, Any]) -> Imported:
    """Import an opened file. `fields` name columns and group. Raises `Invalid`."""
    chosen = read(FileImport, fields)
    validated = validate(upload.file, upload.charset, chosen, user.default_region)
    return store(user, validated, chosen.group_id)


def validate(file: BinaryIO, charset: str | None, wanted: FileImport, region: str | None) -> Validated:
    """The rows of a file to merge; blank cells leave what is there. Raises `Invalid` for a file that cannot be read.

    To be called while no transaction is open, as `importing.validate`.
    """
    table = open_table(
        file, max_rows=MAX_IMPORTED, region=region, charset=charset, number_column=wanted.phone_number_column
    )
    columns = [_column(table, wanted, name) for name in TEXTS]
    validated = Validated()
    for line, number, cells in with_numbers(table, region, validated.left_out):
        texts = [(cells[column] or None) if column is not None and column < len(cells) else None for column in columns]
        if too_long := _too_long(texts):
            validated.left_out.add("too_long", line, number, too_long)
        elif (zone := texts[_ZONE]) is not None and zone not in zone_names():
            validated.left_out.add("unknown_zone", line, number, f"{zone} is not a time zone like Asia/Tashkent.")
        elif validated.is_first(number, line, "line "):
            validated.rows.append((number, *texts, *(text is not None for text in texts)))
    return validated


def _column(table: Table, wanted: FileImport, name: str) -> int | None:
    parameter = f"{name}_column"
    named: str | None = getattr(wanted, parameter)
    return table.guess(_HEADERS[name]) if named is None else table.find(named, parameter)


def _too_long(texts: Sequence[str | None]) -> str | None:
    for name, text in zip(TEXTS, texts, strict=True):
        if text is not None and len(text) > LENGTHS[name]:
            return f"The {name.replace('_', ' ')} has more than {LENGTHS[name]} characters."
    return None
