"""What phones receive: the events that the app posts to its hooks, told once and kept as what they are.

The app signs the bytes it posts with a key that the gateway set, repeats a post until it gets a 200, for two days, and
was seen to post one SMS twice under different ids. So an event is known by its id, and an SMS also by phone, sender,
text and time.

An MMS comes as a notice and again when the phone has downloaded it. Both are asked for, since one that is never
downloaded would else be dropped in silence; the second completes the first. They have no id in common, so the notice is
found by phone and sender.
"""

import hashlib
import hmac
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.accounts.usage import UsageKind, count
from app.core import outbound
from app.core.arrays import columns_named, unnest
from app.core.batching import Later
from app.core.database import columns_of, interval
from app.core.errors import BadRequest, Unauthenticated
from app.core.ids import uuid7
from app.core.security import same
from app.core.task_names import MESSAGES
from app.devices import phone_news, presence, versions
from app.messages import attachments, keywords
from app.messages.attachments import ACCOUNT_FULL, Attachment
from app.messages.models import InboundSeen, Message
from app.messages.states import Status
from app.messages.views import message_object
from app.webhooks import outbox

# How far apart a phone's two reports of one SMS may put it.
SAME_WITHIN = timedelta(seconds=5)

_REFUSED = Counter("smsfleet_hooks_refused", "Posts of phones' events that were refused", ["reason"])


@dataclass(slots=True)
class Inbound:
    """A message that a phone received. `kind` is sms, data (the text is base64 then) or mms."""

    event: str
    event_id: str
    fingerprint: bytes
    kind: str
    message: str | None
    sender: str | None
    recipient: str | None
    sim_slot: int | None
    segments: int | None
    encoding: str | None
    received_at: datetime | None
    attachments: list[Attachment] | None
    message_id: UUID = field(default_factory=uuid7)


@dataclass(slots=True)
class PostContent:
    """What a post told: messages, and news of the phone itself."""

    messages: list[Inbound] = field(default_factory=list)
    news: phone_news.News | None = None


@dataclass(slots=True)
class Post:
    """One post to `/hooks/<secret>`: the bytes as they came, what signs them, and what was read from them, if anything.

    `proven` is the key that their signature was found right with (`prove`); the bytes are not needed then.
    """

    secret: str
    raw: bytes
    timestamp: str
    signature: str
    app_version: str | None = None
    content: PostContent | None = None
    proven: str | None = None

    def size(self) -> int:
        """How much of a batch it takes."""
        parts = (message.attachments for message in self.content.messages) if self.content else ()
        return 1 + sum(map(attachments.size_of, parts)) // _UNIT


# A batch of a thousand holds 16 MiB of attachments.
_UNIT = 16 * 1024


@dataclass(slots=True)
class _Received:
    """A message and the phone that received it."""

    device: RowMapping
    inbound: Inbound
    at: datetime
    message_id: UUID

    @property
    def recipient(self) -> str | None:
        return self.inbound.recipient or self.device["phone_number"]

    @property
    def parts(self) -> list[Attachment]:
        return self.inbound.attachments or []


def prove(post: Post, device: RowMapping | None) -> None:
    """Raise `Unauthenticated` where the post comes from none of our phones; what it tells need not have been read.

    For large posts before the transaction that keeps them, where it would hold up others.
    """
    if refusal := _stranger(post, device):
        raise refusal
    if device is not None:
        post.proven, post.raw = device["signing_key"], b""


