"""`Idempotency-Key` on bulk sends.

A bulk send takes seconds, and nobody should wait for it in a lock. It claims its key in a transaction of its own, under
a lease; the transaction of the work ends by trading the lease for the ids of its messages and whom it left out, and is
rolled back where another request has taken over the key. A process that dies in between leaves a lease that runs out.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.core.database import interval, transaction
from app.core.errors import Conflict, Refused
from app.core.refusals import KEY_IN_USE, KEY_USED
from app.messages.accepting.idempotency import RETRY_AFTER_SECONDS
from app.messages.storing import KEYS_HOLD_FOR

# How long a bulk send may take before another request may take over its key.
LEASE = timedelta(minutes=1)

_CLAIM = text(f"""
    INSERT INTO idempotency_keys (user_id, route, key, request_hash, lease_until)
    VALUES (:user, 'bulk', :key, :hash, clock_timestamp() + {interval(LEASE)})
    ON CONFLICT (user_id, route, key) DO UPDATE
    SET request_hash = excluded.request_hash, message_ids = NULL, created_at = clock_timestamp(),
        lease_until = clock_timestamp() + {interval(LEASE)}
    WHERE idempotency_keys.created_at <= clock_timestamp() - {interval(KEYS_HOLD_FOR)}
       OR (idempotency_keys.message_ids IS NULL AND idempotency_keys.lease_until <= clock_timestamp()
           AND idempotency_keys.request_hash = excluded.request_hash)
    RETURNING lease_until
""")  # noqa: S608 - constants

_STANDING = text("""
    SELECT request_hash, message_ids, skipped FROM idempotency_keys
    WHERE user_id = :user AND route = 'bulk' AND key = :key
""")

_FINISH = text("""
    UPDATE idempotency_keys SET message_ids = :ids, skipped = :skipped, lease_until = NULL
    WHERE user_id = :user AND route = 'bulk' AND key = :key AND lease_until = :lease
    RETURNING key
""").bindparams(bindparam("skipped", type_=JSONB))

_RELEASE = text("""
    DELETE FROM idempotency_keys WHERE user_id = :user AND route = 'bulk' AND key = :key AND lease_until = :lease
""")


@dataclass(frozen=True, slots=True)
class Finished:
    """What a bulk send came to: the ids of its messages, and the recipients that were left out."""

    ids: list[int]
    skipped: list[dict[str, Any]]


def claim(user_id: int, key: str, request_hash: bytes) -> datetime | Finished:
    """Claim a bulk send's key, in a transaction of its own: the lease, or what the first request with it came to.

    Raises `Refused` where the key stands for another request, `Conflict` where the first one is being worked on.
    """
    values = {"user": user_id, "key": key}
    with transaction() as session:
        lease: datetime | None = session.scalar(_CLAIM, {**values, "hash": request_hash})
        if lease is not None:
            return lease
        standing = session.execute(_STANDING, values).one_or_none()
    if standing is None:  # Given up between the two statements.
        raise Conflict(KEY_IN_USE, retry_after=RETRY_AFTER_SECONDS)
    if bytes(standing.request_hash) != request_hash:
        raise Refused(KEY_USED)
    if standing.message_ids is None:
        raise Conflict(KEY_IN_USE, retry_after=RETRY_AFTER_SECONDS)
    return Finished(list(standing.message_ids), standing.skipped)


def finish(session: Session, user_id: int, key: str, lease: datetime, done: Finished) -> None:
    """Trade the lease for what came of it. Raises `Conflict` where it ran out and another request took over."""
    values = {"user": user_id, "key": key, "lease": lease, "ids": done.ids, "skipped": done.skipped}
    if session.execute(_FINISH, values).first() is None:
        raise Conflict(KEY_IN_USE, retry_after=RETRY_AFTER_SECONDS)


def release(user_id: int, key: str, lease: datetime) -> None:
    """Give up the key of a bulk send that was refused or failed, so that a corrected one may use it."""
    with transaction() as session:
        session.execute(_RELEASE, {"user": user_id, "key": key, "lease": lease})
