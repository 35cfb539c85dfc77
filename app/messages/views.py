"""The message object of the public API, built from a row of `messages`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app.core.envelope import plain_number, timestamp

_WHOLE = (
    "id",
    "message_id",
    "my_id",
    "device_id",
    "recipient_number",
    "sender_number",
    "message",
    "direction",
    "status",
    "price",
    "is_charged",
    "sim_slot",
    "segments",
    "encoding",
    "uncertain",
    "callback_url",
    "error_message",
    "kind",
    "scheduled_at",
    "sent_at",
    "delivered_at",
    "received_at",
    "created_at",
    "updated_at",
)


def message_object(row: Mapping[str, Any]) -> dict[str, Any]:
    """Every key always there, null where unknown; JSON-ready values. Attachments come without their data."""
    told = {key: row.get(key) for key in _WHOLE}
    told["message_id"] = str(row["message_id"])
    told["price"] = None if row["price"] is None else plain_number(row["price"])
    told["is_charged"] = False
    told["attachments"] = [
        {name: value for name, value in part.items() if name != "data"} for part in row.get("attachments") or ()
    ]
    for key in ("scheduled_at", "sent_at", "delivered_at", "received_at", "created_at", "updated_at"):
        moment: datetime | None = row.get(key)
        told[key] = None if moment is None else timestamp(moment)
    return told