def receive(session: Session, posts: list[Post]) -> Sequence[Exception | None]:
    """Take several posts; the outcome of one is None, `Unauthenticated`, `BadRequest`, or `Later`.

    `Later` where another transaction takes posts of the same phone.
    """
    devices = phone_news.by_secret(session, {post.secret for post in posts})
    outcomes: list[Exception | None] = [_check(post, devices.get(post.secret)) for post in posts]
    waits = _busy(
        session,
        {
            devices[post.secret]["id"]
            for post, refusal in zip(posts, outcomes, strict=True)
            if refusal is None and post.content and post.content.messages
        },
    )
    taken: list[tuple[PostContent, RowMapping, Post]] = []
    for place, post in enumerate(posts):
        if outcomes[place] is not None or post.content is None:
            continue
        if devices[post.secret]["id"] in waits:
            outcomes[place] = Later()
        else:
            taken.append((post.content, devices[post.secret], post))
    if not taken:
        return outcomes
    presence.mark_seen(session, {device["id"] for _, device, _ in taken})
    versions.learn(
        session,
        {
            device["id"]: post.app_version
            for _, device, post in taken
            if post.app_version and post.app_version != device["app_version"]
        },
    )
    for content, device, _ in taken:
        if content.news is not None:
            phone_news.record(session, device, content.news)
    _store(session, [(device, message) for content, device, _ in taken for message in content.messages])
    return outcomes


def _check(post: Post, device: RowMapping | None) -> Exception | None:
    if refusal := _stranger(post, device):
        return refusal
    return BadRequest("the body must be an event") if post.content is None else None


def _stranger(post: Post, device: RowMapping | None) -> Unauthenticated | None:
    reason = None
    if device is None:
        reason = "unknown"
    elif device["removed"]:
        reason = "removed"
    elif not _is_signed(post, device["signing_key"]):
        reason = "forged"
    if reason is not None:
        _REFUSED.labels(reason).inc()
        return Unauthenticated()
    return None


def _is_signed(post: Post, key: str) -> bool:
    if post.proven is not None:
        return post.proven == key
    signed = post.raw + post.timestamp.encode("latin-1", "replace")
    wanted = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
    return same(wanted.encode(), post.signature.lower().encode("latin-1", "replace"))


# Posts of one phone take turns, so that one SMS under two ids at the same time is seen as one. Nobody waits for a turn:
# a phone whose large post is being kept would hold up all who share the batch.
_BUSY = text(f"""
    SELECT device_id FROM {unnest(InboundSeen.device_id)}
    WHERE NOT pg_try_advisory_xact_lock(hashtextextended('inbox', device_id))
""")  # noqa: S608 - a name of a column


def _busy(session: Session, devices: Collection[int]) -> set[int]:
    """Those of the phones of which another transaction takes posts; the others' turn it is until this one ends."""
    return set(session.scalars(_BUSY, {"device_id": sorted(devices)})) if devices else set()


_SEEN = ("device_id", "event_id", "fingerprint", "received_at")
_FIRST = text(f"""
    INSERT INTO inbound_seen ({", ".join(_SEEN)})
    SELECT * FROM {unnest(*columns_named(InboundSeen, _SEEN))}
    WHERE NOT EXISTS (
        SELECT FROM inbound_seen s WHERE s.device_id = u.device_id AND s.fingerprint = u.fingerprint
           AND s.received_at BETWEEN u.received_at - {interval(SAME_WITHIN)}
                                 AND u.received_at + {interval(SAME_WITHIN)})
    ON CONFLICT (device_id, event_id) DO NOTHING
    RETURNING device_id, event_id
""")  # noqa: S608 - constants

_STORED = (
    Message.message_id,
    Message.user_id,
    Message.device_id,
    Message.sender_number,
    Message.recipient_number,
    Message.message,
    Message.kind,
    Message.attachments,
    Message.sim_slot,
    Message.segments,
    Message.encoding,
)
_NAMES = [column.key for column in _STORED]
_INSERT = text(f"""
    INSERT INTO messages ({", ".join(_NAMES)}, received_at, direction, status, price, created_at, updated_at)
    SELECT {", ".join(f"u.{name}" for name in _NAMES)}, LEAST(u.received_at, t.now),
           'inbound', '{Status.RECEIVED}', 0, t.now, t.now
    FROM {unnest(*_STORED, Message.received_at)}, (SELECT clock_timestamp() AS now) t
    ON CONFLICT (message_id) DO UPDATE
    SET message = COALESCE(excluded.message, messages.message),
        attachments = COALESCE(excluded.attachments, messages.attachments), updated_at = excluded.updated_at
    RETURNING {columns_of(Message)}
""")  # noqa: S608 - the names are the constants above


