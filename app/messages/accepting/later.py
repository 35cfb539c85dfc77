"""When a message is to go that is not to go at once, judged by the database's clock."""

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.errors import Invalid

MAX_AHEAD = timedelta(days=366)
# Clocks differ, and requests take their time; what lies further back is a mistake in the date or in its zone.
LATE = timedelta(minutes=5)
_TOO_FAR = "The send at field must be a date within the next year."
PAST = "The send at field must be a date in the future; if it has no offset, it is read as UTC."
_CLOCK = text("SELECT clock_timestamp()")


def clock(session: Session) -> datetime:
    """The database's."""
    now: datetime = session.execute(_CLOCK).scalar_one()
    return now


def due_at(send_at: datetime | None, now: datetime | None) -> datetime | None:
    """Until when the message is held, None where it goes at once. Raises `Invalid`."""
    if send_at is None or now is None:
        return None
    if send_at > now + MAX_AHEAD:
        raise Invalid({"send_at": [_TOO_FAR]})
    if send_at < now - LATE:
        raise Invalid({"send_at": [PAST]})
    return send_at if send_at > now else None


def first_due_at(send_at: datetime | None, created_at: datetime) -> datetime | None:
    """What `due_at` was of a message that is stored, whatever its owner made of it since."""
    return send_at if send_at is not None and send_at > created_at else None
