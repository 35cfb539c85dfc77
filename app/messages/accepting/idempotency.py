"""`Idempotency-Key` on sends: the first answer again, and nothing sent twice, for 24 hours.

A single send claims its key in the transaction that writes its message. A second one with the same key is left for the
next batch, until that commit has come, and is then answered from the first one's row.

A bulk send takes seconds, and nobody should wait for it in a lock. It claims its key in a transaction of its own, under
a lease; the transaction of the work ends by trading the lease for the ids of its messages and whom it left out, and is
rolled back where another request has taken over the key. A process that dies in between leaves a lease that runs out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header
from sqlalchemy import RowMapping, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.core.batching import Later
from app.core.database import columns_of, interval, transaction
from app.core.errors import Conflict, Invalid, Refused
from app.core.refusals import KEY_IN_USE, KEY_USED
from app.messages.models import Message

if TYPE_CHECKING:
    from app.messages.accepting.intake import Asked

KEY_LENGTH = 255
RETRY_AFTER_SECONDS = 2
KEYS_HOLD_FOR = timedelta(hours=24)
# How long a bulk send may take before another request may take over its key.
BULK_LEASE = timedelta(minutes=1)

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="The same key with the same body, within 24 hours, gives the first answer again and sends nothing",
        json_schema_extra={"maxLength": KEY_LENGTH},
    ),
]


def checked(key: str | None) -> str | None:
    """The header's value, none where it is empty. Raises `Invalid` for one that is too long."""
    if key is not None and len(key) > KEY_LENGTH:
        raise Invalid({"idempotency_key": [f"The idempotency key must not be greater than {KEY_LENGTH} characters."]})
    return key or None


_KNOWN = text(f"""
    SELECT k.user_id, k.key, k.request_hash, k.message_ids[1] AS id, k.device_id
    FROM unnest(CAST(:users AS bigint[]), CAST(:keys AS text[])) AS u(user_id, key)
    JOIN idempotency_keys k ON k.user_id = u.user_id AND k.route = 'sms' AND k.key = u.key
    WHERE k.created_at > clock_timestamp() - {interval(KEYS_HOLD_FOR)}
""")  # noqa: S608 - constants

_MESSAGES = text(f"SELECT {columns_of(Message)} FROM messages WHERE id = ANY(:ids)")  # noqa: S608 - constants

# Whoever is claiming a key at this moment is not waited for: a wait in the unique index would hold the whole batch.
_CLAIM = text(f"""
    INSERT INTO idempotency_keys (user_id, route, key, request_hash)
    SELECT u.user_id, 'sms', u.key, u.request_hash
    FROM unnest(CAST(:users AS bigint[]), CAST(:keys AS text[]), CAST(:hashes AS bytea[]))
         AS u(user_id, key, request_hash)
    WHERE pg_try_advisory_xact_lock(hashtextextended(u.key, u.user_id))
    ON CONFLICT (user_id, route, key) DO UPDATE
    SET request_hash = excluded.request_hash, message_ids = NULL, created_at = clock_timestamp()
    WHERE idempotency_keys.created_at <= clock_timestamp() - {interval(KEYS_HOLD_FOR)}
    RETURNING user_id, key
""")  # noqa: S608 - constants

_REMEMBER = text("""
    UPDATE idempotency_keys k SET message_ids = ARRAY[u.id], device_id = u.device_id
    FROM unnest(CAST(:users AS bigint[]), CAST(:keys AS text[]), CAST(:ids AS bigint[]), CAST(:devices AS bigint[]))
         AS u(user_id, key, id, device_id)
    WHERE k.user_id = u.user_id AND k.route = 'sms' AND k.key = u.key
""")


