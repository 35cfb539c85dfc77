"""Parts of MMS. What they are is told in the message's row, what is in them is kept in a row of its own.

So lists never load what they do not show. What is too much is left out, and the part says so (`omitted`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.settings import get_settings

# Networks carry MMS of about a megabyte; these are characters of base64, four for three bytes.
MAX_PART_SIZE = 6 * 1024 * 1024
MAX_MESSAGE_SIZE = 12 * 1024 * 1024
MAX_PARTS = 100
# What a message with parts counts at least, so that adding up an account's stays quick.
_MIN_COUNTED = 4096

PART_TOO_LARGE, MESSAGE_TOO_LARGE, ACCOUNT_FULL = "part_too_large", "message_too_large", "account_full"
TOO_MANY_PARTS = "too_many_parts"


@dataclass(slots=True)
class Attachment:
    """One part, its content base64. `omitted` says why there is none, where it was left out."""

    part_id: int | str | None = None
    content_type: str | None = None
    name: str | None = None
    size: int | None = None
    data: str | None = None
    omitted: str | None = None

    def metadata(self) -> dict[str, Any]:
        """All but its content."""
        told = {"part_id": self.part_id, "content_type": self.content_type, "name": self.name, "size": self.size}
        return told | {"omitted": self.omitted} if self.omitted else told


def limited(parts: Iterable[Attachment]) -> list[Attachment]:
    """The parts of one message, without the content of those that are too much. One more part stands for the rest."""
    kept: list[Attachment] = []
    left = MAX_MESSAGE_SIZE
    for part in parts:
        if len(kept) == MAX_PARTS:
            kept.append(Attachment(omitted=TOO_MANY_PARTS))
            break
        # Base64 has no other characters; what has is no content, and might not be storable.
        if part.data is not None and not part.data.isascii():
            part.data = None
        size = len(part.data or "")
        if size > MAX_PART_SIZE or size > left:
            part.data, part.omitted = None, PART_TOO_LARGE if size > MAX_PART_SIZE else MESSAGE_TOO_LARGE
        left -= len(part.data or "")
        if part.data is not None:
            part.data = part.data.replace("\0", "")
        kept.append(part)
    return kept


def size_of(parts: Sequence[Attachment] | None) -> int:
    """How much of an account's room the content of one message's parts takes, 0 where there is none."""
    size = sum(len(part.data or "") for part in parts or ())
    return max(size, _MIN_COUNTED) if size else 0


_TAKEN = text("""
    SELECT user_id, sum(size) FROM message_attachments WHERE user_id = ANY(:users) GROUP BY user_id
""")


def room(session: Session, users: Collection[int]) -> dict[int, int]:
    """How much more each account may keep. Concurrent batches do not know of each other: it may end a little over."""
    allowed = get_settings().attachment_storage_mb * 1024 * 1024
    if not users:
        return {}
    taken = {row[0]: int(row[1]) for row in session.execute(_TAKEN, {"users": sorted(users)})}
    return {user: allowed - taken.get(user, 0) for user in users}


_KEEP = text("""
    INSERT INTO message_attachments (message_id, user_id, size, data) VALUES (:message, :user, :size, :data)
    ON CONFLICT (message_id) DO UPDATE SET size = excluded.size, data = excluded.data
""")


def keep(session: Session, user_id: int, message: int, parts: Sequence[Attachment]) -> None:
    """Keep what is in the parts of a message, by its number."""
    data = [part.data for part in parts]
    session.execute(_KEEP, {"message": message, "user": user_id, "size": size_of(parts), "data": data})


_DATA = text("SELECT data FROM message_attachments WHERE message_id = :message")


def whole(session: Session, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of a message with their content."""
    parts: list[dict[str, Any]] = row["attachments"] or []
    data: list[str | None] = (session.scalar(_DATA, {"message": row["id"]}) if parts else None) or []
    contents = data + [None] * (len(parts) - len(data))
    # A version before this table kept the content in the part.
    return [{**part, "data": part.get("data") or content} for part, content in zip(parts, contents, strict=True)]
