"""What happened to a message before its present routing and try: earlier routings, and tries that failed.

The present ones are in the message's row and its queue row. Rows are written here only when something happens again: a
move, another try, a retry; so a message that goes the straight way has none.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import arrays_of, columns_named, unnest
from app.messages.models import MessageRow, MessageStep


class Step(StrEnum):
    """Something that happened to a message at a phone; `MOVED` away from it, `RETRIED` because its owner asked."""

    ROUTED = "routed"
    RELEASED = "released"
    ACCEPTED = "accepted"
    SENT = "sent"
    FAILED = "failed"
    MOVED = "moved"
    RETRIED = "retried"


@dataclass(frozen=True, slots=True)
class Past:
    """A step, to be kept."""

    message_id: int
    attempt: int
    step: Step
    at: datetime
    device_id: int | None = None
    error: str | None = None


def of_try(row: MessageRow, failed_at: datetime, error: str | None) -> list[Past]:
    """The steps of a try that failed and will be followed by another, from the message's row."""
    message, attempt, device = row["id"], row["attempt"], row["device_id"]
    times = (
        (Step.ROUTED, row["routed_at"]),
        (Step.RELEASED, row["released_at"]),
        (Step.ACCEPTED, row["accepted_at"]),
        (Step.SENT, row["sent_at"]),
    )
    passed = [Past(message, attempt, step, at, device) for step, at in times if at]
    return [*passed, Past(message, attempt, Step.FAILED, failed_at, device, error)]


_NAMES = tuple(field.name for field in fields(Past))
_COLUMNS = columns_named(MessageStep, _NAMES)
_WRITE = text(f"INSERT INTO message_steps ({', '.join(_NAMES)}) SELECT * FROM {unnest(*_COLUMNS)}")  # noqa: S608 - names of columns


def write(session: Session, steps: Sequence[Past]) -> None:
    if steps:
        session.execute(_WRITE, arrays_of(map(asdict, steps), *_COLUMNS))


_OF_MESSAGE = text("""
    SELECT message_id, attempt, step, at, device_id, error FROM message_steps WHERE message_id = :id ORDER BY id
""")


def of_message(session: Session, message_id: int) -> list[Past]:
    """All steps that were kept, in order."""
    rows = session.execute(_OF_MESSAGE, {"id": message_id})
    return [Past(row.message_id, row.attempt, Step(row.step), row.at, row.device_id, row.error) for row in rows]


# Since its owner asked for the message to be sent again, or at all.
_TRIED = text("""
    SELECT s.message_id, s.device_id FROM message_steps s
    WHERE s.message_id = ANY(:ids) AND s.step = 'failed'
      AND s.id > COALESCE((SELECT max(r.id) FROM message_steps r
                           WHERE r.message_id = s.message_id AND r.step = 'retried'), 0)
""")


def tried(session: Session, message_ids: Collection[int]) -> dict[int, list[int]]:
    """The phones that failed to send each message before the present try, by message."""
    found: dict[int, list[int]] = {message: [] for message in message_ids}
    for row in session.execute(_TRIED, {"ids": sorted(found)}):
        found[row.message_id].append(row.device_id)
    return found
