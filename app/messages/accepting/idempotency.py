"""`Idempotency-Key` on sends: the first answer again, and nothing sent twice, for 24 hours.

A single send claims its key in the statement that writes its message (`storing`). A second one with the same key is
left for the next batch, until that commit has come, and is then answered from the first one's row.

Bulk sends, which take longer, claim theirs in `bulk_keys`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import transposed, unnest
from app.core.database import columns_of, interval
from app.core.errors import Invalid
from app.messages.models import IdempotencyKey, Message
from app.messages.storing import KEYS_HOLD_FOR

KEY_LENGTH = 255
RETRY_AFTER_SECONDS = 2


def checked(key: str | None) -> str | None:
    """The header's value, none where it is empty. Raises `Invalid` for one that is too long."""
    if key is not None and len(key) > KEY_LENGTH:
        raise Invalid({"idempotency_key": [f"The idempotency key must not be greater than {KEY_LENGTH} characters."]})
    return key or None


_KEY = (IdempotencyKey.user_id, IdempotencyKey.key)
_KNOWN = text(f"""
    SELECT k.user_id, k.key, k.request_hash, k.message_ids[1] AS id, k.device_id
    FROM {unnest(*_KEY)} JOIN idempotency_keys k ON k.user_id = u.user_id AND k.route = 'sms' AND k.key = u.key
    WHERE k.created_at > clock_timestamp() - {interval(KEYS_HOLD_FOR)}
""")  # noqa: S608 - constants

_MESSAGES = text(f"SELECT {columns_of(Message)} FROM messages WHERE id = ANY(:ids)")  # noqa: S608 - constants


Key = tuple[int, str]  # a user, and what the header says


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What a key stands for: the hash of its request, and the message that it made, with the phone as told then."""

    request_hash: bytes
    message: Mapping[str, Any]


def known(session: Session, keys: Collection[Key]) -> dict[Key, FirstAnswer]:
    """Those of the keys that stand for a message."""
    if not keys:
        return {}
    rows = {(row.user_id, row.key): row for row in session.execute(_KNOWN, transposed(keys, "user_id", "key"))}
    if not rows:
        return {}
    messages = {
        row["id"]: row for row in session.execute(_MESSAGES, {"ids": [row.id for row in rows.values()]}).mappings()
    }
    # Routing may have chosen a phone since.
    return {
        key: FirstAnswer(bytes(row.request_hash), {**messages[row.id], "device_id": row.device_id})
        for key, row in rows.items()
    }
