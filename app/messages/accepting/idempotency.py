"""`Idempotency-Key` on sends: the first answer again, and nothing sent twice, for 24 hours.

A single send claims its key in the transaction that writes its message. A second one with the same key is left for the
next batch, until that commit has come, and is then answered from the first one's row.

Bulk sends, which take longer, claim theirs in `bulk_keys`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import transposed, unnest
from app.core.database import columns_of, interval
from app.core.errors import Invalid
from app.messages.models import IdempotencyKey, Message

KEY_LENGTH = 255
RETRY_AFTER_SECONDS = 2
KEYS_HOLD_FOR = timedelta(hours=24)


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

# Whoever is claiming a key at this moment is not waited for: a wait in the unique index would hold the whole batch.
_CLAIM = text(f"""
    INSERT INTO idempotency_keys (user_id, route, key, request_hash)
    SELECT u.user_id, 'sms', u.key, u.request_hash
    FROM {unnest(*_KEY, IdempotencyKey.request_hash)}
    WHERE pg_try_advisory_xact_lock(hashtextextended(u.key, u.user_id))
    ON CONFLICT (user_id, route, key) DO UPDATE
    SET request_hash = excluded.request_hash, message_ids = NULL, created_at = clock_timestamp()
    WHERE idempotency_keys.created_at <= clock_timestamp() - {interval(KEYS_HOLD_FOR)}
    RETURNING user_id, key
""")  # noqa: S608 - constants

_REMEMBER = text(f"""
    UPDATE idempotency_keys k SET message_ids = ARRAY[u.id], device_id = u.device_id
    FROM {unnest(*_KEY, Message.id, IdempotencyKey.device_id)}
    WHERE k.user_id = u.user_id AND k.route = 'sms' AND k.key = u.key
""")  # noqa: S608 - names of columns


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


def claim(session: Session, hashes: Mapping[Key, bytes]) -> set[Key]:
    """Claim the keys of sends that are about to be written, with the hashes of their requests; the keys that were won.

    Another process was first to claim the others.
    """
    if not hashes:
        return set()
    rows = session.execute(_CLAIM, {**transposed(hashes, "user_id", "key"), "request_hash": list(hashes.values())})
    return {(row.user_id, row.key) for row in rows}


_GIVE_UP = text(f"""
    DELETE FROM idempotency_keys k USING {unnest(*_KEY)}
    WHERE k.user_id = u.user_id AND k.route = 'sms' AND k.key = u.key AND k.message_ids IS NULL
""")  # noqa: S608 - names of columns


def give_up(session: Session, keys: Collection[Key]) -> None:
    """Free the keys that were claimed for sends that are refused after all, so that corrected ones may use them."""
    if keys:
        session.execute(_GIVE_UP, transposed(keys, "user_id", "key"))


def remember(session: Session, told: Mapping[Key, tuple[int, int | None]]) -> None:
    """Write beside the claimed keys which message each stands for, and the phone that its answer names."""
    if told:
        keys, answers = transposed(told, "user_id", "key"), transposed(told.values(), "id", "device_id")
        session.execute(_REMEMBER, keys | answers)
