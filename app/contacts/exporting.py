"""Contacts as CSV, in batches, so that an export of any size holds neither memory nor a transaction for long."""

import csv
import io
from collections.abc import Iterator

from sqlalchemy import select

from app.contacts.book import matching
from app.contacts.models import Contact
from app.contacts.schemas import ContactFilter
from app.core.database import transaction

COLUMNS = ("phone_number", "name", "email", "notes")
EXAMPLE = (
    '"phone_number","name","email","notes"\r\n'
    '"+12025550123","Ali","ali@example.com",""\r\n'
    '"+12025550148","Laylo","","Prefers mornings"\r\n'
)
_BATCH = 2000
# What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def rows(user_id: int, wanted: ContactFilter, *, bom: bool) -> Iterator[str]:
    """The CSV, part by part: the oldest first, every field quoted.

    Text of users that a spreadsheet would run as a formula gets an apostrophe in front. Numbers keep their `+`: only
    digits follow it, and an import reads them again.
    """
    yield ("\ufeff" if bom else "") + _csv([COLUMNS])
    last = 0
    while True:
        query = select(Contact).where(*matching(user_id, wanted), Contact.id > last).order_by(Contact.id).limit(_BATCH)
        with transaction() as session:
            found = session.scalars(query).all()
        if not found:
            return
        yield _csv((c.phone_number, *map(_harmless, (c.name, c.email, c.notes))) for c in found)
        last = found[-1].id


def _harmless(value: str | None) -> str:
    return f"'{value}" if value and value.startswith(_FORMULA) else value or ""


def _csv(lines: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(lines)
    return buffer.getvalue()
