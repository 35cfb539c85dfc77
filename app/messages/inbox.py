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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.accounts.usage import UsageKind, count
from app.core.bodies import has_too_many_values, is_too_deep, mended
from app.core.database import columns_of
from app.core.errors import BadRequest, Unauthenticated
from app.core.ids import uuid7
from app.core.security import same
from app.devices import hooked, presence, versions
from app.messages.models import Message
from app.messages.segments import segments
from app.messages.views import message_object
from app.webhooks import outbox

LONGEST_EVENT_ID = 64
LONGEST_NUMBER = 32
MOST_SEGMENTS = 32_767

_REFUSED = Counter("smsfleet_hooks_refused", "Posts of phones' events that were refused", ["reason"])


@dataclass(slots=True)
class Post:
    """One post to `/hooks/<secret>`: the bytes as they came, what signs them, and the event read from them, if any."""

    secret: str
    raw: bytes
    timestamp: str
    signature: str
    app_version: str | None = None
    event: Mapping[str, Any] | None = None
    message_id: UUID = field(default_factory=uuid7)


@dataclass(slots=True)
class Inbound:
    """A message that a phone received. `kind` is sms, data (the text is base64 then) or mms."""

    device: RowMapping
    event: str
    event_id: str
    fingerprint: bytes
    message_id: UUID
    kind: str
    message: str | None
    sender: str | None
    recipient: str | None
    sim_slot: int | None
    received_at: datetime | None
    attachments: list[dict[str, Any]] | None


