"""The one writer of messages and of the queue rows that say they still wait.

New messages come few at a time, in one statement that also counts them (`insert_few`), or by the hundred thousand, by
COPY (`copy_many`). What `transitions` decided about those that are there is written by the functions below.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Integer, TextClause, text
from sqlalchemy.orm import Session

from app.accounts import usage
from app.accounts.usage import UsageKind
from app.core import metrics, outbound
from app.core.arrays import arrays_of, by_key, columns_named, copy_rows, transposed, unnest
from app.core.database import interval
from app.core.lanes import Lane
from app.core.settings import get_settings
from app.core.task_names import MESSAGES
from app.devices import figures
from app.messages.models import CampaignDelta, IdempotencyKey, Message, MessageRow, QueuedRow, QueueEntry
from app.messages.states import Stage, Status
from app.optouts.consent import is_opted_out


class NewMessage(NamedTuple):
    """An outbound message to be stored: columns of `messages`, for how many seconds it is valid once it may go, until
    when it is held, when its sender wants it to go, and when the allowed hours end (for bulk only).
    """

    message_id: UUID
    user_id: int
    device_id: int | None
    device_named: bool
    recipient_number: str
    message: str
    price: Decimal
    my_id: str | None
    callback_url: str | None
    sim_slot: int | None
    segments: int
    encoding: str
    campaign_id: int | None
    ignores_opt_out: bool = False
    validity: int | None = None
    due_at: datetime | None = None
    scheduled_at: datetime | None = None
    closes_at: datetime | None = None


class Claim(NamedTuple):
    """An `Idempotency-Key` that a send claims for its user, and the hash of its request."""

    key: str
    request_hash: bytes


# What a key stands for is not asked again for so long.
KEYS_HOLD_FOR = timedelta(hours=24)

_NEW = NewMessage._fields[:-4]  # the others are no columns, or seldom there
_ASKED = (*columns_named(Message, _NEW), Message.scheduled_at, QueueEntry.due_at)
_CLAIMING = (IdempotencyKey.key, IdempotencyKey.request_hash)
# A key names its message from the start, so this draws the message's number. Whoever is claiming a key at this moment
# is not waited for: a wait in the unique index would hold the whole batch.
_CLAIMED = f"""
    claimed AS (
        INSERT INTO idempotency_keys (user_id, route, key, request_hash, message_ids, device_id)
        SELECT user_id, 'sms', key, request_hash, ARRAY[nextval('messages_id_seq')], device_id
        FROM asked
        WHERE key IS NOT NULL AND NOT opted_out AND pg_try_advisory_xact_lock(hashtextextended(key, user_id))
        ON CONFLICT (user_id, route, key) DO UPDATE
        SET request_hash = excluded.request_hash, message_ids = excluded.message_ids, device_id = excluded.device_id,
            created_at = clock_timestamp()
        WHERE idempotency_keys.created_at <= clock_timestamp() - {interval(KEYS_HOLD_FOR)}
        RETURNING user_id, key, message_ids[1] AS id
    ),
