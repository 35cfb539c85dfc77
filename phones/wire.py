"""What travels between a phone and the gateway: JSON shapes, dates, signatures, event streams.

Written from the phone protocol of "SMS Gateway for Android" 1.68 and its changes up to 1.75. Field names on the wire
are camelCase; absent and null are the same here, and null is never sent.
"""

import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterable, AsyncIterator
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct

APP_VERSION = "1.68.0"


class State(StrEnum):
    """States of a message as the app names them."""

    PENDING = "Pending"
    CANCELLING = "Cancelling"
    CANCELLED = "Cancelled"
    PROCESSED = "Processed"
    SENT = "Sent"
    DELIVERED = "Delivered"
    FAILED = "Failed"


class WireError(Exception):
    """An answer that the app could not have used."""


class SimCard(Struct, rename="camel", omit_defaults=True, frozen=True):
    """One SIM of a phone. `sim_number` is `slot_index` + 1."""

    slot_index: int
    sim_number: int
    phone_number: str | None = None
    carrier_name: str | None = None
    iccid: str | None = None

    def redacted(self) -> "SimCard":
        """Leave only the last four characters of each text, as the app does when it registers."""
        return SimCard(
            slot_index=self.slot_index,
            sim_number=self.sim_number,
            phone_number=_last_four(self.phone_number),
            carrier_name=_last_four(self.carrier_name),
            iccid=_last_four(self.iccid),
        )


def _last_four(text: str | None) -> str | None:
    return None if text is None else "*" * (len(text) - 4) + text[-4:]


class Registration(Struct, rename="camel", omit_defaults=True):
    """Body of `POST /device`. `sim_cards` is left out by apps older than 1.65, the key by those older than 1.75."""

    name: str
    sim_cards: list[SimCard] | None = None
    public_key: str | None = None
    key_version: int | None = None


class Announcement(Struct, rename="camel", omit_defaults=True):
    """Body of `PATCH /device`."""

    id: str
    sim_cards: list[SimCard] | None = None
    public_key: str | None = None
    key_version: int | None = None


class Registered(Struct, rename="camel"):
    """Answer to `POST /device`."""

    id: str
    token: str
    login: str
    password: str | None = None


class TextContent(Struct, gc=False):
    """Content of a text message."""

    text: str


class DataContent(Struct, gc=False):
    """Content of a data message, base64."""

    data: str
    port: int


class PulledMessage(Struct, rename="camel", gc=False):
    """One element of the answer to `GET /message`."""

    id: str
    phone_numbers: list[str]
    message: str | None = None
    text_message: TextContent | None = None
    data_message: DataContent | None = None
    sim_number: int | None = None
    with_delivery_report: bool = True
    priority: int = 0
    valid_until: str | None = None
    schedule_at: str | None = None
    state: str | None = None
    created_at: str | None = None

    def content(self, version: tuple[int, ...]) -> str:
        """Give what an app of this version would send. WireError: it would find nothing."""
        text = self.message
        if version >= (1, 39, 1):
            if self.data_message is not None:
                text = self.data_message.data
            elif self.text_message is not None:
                text = self.text_message.text
        if text is None:
            raise WireError("a message has no content")
        return text


class RecipientReport(Struct, rename="camel", omit_defaults=True, gc=False):
    """One recipient in a report. `phone_number` is the text that the gateway gave, untouched."""

    phone_number: str
    state: str
    error: str | None = None


class Report(Struct, gc=False):
    """One element of `PATCH /message`. `states` maps each state passed to its date."""

    id: str
    state: str
    recipients: list[RecipientReport]
    states: dict[str, str]


class Webhook(Struct, gc=False):
    """One element of the answer to `GET /webhooks`."""

    id: str
    url: str
    event: str


class ReceivedSms(Struct, rename="camel", omit_defaults=True):
    """Payload of `sms:received`. `message_id` is the app's 32-bit hash, which is not unique."""

    message: str
    received_at: str
    message_id: str
    sender: str
    phone_number: str
    sim_number: int | None = None
    recipient: str | None = None


