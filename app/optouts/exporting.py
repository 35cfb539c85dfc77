"""Opt-outs as CSV, in batches, so that an export of any size holds neither memory nor a transaction for long."""

from collections.abc import Iterator

from sqlalchemy import select

from app.accounts import audit
from app.accounts.audit import Action
from app.core.database import transaction
from app.core.envelope import timestamp
from app.files.csv_output import csv_lines, harmless
from app.optouts.book import matching
from app.optouts.models import OptOut
from app.optouts.schemas import OptOutFilter

COLUMNS = ("phone_number", "by", "since", "keyword", "note")
EXAMPLE = (
    '"phone_number","by","since","keyword","note"\r\n"+12025550123","STOP","2026-06-08T10:00:00.000000Z","Stop",""\r\n'
)
_BATCH = 2000


def rows(user_id: int, wanted: OptOutFilter, *, bom: bool) -> Iterator[str]:
    """The CSV, part by part: the oldest first, every field quoted."""
    with transaction() as session:
        audit.record(session, Action.EXPORTED, user_id, what="opt-outs")
    yield ("\ufeff" if bom else "") + csv_lines([COLUMNS])
    last = 0
    while True:
        query = select(OptOut).where(*matching(user_id, wanted), OptOut.id > last).order_by(OptOut.id).limit(_BATCH)
        with transaction() as session:
            found = session.scalars(query).all()
        if not found:
            return
        yield csv_lines(
            (each.phone_number, each.by, timestamp(each.since), harmless(each.keyword), harmless(each.note))
            for each in found
        )
        last = found[-1].id