def read_event(raw: bytes) -> Mapping[str, Any] | None:
    """The event in a post's body, None where there is none. Text that cannot be stored is mended, not refused:

    the app would repeat the post for two days and then drop the message.
    """
    if has_too_many_values(raw):
        return None
    try:
        event = json.loads(raw.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or is_too_deep(raw, event):
        return None
    return event


def admit(session: Session, post: Post) -> None:
    """Raise `Unauthenticated` where the post comes from none of our phones; its event need not have been read."""
    if refusal := _stranger(post, hooked.by_secret(session, {post.secret}).get(post.secret)):
        raise refusal


def receive(session: Session, posts: list[Post]) -> Sequence[Exception | None]:
    """Take the events of several posts; the outcome of one is None, `Unauthenticated`, or `BadRequest`."""
    devices = hooked.by_secret(session, {post.secret for post in posts})
    outcomes = [_judge(post, devices.get(post.secret)) for post in posts]
    taken = [
        (post.event, devices[post.secret], post)
        for post, refusal in zip(posts, outcomes, strict=True)
        if refusal is None and post.event is not None
    ]
    if not taken:
        return outcomes
    presence.saw(session, {device["id"] for _, device, _ in taken})
    versions.learn(
        session,
        {
            device["id"]: post.app_version
            for _, device, post in taken
            if post.app_version and post.app_version != device["app_version"]
        },
    )
    inbound = []
    for event, device, post in taken:
        payload = event.get("payload")
        if not isinstance(payload, dict):
            continue
        if message := _inbound(event, payload, device, post.message_id):
            inbound.append(message)
        else:
            hooked.tell(session, device, event["event"], payload)
    _store(session, inbound)
    return outcomes


def _judge(post: Post, device: RowMapping | None) -> Exception | None:
    if refusal := _stranger(post, device):
        return refusal
    return BadRequest("the body must be an event") if post.event is None else None


def _stranger(post: Post, device: RowMapping | None) -> Unauthenticated | None:
    reason = None
    if device is None:
        reason = "unknown"
    elif device["removed"]:
        reason = "removed"
    else:
        signed = post.raw + post.timestamp.encode("latin-1", "replace")
        wanted = hmac.new(device["signing_key"].encode(), signed, hashlib.sha256).hexdigest()
        if not same(wanted.encode(), post.signature.lower().encode("latin-1", "replace")):
            reason = "forged"
    if reason is not None:
        _REFUSED.labels(reason).inc()
        return Unauthenticated()
    return None


def _inbound(
    event: Mapping[str, Any], payload: Mapping[str, Any], device: RowMapping, message_id: UUID
) -> Inbound | None:
    """The message in an event, None where the event brings none."""
    kind: str
    body: str | None
    match event["event"]:
        case "sms:received":
            kind, body = "sms", _text(payload.get("message")) or ""
        case "sms:data-received":
            kind, body = "data", _text(payload.get("data")) or ""
        case "mms:received":
            kind, body = "mms", _text(payload.get("subject"))
        case "mms:downloaded":
            kind, body = "mms", _text(payload.get("body")) or _text(payload.get("subject"))
        case _:
            return None
    sender = _number(payload.get("sender")) or _number(payload.get("phoneNumber"))
    sim = payload.get("simNumber")
    told = [event["event"], sender, body, None if kind != "mms" else _text(payload.get("messageId"))]
    return Inbound(
        device=device,
        event=event["event"],
        event_id=_event_id(event, payload),
        fingerprint=hashlib.sha256(json.dumps(told).encode()).digest(),
        message_id=message_id,
        kind=kind,
        message=body,
        sender=sender,
        recipient=_number(payload.get("recipient")) or device["phone_number"],
        sim_slot=sim - 1 if isinstance(sim, int) and 1 <= sim <= 16 else None,  # noqa: PLR2004 - more than any phone has
        received_at=_moment(payload.get("receivedAt")),
        attachments=_attachments(payload.get("attachments")),
    )


def _event_id(event: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
    """The event's own id; where it has none that can be kept, what stays the same over repetitions."""
    told = _text(event.get("id"))
    if told and len(told) <= LONGEST_EVENT_ID:
        return told
    return hashlib.sha256((told or json.dumps(payload, sort_keys=True)).encode()).hexdigest()


def _text(value: Any) -> str | None:
    return mended(value) if isinstance(value, str) else None


def _number(value: Any) -> str | None:
    found = _text(value)
    return found.strip()[:LONGEST_NUMBER] or None if found else None


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _attachments(value: Any) -> list[dict[str, Any]] | None:
    """Parts of an MMS; of each what has the type it should have."""
    if not isinstance(value, list):
        return None
    return [
        {
            "part_id": part if isinstance(part := item.get("partId"), int) else _text(part),
            "content_type": _text(item.get("contentType")),
            "name": _text(item.get("name")),
            "size": size if isinstance(size := item.get("size"), int) else None,
            "data": _text(item.get("data")),
        }
        for item in value
        if isinstance(item, dict)
    ]


# Posts of one phone take turns, so that one SMS under two ids at the same time is seen as one.
_TURNS = text("""
    SELECT pg_advisory_xact_lock(hashtextextended('inbox', device))
    FROM unnest(CAST(:devices AS bigint[])) AS device
""")
_FIRST = text("""
    INSERT INTO inbound_seen (device_id, event_id, fingerprint, received_at)
    SELECT u.device_id, u.event_id, u.fingerprint, u.received_at
    FROM unnest(CAST(:devices AS bigint[]), CAST(:events AS text[]), CAST(:fingerprints AS bytea[]),
                CAST(:moments AS timestamptz[])) AS u(device_id, event_id, fingerprint, received_at)
    WHERE NOT EXISTS (
        SELECT FROM inbound_seen s WHERE s.device_id = u.device_id AND s.fingerprint = u.fingerprint
           AND s.received_at BETWEEN u.received_at - interval '5 seconds' AND u.received_at + interval '5 seconds')
    ON CONFLICT (device_id, event_id) DO NOTHING
    RETURNING device_id, event_id
""")
_SAME_WITHIN_SECONDS = 5.0

_COLUMNS = {
    "message_id": "uuid",
    "user_id": "bigint",
    "device_id": "bigint",
    "sender_number": "text",
    "recipient_number": "text",
    "message": "text",
    "kind": "text",
    "attachments": "jsonb",
    "sim_slot": "smallint",
    "segments": "smallint",
    "encoding": "text",
    "received_at": "timestamptz",
}
_NAMES = ", ".join(_COLUMNS)
_INSERT = text(f"""
    INSERT INTO messages ({_NAMES}, direction, status, price, created_at, updated_at)
    SELECT {", ".join(f"u.{name}" for name in _COLUMNS if name != "received_at")},
           LEAST(u.received_at, t.now), 'inbound', 'received', 0, t.now, t.now
    FROM unnest({", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _COLUMNS.items())}) AS u({_NAMES}),
         (SELECT clock_timestamp() AS now) t
    ON CONFLICT (message_id) DO UPDATE
    SET message = COALESCE(EXCLUDED.message, messages.message),
        attachments = COALESCE(EXCLUDED.attachments, messages.attachments), updated_at = EXCLUDED.updated_at
    RETURNING {columns_of(Message)}
""")  # noqa: S608 - the names are the constants above


def _store(session: Session, inbound: list[Inbound]) -> None:
    """Keep what was not seen before, or only count it where its owner keeps nothing, and tell the webhooks."""
    if not inbound:
        return
    session.execute(_TURNS, {"devices": sorted({message.device["id"] for message in inbound})})
    now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    new = _unseen(session, inbound, now)
    if not new:
        return
    begun = _complete_notices(session, new, now)
    rows = {message.message_id: _row(message, now) for message in new}
    kept = [rows[message.message_id] for message in new if message.device["keep_inbound"]]
    if kept:
        values = {name: [_value(row[name]) for row in kept] for name in _COLUMNS}
        for row in session.execute(_INSERT, values).mappings():
            rows[row["message_id"]] = dict(row)
    _count(session, begun, now)
    hooked.learn_numbers(session, [(message.device, message.recipient) for message in new])
    _tell(session, new, rows)


def _count(session: Session, new: list[Inbound], now: datetime) -> None:
    day = now.astimezone(UTC).date()
    count(session, [(message.device["user_id"], day, UsageKind.RECEIVED, 1, 0) for message in new])
    hidden = [message for message in new if not message.device["keep_inbound"]]
    count(session, [(message.device["user_id"], day, UsageKind.HIDDEN_RECEIVED, 1, 0) for message in hidden])


# A notice is remembered beside the events themselves, and as long, by the sender; of several the nearest in time is
# the one whose MMS this is.
_NOTICE = "notice:"
_TAKE_NOTICE = text("""
    DELETE FROM inbound_seen WHERE (device_id, event_id) = (
        SELECT device_id, event_id FROM inbound_seen WHERE device_id = :device AND fingerprint = :sender
        ORDER BY abs(extract(epoch FROM received_at - :at)) LIMIT 1)
    RETURNING event_id
""")
_KEEP_NOTICE = text(
    "INSERT INTO inbound_seen (device_id, event_id, fingerprint, received_at) VALUES (:device, :event, :sender, :at)"
)


def _complete_notices(session: Session, new: list[Inbound], now: datetime) -> list[Inbound]:
    """Give each downloaded MMS the id of the message that its notice became; the others are what has come anew."""
    begun, notices = [], []
    for message in new:
        sender = hashlib.sha256(json.dumps(["notice", message.sender]).encode()).digest()
        values = {"device": message.device["id"], "sender": sender, "at": message.received_at or now}
        if message.event == "mms:downloaded" and (found := session.scalar(_TAKE_NOTICE, values)):
            message.message_id = UUID(found.removeprefix(_NOTICE))
            continue
        begun.append(message)
        if message.event == "mms:received":
            notices.append(values | {"event": f"{_NOTICE}{message.message_id}"})
    if notices:
        session.execute(_KEEP_NOTICE, notices)
    return begun


def _unseen(session: Session, inbound: list[Inbound], now: datetime) -> list[Inbound]:
    told: list[Inbound] = []
    for message in inbound:
        if not any(_is_same(message, other, now) for other in told):
            told.append(message)
    first = session.execute(
        _FIRST,
        {
            "devices": [message.device["id"] for message in told],
            "events": [message.event_id for message in told],
            "fingerprints": [message.fingerprint for message in told],
            "moments": [message.received_at or now for message in told],
        },
    )
    found = {(row.device_id, row.event_id) for row in first}
    return [message for message in told if (message.device["id"], message.event_id) in found]


def _is_same(one: Inbound, other: Inbound, now: datetime) -> bool:
    if one.device["id"] != other.device["id"]:
        return False
    if one.event_id == other.event_id:
        return True
    apart = abs(((one.received_at or now) - (other.received_at or now)).total_seconds())
    return one.fingerprint == other.fingerprint and apart <= _SAME_WITHIN_SECONDS


def _row(message: Inbound, now: datetime) -> dict[str, Any]:
    """As a row of `messages`; its number is null unless it is stored."""
    parts, encoding = segments(message.message or "") if message.kind == "sms" else (None, None)
    return {
        "id": None,
        "message_id": message.message_id,
        "user_id": message.device["user_id"],
        "device_id": message.device["id"],
        "sender_number": message.sender,
        "recipient_number": message.recipient,
        "message": message.message,
        "kind": message.kind,
        "attachments": message.attachments,
        "direction": "inbound",
        "status": "received",
        "price": 0,
        "uncertain": False,
        "sim_slot": message.sim_slot,
        "segments": None if parts is None else min(parts, MOST_SEGMENTS),
        "encoding": encoding,
        "received_at": min(message.received_at or now, now),
        "sent_at": None,
        "delivered_at": None,
        "created_at": now,
        "updated_at": now,
    }


def _value(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _tell(session: Session, new: list[Inbound], rows: Mapping[UUID, Mapping[str, Any]]) -> None:
    hooks = outbox.hooks_of(session, sorted({message.device["user_id"] for message in new}))
    events = []
    for message in new:
        user = message.device["user_id"]
        if hooks[user].incoming is not None:
            row = rows[message.message_id]
            data = message_object(row)
            if row["id"] is None:
                # Nobody can ask for what is in an MMS that is not stored.
                data["attachments"] = message.attachments or []
            events.append(outbox.Event(user, "incoming", "incoming", data, row["id"]))
    outbox.write(session, events)