def _store(session: Session, told: list[tuple[RowMapping, Inbound]]) -> None:
    """Keep what was not seen before, or only count it where its owner keeps nothing, and tell the webhooks."""
    if not told:
        return
    now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    unseen = _unseen(
        session,
        [_Received(device, inbound, inbound.received_at or now, inbound.message_id) for device, inbound in told],
    )
    new, begun = _match_notices(session, unseen)
    if not new:
        return
    kept = [message for message in new if message.device["keep_inbound"]]
    _make_room(session, kept)
    rows = {message.message_id: _row(message, now) for message in new}
    if kept:
        wanted = [rows[message.message_id] for message in kept]
        values = {name: [_value(row[name]) for row in wanted] for name in (*_NAMES, "received_at")}
        for row in session.execute(_INSERT, values).mappings():
            rows[row["message_id"]] = dict(row)
    for message in kept:
        if attachments.size_of(message.parts):
            attachments.keep(session, message.device["user_id"], rows[message.message_id]["id"], message.parts)
    _count(session, begun, now)
    phone_news.learn_numbers(session, [(message.device, message.recipient) for message in new])
    _write_events(session, new, rows)
    keywords.apply(session, [_heard(message, rows[message.message_id]["id"]) for message in new])


def _heard(message: _Received, number: int | None) -> keywords.InboundText:
    inbound = message.inbound
    words = None if inbound.kind == "data" else inbound.message
    return keywords.InboundText(message.device, inbound.sender, words, inbound.sim_slot, number, message.at)


def _make_room(session: Session, kept: list[_Received]) -> None:
    """Leave out what is in the parts of an MMS where its account has no room for it."""
    with_parts = [message for message in kept if attachments.size_of(message.inbound.attachments)]
    room = attachments.room(session, {message.device["user_id"] for message in with_parts})
    for message in with_parts:
        user, size = message.device["user_id"], attachments.size_of(message.inbound.attachments)
        if size <= room[user]:
            room[user] -= size
        else:
            parts = [replace(part, data=None, omitted=part.omitted or ACCOUNT_FULL) for part in message.parts]
            message.inbound = replace(message.inbound, attachments=parts)


def _count(session: Session, new: list[_Received], now: datetime) -> None:
    day = now.astimezone(UTC).date()
    count(session, [(message.device["user_id"], day, UsageKind.RECEIVED, 1, 0) for message in new])
    hidden = [message for message in new if not message.device["keep_inbound"]]
    count(session, [(message.device["user_id"], day, UsageKind.HIDDEN_RECEIVED, 1, 0) for message in hidden])


# A notice is remembered beside the events themselves, and as long, by the sender; of several the nearest in time is
# the one whose MMS this is. An MMS that came without its notice is remembered likewise: the app repeats each post by
# itself, so the notice may be the later of the two. Of the two times one may be the network's.
_NOTICE, _DOWNLOAD = "notice", "download"
NOTICED_WITHIN = timedelta(minutes=10)
_TAKE = text("""
    DELETE FROM inbound_seen WHERE (device_id, event_id) = (
        SELECT device_id, event_id FROM inbound_seen
        WHERE device_id = :device AND fingerprint = :sender
          AND COALESCE(received_at >= CAST(:at AS timestamptz) - CAST(:within AS interval), true)
        ORDER BY abs(EXTRACT(epoch FROM received_at - :at)) LIMIT 1)
    RETURNING event_id
""")
_KEEP = text(
    "INSERT INTO inbound_seen (device_id, event_id, fingerprint, received_at) VALUES (:device, :event, :sender, :at)"
)


