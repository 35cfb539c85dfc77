"""JSON of the phone protocol: messages as the stock app reads them.

Dates have exactly three fraction digits: the app takes the digits behind the second for milliseconds, however many.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from app.messages.handout import Released
from app.messages.reports import wire_name
from app.messages.states import Lane

# The app keeps its own queue by priority; from 100 on it would ignore its delay and limits.
SINGLE_PRIORITY, BULK_PRIORITY = 50, 0


def milliseconds(moment: datetime) -> str:
    """`2026-11-22T07:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def messages(released: Sequence[Released]) -> bytes:
    """The answer to a pull."""
    return to_json([_message(message) for message in released])


def _message(message: Released) -> dict[str, Any]:
    return {
        "id": wire_name(message.message_id, message.attempt),
        # Old versions read `message`, newer ones `textMessage`.
        "message": message.text,
        "textMessage": {"text": message.text},
        "phoneNumbers": [message.recipient_number],
        "simNumber": message.sim_slot + 1,
        "withDeliveryReport": True,
        "isEncrypted": False,
        "priority": SINGLE_PRIORITY if message.lane == Lane.SINGLE else BULK_PRIORITY,
        "validUntil": milliseconds(message.valid_until),
        "scheduleAt": None,
        "state": "Cancelling" if message.cancelling else "Pending",
        "createdAt": milliseconds(message.created_at),
    }
