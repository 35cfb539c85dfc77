"""Contacts as CSV, in batches, so that an export of any size holds neither memory nor a transaction for long."""

from collections.abc import Iterator

from sqlalchemy import select

from app.accounts import audit
from app.accounts.audit import Action
from app.contacts.book import matching
from app.contacts.models import Contact
from app.contacts.schemas import ContactFilter
from app.core.database import transaction
from app.files.csv_output import csv_lines, harmless

COLUMNS = ("phone_number", "name", "email", "notes", "time_zone")
EXAMPLE = (
    '"phone_number","name","email","notes","time_zone"\r\n'
    '"+12025550123","Ali","ali@example.com","",""\r\n'
    '"+12025550148","Laylo","","Prefers mornings","Asia/Tashkent"\r\n'
)
_BATCH = 2000


def rows(user_id: int, wanted: ContactFilter, *, bom: bool) -> Iterator[str]:
    """The CSV, part by part: the oldest first, every field quoted.

    Text of users that a spreadsheet would run as a formula gets an apostrophe in front. Numbers keep their `+`: only
    digits follow it, and an import reads them again.
    """
    with transaction() as session:
        audit.record(session, Action.EXPORTED, user_id, what="contacts")
    yield ("\ufeff" if bom else "") + csv_lines([COLUMNS])
    last = 0
    while True:
        query = select(Contact).where(*matching(user_id, wanted), Contact.id > last).order_by(Contact.id).limit(_BATCH)
        with transaction() as session:
            found = session.scalars(query).all()
        if not found:
            return
        yield csv_lines((c.phone_number, *map(harmless, (c.name, c.email, c.notes, c.time_zone))) for c in found)
        last = found[-1].id