def replay(
    session: Session,
    asked: Sequence["Asked"],
    outcomes: dict[int, Any],
    answer: Callable[[Mapping[str, Any], int], Any],
) -> list["Asked"]:
    """Answer the sends whose key is known; return the others. The same key twice in one batch waits for the next."""
    keyed = [item for item in asked if item.send.idempotency_key is not None]
    if not keyed:
        return list(asked)
    known = {(row.user_id, row.key): row for row in session.execute(_KNOWN, _keys(keyed))}
    messages = _messages(session, [row.id for row in known.values()])
    fresh: list[Asked] = []
    taken: set[tuple[int, str | None]] = set()
    for item in asked:
        key = (item.user.user_id, item.send.idempotency_key)
        if key[1] is None:
            fresh.append(item)
        elif key in known:
            outcomes[item.place] = _first_answer(item, known[key], messages, answer)
        elif key in taken:
            outcomes[item.place] = Later()
        else:
            taken.add(key)
            fresh.append(item)
    return fresh


def _keys(items: Sequence["Asked"]) -> dict[str, list[Any]]:
    return {
        "users": [item.user.user_id for item in items],
        "keys": [item.send.idempotency_key for item in items],
    }


def _messages(session: Session, ids: list[int]) -> dict[int, RowMapping]:
    return {row["id"]: row for row in session.execute(_MESSAGES, {"ids": ids}).mappings()} if ids else {}


def _first_answer(
    item: "Asked",
    known: Any,
    messages: Mapping[int, RowMapping],
    answer: Callable[[Mapping[str, Any], int], Any],
) -> Any:
    if bytes(known.request_hash) != item.send.request_hash:
        return Refused(KEY_USED)
    # The phone as it was told then: routing may have chosen one since.
    return answer({**messages[known.id], "device_id": known.device_id}, known.id)


def claim(session: Session, items: Sequence["Asked"]) -> list["Asked"]:
    """Claim the keys of sends that are about to be written; those whose key another process was first to claim."""
    keyed = [item for item in items if item.send.idempotency_key is not None]
    if not keyed:
        return []
    hashes = [item.send.request_hash for item in keyed]
    won = {(row.user_id, row.key) for row in session.execute(_CLAIM, {**_keys(keyed), "hashes": hashes})}
    return [item for item in keyed if (item.user.user_id, item.send.idempotency_key) not in won]


def remember(session: Session, items: Sequence["Asked"], outcomes: Mapping[int, Any]) -> None:
    """Write beside the claimed keys which message each stands for."""
    keyed = [item for item in items if item.send.idempotency_key is not None]
    if keyed:
        told = [outcomes[item.place] for item in keyed]
        ids, devices = [data["id"] for data in told], [data["device_id"] for data in told]
        session.execute(_REMEMBER, {**_keys(keyed), "ids": ids, "devices": devices})


_CLAIM_BULK = text(f"""
    INSERT INTO idempotency_keys (user_id, route, key, request_hash, lease_until)
    VALUES (:user, 'bulk', :key, :hash, clock_timestamp() + {interval(BULK_LEASE)})
    ON CONFLICT (user_id, route, key) DO UPDATE
    SET request_hash = excluded.request_hash, message_ids = NULL, created_at = clock_timestamp(),
        lease_until = clock_timestamp() + {interval(BULK_LEASE)}
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


def claim_bulk(user_id: int, key: str, request_hash: bytes) -> datetime | Finished:
    """Claim a bulk send's key, in a transaction of its own: the lease, or what the first request with it came to.

    Raises `Refused` where the key stands for another request, `Conflict` where the first one is being worked on.
    """
    values = {"user": user_id, "key": key}
    with transaction() as session:
        lease: datetime | None = session.scalar(_CLAIM_BULK, {**values, "hash": request_hash})
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


def finish_bulk(session: Session, user_id: int, key: str, lease: datetime, done: Finished) -> None:
    """Trade the lease for what came of it. Raises `Conflict` where it ran out and another request took over."""
    values = {"user": user_id, "key": key, "lease": lease, "ids": done.ids, "skipped": done.skipped}
    if session.execute(_FINISH, values).first() is None:
        raise Conflict(KEY_IN_USE, retry_after=RETRY_AFTER_SECONDS)


def release_bulk(user_id: int, key: str, lease: datetime) -> None:
    """Give up the key of a bulk send that was refused or failed, so that a corrected one may use it."""
    with transaction() as session:
        session.execute(_RELEASE, {"user": user_id, "key": key, "lease": lease})
