"""What the owner may change in a message: report its status as a phone does, note an error, or give it another time."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from app.messages.life import rescheduling, transitions
from app.messages.life.transitions import Change
from app.messages.schemas import SmsChange
from app.messages.states import Event, Status

# Nothing becomes pending again by being told so, and what was received is received already.
_REPORTS: dict[str | None, Event] = {"sent": Event.SENT, "delivered": Event.DELIVERED, "failed": Event.FAILED}


def change(session: Session, row: Mapping[str, Any], wanted: SmsChange) -> Status:
    """Apply what the message's state allows; the status it has then.

    With a status, `error_message` belongs to that report, and is dropped where the report changes nothing. Raises
    `Invalid` and `Refused` for another time.
    """
    if "send_at" in wanted.model_fields_set:
        rescheduling.reschedule(session, row, wanted.send_at)
    if wanted.status is None:
        if "error_message" in wanted.model_fields_set:
            transitions.apply(session, [Change(row["id"], Event.NOTED, error=wanted.error_message)])
        return Status(row["status"])
    event = _REPORTS.get(wanted.status)
    if event is None:
        return Status(row["status"])
    applied = transitions.apply(session, [Change(row["id"], event, error=wanted.error_message)])
    return Status(applied[row["id"]].row["status"])