def _match_notices(session: Session, new: list[_Received]) -> tuple[list[_Received], list[_Received]]:
    """What there is to tell, and what of it has come anew.

    A downloaded MMS has the id of the message that its notice became; a notice of what was downloaded tells nothing.
    """
    told: list[_Received] = []
    begun: list[_Received] = []
    unmatched = []
    for message in new:
        if message.inbound.event == "mms:downloaded":
            if found := session.scalar(_TAKE, _part(message, _NOTICE) | {"within": None}):
                message.message_id = UUID(found.removeprefix(f"{_NOTICE}:"))
                told.append(message)
                continue
            unmatched.append(_part(message, _DOWNLOAD))
        elif message.inbound.event == "mms:received":
            if session.scalar(_TAKE, _part(message, _DOWNLOAD) | {"within": NOTICED_WITHIN}):
                continue
            unmatched.append(_part(message, _NOTICE))
        told.append(message)
        begun.append(message)
    if unmatched:
        session.execute(_KEEP, unmatched)
    return told, begun


def _part(message: _Received, name: str) -> dict[str, Any]:
    """A notice or a download of an MMS, as it is remembered."""
    return {
        "device": message.device["id"],
        "event": f"{name}:{message.message_id}",
        "sender": hashlib.sha256(json.dumps([name, message.inbound.sender]).encode()).digest(),
        "at": message.at,
    }


def _unseen(session: Session, received: list[_Received]) -> list[_Received]:
    told: list[_Received] = []
    for message in received:
        if not any(_is_same(message, other) for other in told):
            told.append(message)
    first = session.execute(
        _FIRST,
        {
            "device_id": [message.device["id"] for message in told],
            "event_id": [message.inbound.event_id for message in told],
            "fingerprint": [message.inbound.fingerprint for message in told],
            "received_at": [message.at for message in told],
        },
    )
    found = {(row.device_id, row.event_id) for row in first}
    return [message for message in told if (message.device["id"], message.inbound.event_id) in found]


def _is_same(one: _Received, other: _Received) -> bool:
    if one.device["id"] != other.device["id"]:
        return False
    if one.inbound.event_id == other.inbound.event_id:
        return True
    apart = abs(one.at - other.at)
    return one.inbound.fingerprint == other.inbound.fingerprint and apart <= SAME_WITHIN


def _row(message: _Received, now: datetime) -> dict[str, Any]:
    """As a row of `messages`; its number is null unless it is stored."""
    inbound = message.inbound
    return {
        "id": None,
        "message_id": message.message_id,
        "user_id": message.device["user_id"],
        "device_id": message.device["id"],
        "sender_number": inbound.sender,
        "recipient_number": message.recipient,
        "message": inbound.message,
        "kind": inbound.kind,
        "attachments": None if inbound.attachments is None else [part.metadata() for part in inbound.attachments],
        "direction": "inbound",
        "status": "received",
        "price": 0,
        "uncertain": False,
        "sim_slot": inbound.sim_slot,
        "segments": inbound.segments,
        "encoding": inbound.encoding,
        "received_at": min(message.at, now),
        "sent_at": None,
        "delivered_at": None,
        "created_at": now,
        "updated_at": now,
    }


def _value(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _write_events(session: Session, new: list[_Received], rows: Mapping[UUID, Mapping[str, Any]]) -> None:
    users = sorted({message.device["user_id"] for message in new})
    outbound.announce(session, users, MESSAGES)
    hooks = outbox.hooks_of(session, users)
    events = []
    for message in new:
        user = message.device["user_id"]
        if hooks[user].incoming is not None:
            row = rows[message.message_id]
            data = message_object(row)
            if row["id"] is None:
                # Nobody can ask for what is in an MMS that is not stored.
                data["attachments"] = [part.metadata() | {"data": part.data} for part in message.parts]
            events.append(outbox.WebhookEvent(user, "incoming", "incoming", data, row["id"]))
    outbox.write(session, events)
