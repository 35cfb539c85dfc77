"""Finding one message of a user by what clients name it with: its number or its UUID."""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import columns_of
from app.core.errors import NotFound
from app.core.validation import row_id
from app.messages.models import Message

MODEL = "SmsMessage"
_COLUMNS = columns_of(Message)


def find(session: Session, user_id: int, name: str) -> dict[str, Any]:
    """The message's row. Raises `NotFound`, also for a deleted message and for another user's."""
    number = row_id(name)
    column, value = ("id", number) if number else ("message_id", _uuid(name))
    row = (
        session.execute(
            text(f"SELECT {_COLUMNS} FROM messages WHERE {column} = :value AND user_id = :user AND deleted_at IS NULL"),  # noqa: S608
            {"value": value, "user": user_id},
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise NotFound(MODEL)
    return dict(row)


def _uuid(name: str) -> UUID:
    try:
        return UUID(name)
    except ValueError:
        raise NotFound(MODEL) from None