class InboxItem(Struct, rename="camel", omit_defaults=True):
    """One element of `POST /inbox`: a copy of what was received. Sender, recipient and content are encrypted."""

    id: str
    type: str
    sender: str
    content: str
    created_at: str
    is_encrypted: bool
    sim_number: int | None = None
    recipient: str | None = None


class HookEvent(Struct, rename="camel"):
    """Body of what a phone posts to a webhook. `id` stays the same over retries."""

    id: str
    webhook_id: str
    event: str
    device_id: str
    payload: ReceivedSms | dict[str, Any]


HOOK_EVENTS_SINCE: dict[str, tuple[int, ...]] = {
    "sms:received": (0,),
    "sms:data-received": (0,),
    "mms:received": (0,),
    "sms:sent": (0,),
    "sms:delivered": (0,),
    "sms:failed": (0,),
    "system:ping": (0,),
    "mms:downloaded": (1, 56),
    "app:started": (1, 66),
    "sms:cancelled": (1, 67),
    "sms:batch:received": (1, 71),
    "sms:batch:data-received": (1, 71),
    "mms:batch:received": (1, 71),
    "mms:batch:downloaded": (1, 71),
}
"""The app version that first knew an event. A list with an event it does not know fails whole."""

WORK_HOURS_SINCE = (1, 69)
INBOX_SINCE = (1, 75)

LIMIT_PERIODS = {"Disabled": 0.0, "PerMinute": 60.0, "Per30Minutes": 1800.0, "PerHour": 3600.0, "PerDay": 86400.0}


class PhoneSettings(Struct):
    """What the app keeps of `GET /settings`. Intervals in seconds; a period of 0 is no limit; work hours in minutes."""

    send_interval_min: float = 0.0
    send_interval_max: float = 0.0
    limit_period: float = 0.0
    limit_value: int = 0
    processing_order: str = "LIFO"
    work_hours_enabled: bool = False
    work_hours_start: int = 9 * 60
    work_hours_end: int = 19 * 60
    ping_interval: float = 0.0
    signing_key: str = ""

    def apply(self, document: dict[str, Any], version: tuple[int, ...]) -> None:
        """Take over what is present and what an app of this version knows; an absent key stays, null resets.

        One bad value refuses the whole document.
        """
        if not all(isinstance(section, dict) for section in document.values()):
            raise WireError("a settings section is not an object")
        messages = document.get("messages", {})
        period, order = messages.get("limit_period") or "Disabled", messages.get("processing_order") or "LIFO"
        if period not in LIMIT_PERIODS or order not in {"LIFO", "FIFO"}:
            raise WireError(f"unknown limit_period {period!r} or processing_order {order!r}")
        if version >= WORK_HOURS_SINCE:
            self._apply_work_hours(messages)
        if "limit_period" in messages:
            self.limit_period = LIMIT_PERIODS[period]
        if "processing_order" in messages:
            self.processing_order = order
        for key in {"send_interval_min", "send_interval_max", "limit_value"} & messages.keys():
            setattr(self, key, messages[key] or 0)
        if "interval_seconds" in document.get("ping", {}):
            self.ping_interval = document["ping"]["interval_seconds"] or 0
        self.signing_key = document.get("webhooks", {}).get("signing_key") or self.signing_key

    def _apply_work_hours(self, messages: dict[str, Any]) -> None:
        start = _minutes(messages.get("work_hours_start"), 9 * 60)
        end = _minutes(messages.get("work_hours_end"), 19 * 60)
        if "work_hours_start" in messages:
            self.work_hours_start = start
        if "work_hours_end" in messages:
            self.work_hours_end = end
        if "work_hours_enabled" in messages:
            self.work_hours_enabled = messages["work_hours_enabled"] in {True, "true"}

    def until_work_hours(self, second_of_day: float) -> float:
        """Seconds until the work hours begin, 0 within them. They may go past midnight; where both ends are the same
        they are the whole day.
        """
        start, end = 60 * self.work_hours_start, 60 * self.work_hours_end
        if not self.work_hours_enabled or start == end:
            return 0.0
        within = start <= second_of_day < end if start < end else not end <= second_of_day < start
        return 0.0 if within else (start - second_of_day) % 86400


