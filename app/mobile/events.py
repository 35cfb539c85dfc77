"""JSON of the phone protocol: what the app posts to its hooks, read into messages and news of the phone.

All of it happens before the transaction that keeps it, which is shared with other phones. Each field has a length and
is cut to it, never refused: the app would repeat the post for two days and then drop the message.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from app.core.bodies import OFFLOAD_BYTES, has_too_many_values, is_too_deep, sanitize
from app.devices import sims
from app.devices.phone_news import News
from app.messages.attachments import Attachment, limited
from app.messages.inbox import Inbound, PostContent
from app.messages.segments import segments
from app.mobile.dates import read_date

MAX_EVENT_ID_LENGTH = 64
MAX_NUMBER_LENGTH = 32
# An SMS of 255 parts has 39,015 characters.
MAX_TEXT_LENGTH = 100_000
MAX_NAME_LENGTH = 255
MAX_VALUES = 200_000
MAX_BATCH = 1000
MAX_SEGMENTS = 32_767
_MAX_SIM_NUMBER = 16

_BATCHES = {
    "sms:batch:received": "sms:received",
    "sms:batch:data-received": "sms:data-received",
    "mms:batch:received": "mms:received",
    "mms:batch:downloaded": "mms:downloaded",
}

log = structlog.get_logger(__name__)


def read(raw: bytes) -> PostContent | None:
    """What a post tells, None where it is no event. Text that cannot be stored is mended."""
    if has_too_many_values(raw, MAX_VALUES):
        return None
    try:
        event = json.loads(_decoded(raw))
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or is_too_deep(raw, event):
        return None
    payload = event.get("payload")
    if not isinstance(payload, dict):
        return PostContent()
    messages = [message for item in _items(event, payload) if (message := _message(*item))]
    return PostContent(messages, _news(event["event"], payload))


def _decoded(raw: bytes) -> str:
    """The text of a post. The app writes UTF-8; to replace each of many bytes that are none would take seconds."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace") if len(raw) <= OFFLOAD_BYTES else raw.decode("latin-1")


def _items(event: Mapping[str, Any], payload: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, id and payload of each event in a post: itself, or those of a batch."""
    name = event["event"]
    event_id = _event_id(event, payload)
    if name not in _BATCHES:
        yield name, event_id, payload
        return
    items = payload.get("messages")
    for place, item in enumerate(items[:MAX_BATCH] if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield _BATCHES[name], hashlib.sha256(f"{event_id} {place}".encode()).hexdigest(), item


def _event_id(event: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
    """The event's own id; where it has none that can be kept, what stays the same over repetitions."""
    told = event.get("id")
    if isinstance(told, str) and 0 < len(told) <= MAX_EVENT_ID_LENGTH and (kept := sanitize(told)):
        return kept
    known = told if told and isinstance(told, str) else json.dumps(payload, sort_keys=True)
    return hashlib.sha256(known.encode("utf-8", "surrogatepass")).hexdigest()


def _message(name: str, event_id: str, payload: Mapping[str, Any]) -> Inbound | None:
    """The message in an event, None where the event brings none."""
    kind: str
    body: str | None
    match name:
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
    slot = sim - 1 if isinstance(sim, int) and 1 <= sim <= _MAX_SIM_NUMBER else None
    parts, encoding = segments(body or "") if kind == "sms" else (None, None)
    # The app's own id of an SMS is a hash of its sender, text and SIM, from 1.66.2 on also of its date.
    fingerprint = [name, sender, body, slot, _text(payload.get("messageId"), MAX_NAME_LENGTH)]
    return Inbound(
        event=name,
        event_id=event_id,
        fingerprint=hashlib.sha256(json.dumps(fingerprint).encode()).digest(),
        kind=kind,
        message=body,
        sender=sender,
        recipient=_number(payload.get("recipient")),
        sim_slot=slot,
        segments=None if parts is None else min(parts, MAX_SEGMENTS),
        encoding=encoding,
        received_at=read_date(payload.get("receivedAt")),
        attachments=_attachments(payload.get("attachments")),
    )


def _text(value: Any, limit: int = MAX_TEXT_LENGTH) -> str | None:
    if not isinstance(value, str):
        return None
    if len(value) > limit:
        log.warning("text from phone truncated", length=len(value), limit=limit)
    return sanitize(value[:limit])


def _number(value: Any) -> str | None:
    found = sanitize(value[:MAX_NAME_LENGTH]) if isinstance(value, str) else ""
    return found.strip()[:MAX_NUMBER_LENGTH] or None


def _attachments(value: Any) -> list[Attachment] | None:
    """Parts of an MMS; of each what has the type it should have."""
    if not isinstance(value, list):
        return None
    return limited(_attachment(item) for item in value if isinstance(item, dict))


def _attachment(item: Mapping[str, Any]) -> Attachment:
    data = item.get("data")
    return Attachment(
        part_id=_integer(part) if isinstance(part := item.get("partId"), int) else _text(part, MAX_NAME_LENGTH),
        content_type=_text(item.get("contentType"), MAX_NAME_LENGTH),
        name=_text(item.get("name"), MAX_NAME_LENGTH),
        size=_integer(item.get("size")),
        data=data if isinstance(data, str) else None,
    )


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _news(name: str, payload: Mapping[str, Any]) -> News | None:
    """What an event says of the phone itself."""
    match name:
        case "system:ping":
            return News(battery=_battery(payload))
        case "app:started":
            return News(sim_cards=sims.read(payload.get("simCards")))
        case _:
            return None


def _battery(payload: Mapping[str, Any]) -> int | None:
    """Per cent, from the health checks, which are made as the draft "health+json" has them."""
    value: Any = payload
    for key in ("health", "checks", "battery:level"):
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, list) and value:
        value = value[0]
    level = value.get("observedValue") if isinstance(value, Mapping) else None
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 <= level <= 100:  # noqa: PLR2004 - per cent
        return None
    return round(level)