"""  # noqa: S608 - a constant


def _insert(asked: str, claimed: str, number: str, which: str) -> TextClause:
    return text(f"""
        WITH asked AS MATERIALIZED (
            SELECT u.*, t.now,
                   NOT u.ignores_opt_out AND {is_opted_out("u.user_id", "u.recipient_number")} AS opted_out
            FROM {asked}, (SELECT clock_timestamp() AS now) t
        ), {claimed} made AS (
            INSERT INTO messages (id, {", ".join(_NEW)}, direction, status, lane, sim_named, valid_until,
                                  scheduled_at, created_at, updated_at, routed_at)
            SELECT {number}, {", ".join(f"u.{name}" for name in _NEW)}, 'outbound', '{Status.PENDING}', {Lane.SINGLE},
                   u.sim_slot IS NOT NULL, COALESCE(u.due_at, u.now) + make_interval(secs => u.validity),
                   u.scheduled_at, u.now, u.now,
                   CASE WHEN u.device_id IS NOT NULL THEN u.now END
            FROM asked u {which} NOT u.opted_out
            ON CONFLICT (message_id) DO NOTHING
            RETURNING id, message_id, user_id, device_id, device_named, sim_slot, campaign_id, price, valid_until,
                      created_at
        ), queued AS (
            INSERT INTO message_queue (message_id, user_id, device_id, stage, lane, named, sim_slot, campaign_id,
                                       due_at, valid_until)
            SELECT m.id, m.user_id, COALESCE(m.device_id, 0),
                   CASE WHEN u.due_at IS NULL THEN {Stage.WAITING} ELSE {Stage.HELD} END, {Lane.SINGLE},
                   m.device_named, m.sim_slot, m.campaign_id, u.due_at, m.valid_until
            FROM made m JOIN asked u ON u.message_id = m.message_id
        ), counted AS (
            INSERT INTO usage_deltas (user_id, day, kind, n, amount)
            SELECT user_id, CAST(created_at AT TIME ZONE 'UTC' AS date), '{UsageKind.ACCEPTED}', count(*), sum(price)
            FROM made GROUP BY user_id, CAST(created_at AT TIME ZONE 'UTC' AS date)
        )
        SELECT a.message_id, m.id, m.device_id, a.opted_out
        FROM asked a LEFT JOIN made m ON m.message_id = a.message_id
    """)  # noqa: S608 - names of columns and of states


_DRAWN = "nextval('messages_id_seq')"
_INSERT_FEW = _insert(unnest(*_ASKED, validity=Integer()), "", _DRAWN, "WHERE")
_INSERT_WITH_KEYS = _insert(
    unnest(*_ASKED, *_CLAIMING, validity=Integer()),
    _CLAIMED,
    f"COALESCE(c.id, {_DRAWN})",
    "LEFT JOIN claimed c ON c.user_id = u.user_id AND c.key = u.key WHERE (u.key IS NULL OR c.id IS NOT NULL) AND",
)
_PRESENT = text("SELECT id, message_id, device_id FROM messages WHERE message_id = ANY(:ids)")


class Place(NamedTuple):
    """The number of a stored message, and its phone."""

    id: int
    device_id: int | None


class Stored(NamedTuple):
    """What became of new messages: where those that are stored stand, and those whose recipients have opted out.

    The others' keys were not to be had: each stands for a message, or is being claimed at this moment.
    """

    places: dict[UUID, Place]
    opted_out: set[UUID]


def insert_few(session: Session, messages: Sequence[NewMessage], claims: Mapping[UUID, Claim] | None = None) -> Stored:
    """Store single sends and count them, skipping those that are there already.

    Those that `claims` names are stored only where they get their keys, which stand for them from then on.
    """
    parameters = dict(zip(NewMessage._fields, map(list, zip(*messages, strict=True)), strict=True))
    if claims:
        claimed = [claims.get(new.message_id, (None, None)) for new in messages]
        parameters |= transposed(claimed, "key", "request_hash")
    rows = session.execute(_INSERT_WITH_KEYS if claims else _INSERT_FEW, parameters).all()
    places = {row.message_id: Place(row.id, row.device_id) for row in rows if row.id is not None}
    metrics.count(session, UsageKind.ACCEPTED, len(places))
    opted_out = {row.message_id for row in rows if row.opted_out}
    if len(places) < len(messages):
        present = session.execute(_PRESENT, {"ids": parameters["message_id"]})
        places |= {row.message_id: Place(row.id, row.device_id) for row in present}
    outbound.announce(session, parameters["user_id"], MESSAGES)
    return Stored(places, opted_out - places.keys())


# The other columns that a message begins with, and a queue row as it begins, in the order of the tuples below: by name
# they would cost a bulk a fifth more.
_MADE = (
    Message.id,
    Message.direction,
    Message.status,
    Message.lane,
    Message.sim_named,
    Message.valid_until,
    Message.scheduled_at,
    Message.routed_at,
    Message.created_at,
    Message.updated_at,
)
_MESSAGE_COLUMNS = (*columns_named(Message, _NEW), *_MADE)
_ENTRY_COLUMNS = (
    QueueEntry.message_id,
    QueueEntry.user_id,
    QueueEntry.device_id,
    QueueEntry.stage,
    QueueEntry.lane,
    QueueEntry.named,
    QueueEntry.sim_slot,
    QueueEntry.campaign_id,
    QueueEntry.due_at,
    QueueEntry.closes_at,
    QueueEntry.since,
    QueueEntry.valid_until,
)
_IDS = text("SELECT nextval('messages_id_seq') FROM generate_series(1, :n)")


def copy_many(session: Session, messages: Sequence[NewMessage]) -> list[int]:
    """Store bulk messages, count them, and return the number of each, in their order."""
    now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    ids: list[int] = list(session.scalars(_IDS, {"n": len(messages)}))
    queued: list[tuple[Any, ...]] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        status, lane = Status.PENDING, Lane.BULK
        for number, new in zip(ids, messages, strict=True):
            device, named, sim = new.device_id, new.device_named, new.sim_slot
            until = None if new.validity is None else (new.due_at or now) + timedelta(seconds=new.validity)
            stage, campaign, due_at = Stage.WAITING if new.due_at is None else Stage.HELD, new.campaign_id, new.due_at
            place = (number, new.user_id, device or 0, stage, lane, named, sim, campaign)
            queued.append((*place, due_at, new.closes_at, now, until))
            routed_at = None if device is None else now
            begun = (number, "outbound", status, lane, sim is not None, until, new.scheduled_at, routed_at, now, now)
            yield (*new[:-4], *begun)

    copy_rows(session, _MESSAGE_COLUMNS, rows())
    copy_rows(session, _ENTRY_COLUMNS, queued)
    today = now.astimezone(UTC).date()
    for user, group in groupby(messages, key=attrgetter("user_id")):
        prices = [new.price for new in group]
        usage.count(session, [(user, today, UsageKind.ACCEPTED, len(prices), sum(prices, Decimal()))])
        outbound.announce(session, [user], MESSAGES)
    return ids


_WRITTEN = (
    Message.status,
    Message.device_id,
    Message.attempt,
    Message.left_attempt,
    Message.sim_slot,
    Message.error_message,
    Message.uncertain,
    Message.failed_by,
    Message.counted_on,
    Message.valid_until,
    Message.routed_at,
    Message.released_at,
    Message.accepted_at,
    Message.sent_at,
    Message.delivered_at,
    Message.failed_at,
    Message.cancelled_at,
    Message.updated_at,
    Message.deleted_at,
)


class CampaignKey(NamedTuple):
    """What is counted of a campaign: a result at a phone, 0 for none, with the code of its reason where it failed."""

    campaign_id: int
    device_id: int
    result: str
    reason: str


_CAMPAIGN_DELTA = {f"campaign_{name}": getattr(CampaignDelta, name) for name in (*CampaignKey._fields, "n")}
_OF_CAMPAIGNS = f"""
    INSERT INTO campaign_deltas ({", ".join(CampaignKey._fields)}, n, minute)
    SELECT u.*, date_trunc('minute', clock_timestamp()) FROM {unnest(**_CAMPAIGN_DELTA)}
