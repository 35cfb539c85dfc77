"""Changing when a message is to go, for as long as it is held for that."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.errors import Refused
from app.core.refusals import ONLY_SCHEDULED
from app.messages.accepting import later
from app.messages.states import Stage

# A release that holds the row is waited for, and the row looked at again: by then it is no longer held, and stays as it
# is. The validity, which is counted from the due time, moves with it. Hours that held it are judged when it is due.
_CHANGE = text(f"""
    WITH changed AS (
        UPDATE message_queue q
        SET due_at = CAST(:due AS timestamptz), closes_at = NULL,
            valid_until = q.valid_until + (CAST(:due AS timestamptz) - q.due_at)
        WHERE q.message_id = :id AND q.stage = {Stage.HELD} AND q.due_at IS NOT NULL
        RETURNING q.message_id, q.valid_until
    )
    UPDATE messages m
    SET scheduled_at = :scheduled, valid_until = changed.valid_until, updated_at = clock_timestamp()
    FROM changed WHERE m.id = changed.message_id
    RETURNING m.id
""")  # noqa: S608 - names of states


def reschedule(session: Session, row: Mapping[str, Any], send_at: datetime | None) -> None:
    """Let the message go at another time, or without one now. Raises `Invalid`, and `Refused` where it is too late."""
    now = later.clock(session)
    scheduled = later.due_at(send_at, now)
    values = {"id": row["id"], "due": scheduled or now, "scheduled": scheduled}
    if session.scalar(_CHANGE, values) is None:
        raise Refused(ONLY_SCHEDULED)
