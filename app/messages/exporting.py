"""Messages as CSV, in batches, so that an export of any size holds neither memory nor a transaction for long."""

from collections.abc import Iterator

from sqlalchemy import RowMapping

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.principals import Principal
from app.core.database import transaction
from app.core.envelope import timestamp
from app.files.csv_output import csv_lines, harmless, number_or_text
from app.messages import queries
from app.messages.queries import MessageFilter

_TIMES = ("created_at", "sent_at", "delivered_at", "failed_at")
COLUMNS = ("id", "direction", "status", "recipient_number", "sender_number", "message", "my_id", "error", *_TIMES)
_BATCH = 2000


def rows(user: Principal, wanted: MessageFilter, *, bom: bool) -> Iterator[str]:
    """The CSV, part by part: the newest first, every field quoted, times in UTC.

    Raises what is wrong with the filter before the first part is out.
    """
    head, cursor = ("\ufeff" if bom else "") + csv_lines([COLUMNS]), None
    while True:
        with transaction() as session:
            found, cursor = queries.batch(session, user, wanted, cursor, _BATCH)
            if head:
                audit.record(session, Action.EXPORTED, user.user_id, what="messages")
        yield head + csv_lines(map(_texts, found))
        head = ""
        if cursor is None:
            return


def _texts(row: RowMapping) -> tuple[str, ...]:
    times = (row[name] for name in _TIMES)
    return (
        str(row["id"]),
        row["direction"],
        row["status"],
        # Of a received message both are what a phone says they are.
        number_or_text(row["recipient_number"]),
        number_or_text(row["sender_number"]),
        harmless(row["message"]),
        harmless(row["my_id"]),
        harmless(row["error_message"]),
        *(timestamp(time) if time else "" for time in times),
    )