"""  # noqa: S608 - names of columns
_UPDATE = text(f"""
    WITH counted AS ({figures.INSERT}), of_campaigns AS ({_OF_CAMPAIGNS}), used AS ({usage.INSERT}),
    dequeued AS (DELETE FROM message_queue WHERE message_id = ANY(:left_queue))
    UPDATE messages m SET {", ".join(f"{column.key} = u.{column.key}" for column in _WRITTEN)}
    FROM {unnest(Message.id, *_WRITTEN)} WHERE m.id = u.id
""")  # noqa: S608 - names of columns


def update(
    session: Session,
    rows: Sequence[MessageRow],
    results: Mapping[figures.Key, int],
    of_campaigns: Mapping[CampaignKey, int],
    used: Iterable[usage.Delta],
    left_queue: Sequence[int],
) -> None:
    """Write the messages, and with them what phones, campaigns and accounts count and who leaves the queue, in one
    statement.
    """
    if rows:
        counted = transposed([(*key, n) for key, n in of_campaigns.items() if n], *_CAMPAIGN_DELTA)
        for (_, _, _, kind, detail), n in results.items():
            metrics.count(session, kind, n, detail if kind == figures.Kind.FAILED else "")
        counted |= figures.parameters(results) | usage.parameters(session, used)
        written = arrays_of(rows, Message.id, *_WRITTEN)
        session.execute(_UPDATE, {**written, **counted, "left_queue": left_queue})
        outbound.announce(session, {row["user_id"] for row in rows}, MESSAGES)


_ACCEPT = text(f"""
    UPDATE message_queue SET stage = {Stage.ACCEPTED}, accepted_at = :now,
        released_at = COALESCE(released_at, :now), valid_until = COALESCE(valid_until, :until)
    WHERE message_id = ANY(:ids)
