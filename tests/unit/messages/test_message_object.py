"""Webhooks and the API show one and the same message."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from app.messages.models import Message
from app.messages.schemas import MessageOut
from app.messages.views import message_object

ROW = {column.name: None for column in Message.__table__.columns} | {
    "id": 101,
    "message_id": UUID("019a2f3c-0000-7000-8000-000000000001"),
    "direction": "outbound",
    "status": "sent",
    "kind": "sms",
    "message": "Süß",
    "price": Decimal("2.5000"),
    "uncertain": False,
    "sent_at": datetime(2026, 6, 8, 10, 0, 0, 1, tzinfo=UTC),
    "created_at": datetime(2026, 6, 8, 9, tzinfo=UTC),
    "updated_at": datetime(2026, 6, 8, 10, tzinfo=UTC),
}


def test_one_object_for_answers_and_webhooks():
    told = message_object(ROW)
    assert json.loads(MessageOut.model_validate(ROW).model_dump_json()) == json.loads(json.dumps(told))
    assert (told["price"], told["sent_at"]) == (2.5, "2026-06-08T10:00:00.000001Z")
