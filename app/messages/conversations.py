"""Conversations: who wrote last, what was read, and the messages with one number."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.accounts.principals import Principal
from app.contacts import book
from app.core.database import columns_of
from app.messages.models import Message

# How far back the list looks for numbers that wrote, and how many it shows.
MAX_WALKED = 2000
MAX_SHOWN = 100
MAX_MESSAGES = 200


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation in the list: the number, its contact's name, and the last message received."""

    number: str
    name: str | None
    last: str | None
    at: datetime
    is_unread: bool


# Walks the index of received messages, the newest first, and stops.
_LAST = text("""
    WITH walked AS MATERIALIZED (
        SELECT id, created_at FROM messages
        WHERE user_id = :user AND status = 'received' AND deleted_at IS NULL
        ORDER BY created_at DESC, id DESC LIMIT :walked
    ), last AS (
        SELECT DISTINCT ON (m.sender_number) m.sender_number AS number, m.message, m.created_at AS at
        FROM walked JOIN messages m ON m.id = walked.id
        WHERE m.sender_number IS NOT NULL
        ORDER BY m.sender_number, m.created_at DESC, m.id DESC
    )
    SELECT last.number, last.message, last.at, COALESCE(last.at > r.read_at, true) AS is_unread
    FROM last LEFT JOIN conversation_reads r ON r.user_id = :user AND r.number = last.number
    ORDER BY last.at DESC LIMIT :shown
""")


def latest(session: Session, user_id: int, search: str = "") -> list[Talk]:
    """The conversations in which somebody wrote last, the newest first; those whose number, name or last message has
    the words of `search`.
    """
    values = {"user": user_id, "walked": MAX_WALKED, "shown": MAX_WALKED if search else MAX_SHOWN}
    rows = session.execute(_LAST, values).all()
    names = book.names_of(session, user_id, [row.number for row in rows])
    talks = [Talk(row.number, names.get(row.number), row.message, row.at, row.is_unread) for row in rows]
    wanted = search.casefold()
    return [
        talk for talk in talks if any(wanted in (each or "").casefold() for each in (talk.number, talk.name, talk.last))
    ][:MAX_SHOWN]


_WITH = text(f"""
    SELECT {columns_of(Message, "m")} FROM (
        SELECT id, created_at FROM (
            (SELECT id, created_at FROM messages
             WHERE user_id = :user AND direction = 'outbound' AND recipient_number = :answered AND deleted_at IS NULL
             ORDER BY created_at DESC, id DESC LIMIT :most)
            UNION ALL
            (SELECT id, created_at FROM messages
             WHERE user_id = :user AND direction = 'inbound' AND sender_number = :number AND deleted_at IS NULL
             ORDER BY created_at DESC, id DESC LIMIT :most)) AS talk
        ORDER BY created_at DESC, id DESC LIMIT :most) AS shown
    JOIN messages m ON m.id = shown.id ORDER BY m.created_at, m.id
""")  # noqa: S608 - names of columns


def of_number(session: Session, user: Principal, number: str, answered: str) -> Sequence[RowMapping]:
    """The last messages from a number, as phones spell it, and to the one that answers go to; the oldest first."""
    values = {"user": user.user_id, "number": number, "answered": answered, "most": MAX_MESSAGES}
    return session.execute(_WITH, values).mappings().all()


_PHONE = text("""
    SELECT d.id FROM messages m JOIN devices d ON d.id = m.device_id AND d.is_active AND d.removed_at IS NULL
    WHERE m.user_id = :user AND m.direction = 'inbound' AND m.sender_number = :number AND m.deleted_at IS NULL
    ORDER BY m.created_at DESC, m.id DESC LIMIT 1
""")


def phone_that_received(session: Session, user_id: int, number: str) -> int | None:
    """The phone to answer by: the one that the number wrote to last, where it may send."""
    phone: int | None = session.scalar(_PHONE, {"user": user_id, "number": number})
    return phone


_READ = text("""
    INSERT INTO conversation_reads (user_id, number, read_at) VALUES (:user, :number, :until)
    ON CONFLICT (user_id, number) DO UPDATE
    SET read_at = GREATEST(conversation_reads.read_at, excluded.read_at)
""")


def note_read(session: Session, user_id: int, number: str, messages: Sequence[RowMapping]) -> None:
    """Note that its owner has seen these messages."""
    received = [row["created_at"] for row in messages if row["direction"] == "inbound"]
    if received:
        session.execute(_READ, {"user": user_id, "number": number, "until": max(received)})