""")  # noqa: S608 - a constant


def accept(session: Session, message_ids: Collection[int], now: datetime) -> None:
    """The phone has said that it has them."""
    if message_ids:
        until = now + get_settings().message_validity
        session.execute(_ACCEPT, {"ids": sorted(message_ids), "now": now, "until": until})


def recall(session: Session, message_ids: Sequence[int]) -> None:
    """Ask the phone for them; at the next pull again, since one that never got a message says so only then."""
    if message_ids:
        session.execute(
            text("UPDATE message_queue SET cancelling = true, offered_at = NULL WHERE message_id = ANY(:ids)"),
            {"ids": message_ids},
        )


# What comes to wait again while its campaign is paused. The lock is for who lets the campaign go: they wait for those
# who saw it held, and find what these wrote.
_WAITING_OR_HELD = (
    f"CASE WHEN EXISTS (SELECT FROM held_campaigns h WHERE h.campaign_id = {{}} FOR KEY SHARE) THEN {Stage.HELD}"
    f" ELSE {Stage.WAITING} END"
)
_REROUTED = (QueueEntry.message_id, QueueEntry.device_id, QueueEntry.sim_slot, QueueEntry.valid_until)
_REROUTE = text(f"""
    UPDATE message_queue q
    SET stage = {_WAITING_OR_HELD.format("q.campaign_id")}, device_id = u.device_id, since = clock_timestamp(),
        sim_slot = u.sim_slot, valid_until = u.valid_until, released_at = NULL, offered_at = NULL, accepted_at = NULL
    FROM {unnest(*_REROUTED)} WHERE {by_key(QueueEntry.message_id)}
""")  # noqa: S608 - names of columns


def reroute(session: Session, queued: Sequence[QueuedRow]) -> None:
    """Let the queue rows wait for another phone."""
    if queued:
        session.execute(_REROUTE, arrays_of(queued, *_REROUTED))


_REQUEUED = (
    Message.id,
    Message.user_id,
    Message.device_id,
    Message.lane,
    Message.device_named,
    Message.sim_slot,
    Message.campaign_id,
    Message.valid_until,
    Message.scheduled_at,
)
_IS_TO_COME = "u.scheduled_at > clock_timestamp()"
_ENQUEUE = text(f"""
    INSERT INTO message_queue (message_id, user_id, device_id, stage, lane, named, sim_slot, campaign_id, due_at,
                               valid_until)
    SELECT id, user_id, COALESCE(device_id, 0),
           CASE WHEN {_IS_TO_COME} THEN {Stage.HELD} ELSE {_WAITING_OR_HELD.format("u.campaign_id")} END,
           lane, device_named, sim_slot, campaign_id, CASE WHEN {_IS_TO_COME} THEN u.scheduled_at END, valid_until
    FROM {unnest(*_REQUEUED)}
""")  # noqa: S608 - names of columns


_CLOSING = (QueueEntry.message_id, QueueEntry.closes_at)
_CLOSE = text(f"""
    UPDATE message_queue q SET closes_at = u.closes_at FROM {unnest(*_CLOSING)}
    WHERE {by_key(QueueEntry.message_id)} AND q.due_at IS NULL
""")  # noqa: S608 - names of columns


def close(session: Session, closings: Mapping[int, datetime]) -> None:
    """Let what waits leave the line again then, to be evaluated by the allowed hours."""
    if closings:
        session.execute(_CLOSE, transposed(list(closings.items()), *(column.key for column in _CLOSING)))


_LIMITED = unnest(QueueEntry.message_id, validity=Integer())
_LIMIT = text(f"""
    WITH limited AS (
        UPDATE message_queue q SET valid_until = clock_timestamp() + make_interval(secs => u.validity)
        FROM {_LIMITED} WHERE {by_key(QueueEntry.message_id)}
        RETURNING q.message_id, q.valid_until
    )
    UPDATE messages m SET valid_until = limited.valid_until FROM limited WHERE m.id = limited.message_id
""")  # noqa: S608 - names of columns


def limit(session: Session, validities: Mapping[int, int]) -> None:
    """Let what waits be valid for so many seconds from now on. The caller has locked it."""
    if validities:
        session.execute(_LIMIT, transposed(list(validities.items()), "message_id", "validity"))


def enqueue(session: Session, rows: Sequence[MessageRow]) -> None:
    """Queue rows for messages that are to be sent; `device_id` null means that a phone is still to be chosen."""
    session.execute(_ENQUEUE, arrays_of(rows, *_REQUEUED))