_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


def _minutes(text: str | None, default: int) -> int:
    if text is None:
        return default
    match = _TIME_OF_DAY.fullmatch(text)
    if match is None:
        raise WireError(f"not a time of day: {text!r}")
    return 60 * int(match[1]) + int(match[2])


def parse_version(text: str) -> tuple[int, ...]:
    """Turn `1.68.0` into numbers that compare."""
    return tuple(int(part) for part in text.split("."))


_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def parse_date(text: str) -> float:
    """Read a date as the app does, in seconds since the epoch.

    The app takes the digits after the point for a number of milliseconds, however many there are: six digits put the
    date up to a quarter of an hour off. A gateway that sends them is to be caught, so the mistake is kept.
    """
    match = _DATE.fullmatch(text)
    if match is None:
        raise WireError(f"not a date: {text!r}")
    whole, fraction, zone = match.groups()
    return datetime.fromisoformat(whole + zone).timestamp() + (int(fraction) / 1000 if fraction else 0.0)


_SECONDS_KEPT = 64


class DateFormat:
    """Writes dates with three fraction digits and the phone's zone. Renders each second once.

    Android before 7 writes zones west of UTC as `+-5:00`.
    """

    def __init__(self, utc_offset_minutes: int = 0, *, old_android: bool = False) -> None:
        self._zone = timezone(timedelta(minutes=utc_offset_minutes))
        offset = datetime.now(self._zone).strftime("%z")
        self._suffix = "Z" if utc_offset_minutes == 0 else f"{offset[:3]}:{offset[3:]}"
        if old_android and utc_offset_minutes < 0:
            self._suffix = f"+-{int(offset[1:3])}:{offset[3:]}"
        self._seconds: dict[int, str] = {}

    def __call__(self, timestamp: float) -> str:
        """Write a time given in seconds since the epoch."""
        milliseconds = int(timestamp * 1000)
        second, rest = divmod(milliseconds, 1000)
        prefix = self._seconds.get(second)
        if prefix is None:
            if len(self._seconds) >= _SECONDS_KEPT:
                self._seconds.clear()
            prefix = self._seconds[second] = datetime.fromtimestamp(second, self._zone).isoformat()[:19]
        return f"{prefix}.{rest:03d}{self._suffix}"


def sign(key: str, body: bytes, timestamp: str) -> str:
    """Give `X-Signature` for a body and its `X-Timestamp`."""
    return hmac.new(key.encode(), body + timestamp.encode(), hashlib.sha256).hexdigest()


def hook_headers(key: str, body: bytes, version: str) -> dict[str, str]:
    """Give the headers of a webhook call made now. Apps before 1.33 do not sign."""
    headers = {"Content-Type": "application/json", "User-Agent": f"me.capcom.smsgateway/{version}"}
    if parse_version(version) >= (1, 33):
        timestamp = str(int(time.time()))
        headers |= {"X-Timestamp": timestamp, "X-Signature": sign(key, body, timestamp)}
    return headers


class StreamEvent(NamedTuple):
    """One event of the stream. A missing name means `MessageEnqueued`."""

    name: str
    data: str


async def read_events(lines: AsyncIterable[bytes]) -> AsyncIterator[StreamEvent]:
    """Parse a server-sent event stream as the app's library does: an event without a `data` line is dropped."""
    name, data = "", list[str]()
    async for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if data:
                yield StreamEvent(name or "MessageEnqueued", "\n".join(data))
            name, data = "", []
            continue
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "event":
            name = value
        elif key == "data":
            data.append(value)
