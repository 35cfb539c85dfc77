"""The phones' reading and writing of dates, signatures, streams, contents and settings."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest

from phones.behaviour import parse_seconds
from phones.wire import (
    DateFormat,
    PhoneSettings,
    PulledMessage,
    RecipientReport,
    Report,
    SimCard,
    StreamEvent,
    WireError,
    hook_headers,
    parse_date,
    parse_version,
    read_events,
    sign,
)

OLDER, NEWER = (1, 68, 0), (1, 75, 0)
SEVEN = datetime(2026, 11, 22, 7, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-22T07:00:00.000Z", 0.0),
        ("2026-11-22T07:00:00Z", 0.0),
        ("2026-11-22T12:00:00.250+05:00", 0.25),
        ("2026-11-22T07:00:00.123456+00:00", 123.456),  # 07:02:03.456, as was measured with the app's library
        ("2026-11-22T07:00:00.999999+00:00", 999.999),  # more than a quarter of an hour late
        ("2026-11-22T07:00:00.5Z", 0.005),
    ],
)
def test_dates_are_read_with_the_apps_mistake(text: str, seconds: float) -> None:
    assert parse_date(text) == pytest.approx(SEVEN + seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["2026-11-22 07:00:00", "tomorrow", "2026-11-22T07:00:00"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="not a date"):
        parse_date(text)


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, "2026-11-22T07:00:00.120Z"), (300, "2026-11-22T12:00:00.120+05:00"), (-210, "2026-11-22T03:30:00.120-03:30")],
)
def test_dates_are_written_with_three_digits_and_the_zone(offset: int, expected: str) -> None:
    assert DateFormat(offset)(SEVEN + 0.12) == expected


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, "2026-11-22T07:00:00.120Z"), (300, "2026-11-22T12:00:00.120+05:00"), (-300, "2026-11-22T02:00:00.120+-5:00")],
)
def test_dates_of_an_old_android_are_odd_west_of_utc(offset: int, expected: str) -> None:
    assert DateFormat(offset, old_android=True)(SEVEN + 0.12) == expected


def test_signature_is_that_of_the_protocols_example() -> None:
    body = (
        b'{"deviceId":"dev1","event":"sms:received","id":"Ey6ECgOkVVFjz3CL48B8C",'
        b'"payload":{"messageId":"abc123"},"webhookId":"wh1"}'
    )
    expected = "cc55b803a838fbcda8b69e6e42025c5ae6b95927b870c149cff066b4d286264d"
    assert sign("testkey1", body, "1719045971") == expected


def test_old_apps_do_not_sign() -> None:
    assert set(hook_headers("testkey1", b"{}", "1.32.9")) == {"Content-Type", "User-Agent"}
    assert {"X-Signature", "X-Timestamp"} <= set(hook_headers("testkey1", b"{}", "1.33.0"))


def read(stream: str) -> list[StreamEvent]:
    async def lines() -> AsyncIterator[bytes]:
        for line in stream.splitlines(keepends=True):
            yield line.encode()

    async def collect() -> list[StreamEvent]:
        return [event async for event in read_events(lines())]

    return asyncio.run(collect())


def test_stream_drops_events_without_data_and_names_the_nameless() -> None:
    stream = (
        ":keepalive\n\nevent: WebhooksUpdated\n\nevent: SettingsUpdated\ndata: null\n\ndata: x\n\n"
        "event: Unknown\r\nid: 5\r\ndata:a\r\ndata: b\r\n\r\nevent: Cut"
    )
    assert read(stream) == [
        StreamEvent("SettingsUpdated", "null"),
        StreamEvent("MessageEnqueued", "x"),
        StreamEvent("Unknown", "a\nb"),
    ]


def pulled(**fields: object) -> PulledMessage:
    return msgspec.json.decode(json.dumps({"id": "m", "phoneNumbers": ["+1"]} | fields), type=PulledMessage)


def test_content_by_app_version() -> None:
    both = pulled(message="old", textMessage={"text": "new"})
    assert both.content(parse_version("1.68.0")) == "new"
    assert both.content(parse_version("1.39.0")) == "old"
    with pytest.raises(WireError):
        pulled(textMessage={"text": "new"}).content(parse_version("1.30.0"))


def test_unknown_fields_and_nulls_are_taken() -> None:
    message = pulled(message="x", simNumber=None, validUntil=None, scheduleAt=None, ttl=60, isEncrypted=False)
    assert (message.sim_number, message.priority, message.with_delivery_report) == (None, 0, True)


def test_report_has_the_protocols_shape() -> None:
    report = Report("m", "Failed", [RecipientReport("+1", "Failed", "TTL expired")], {"Failed": "2026"})
    assert json.loads(msgspec.json.encode([report])) == [
        {
            "id": "m",
            "state": "Failed",
            "recipients": [{"phoneNumber": "+1", "state": "Failed", "error": "TTL expired"}],
            "states": {"Failed": "2026"},
        }
    ]
    without_error = msgspec.json.encode(RecipientReport("+1", "Sent"))
    assert json.loads(without_error) == {"phoneNumber": "+1", "state": "Sent"}


def test_sim_cards_are_redacted_to_four_characters() -> None:
    card = SimCard(slot_index=0, sim_number=1, phone_number="+15551234567", carrier_name="Tele", iccid=None)
    assert json.loads(msgspec.json.encode(card.redacted())) == {
        "slotIndex": 0,
        "simNumber": 1,
        "phoneNumber": "********4567",
        "carrierName": "Tele",
    }


def test_settings_absent_keys_stay_and_null_resets() -> None:
    settings = PhoneSettings(signing_key="own")
    settings.apply({"messages": {"send_interval_min": 5, "send_interval_max": 7, "processing_order": "FIFO"}}, NEWER)
    limit = {"limit_period": "PerHour", "limit_value": 30}
    settings.apply({"messages": limit, "webhooks": {"signing_key": "given"}}, NEWER)
    assert (settings.send_interval_min, settings.send_interval_max, settings.processing_order) == (5, 7, "FIFO")
    assert (settings.limit_period, settings.limit_value, settings.signing_key) == (3600, 30, "given")
    settings.apply({"messages": {"send_interval_min": None, "processing_order": None}, "unknown": {}}, NEWER)
    assert (settings.send_interval_min, settings.send_interval_max, settings.processing_order) == (0, 7, "LIFO")


@pytest.mark.parametrize(
    "document",
    [
        {"messages": {"processing_order": "Sideways"}},
        {"messages": None},
        {"ping": 5},
        {"messages": {"work_hours_start": "9:00"}},
        {"messages": {"work_hours_end": "24:00"}},
    ],
)
def test_settings_that_the_app_could_not_read_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(WireError):
        PhoneSettings().apply(document, NEWER)


def work_hours(start: str, end: str, version: tuple[int, ...]) -> PhoneSettings:
    settings = PhoneSettings()
    hours = {"work_hours_enabled": True, "work_hours_start": start, "work_hours_end": end}
    settings.apply({"messages": hours}, version)
    return settings


@pytest.mark.parametrize(
    ("start", "end", "hour", "hours"),
    [
        ("09:00", "19:00", 8, 1),
        ("09:00", "19:00", 9, 0),
        ("09:00", "19:00", 18.99, 0),
        ("09:00", "19:00", 19, 14),
        ("22:00", "06:30", 23, 0),
        ("22:00", "06:30", 6, 0),
        ("22:00", "06:30", 12, 10),
        ("10:00", "10:00", 3, 0),
    ],
)
def test_outside_its_work_hours_a_newer_app_waits_for_their_beginning(
    start: str, end: str, hour: float, hours: float
) -> None:
    assert work_hours(start, end, NEWER).until_work_hours(hour * 3600) == pytest.approx(hours * 3600)
    assert work_hours(start, end, OLDER).until_work_hours(hour * 3600) == 0, "it does not know the setting"


def test_work_hours_that_are_switched_off_or_reset_hold_nothing_back() -> None:
    settings = work_hours("10:00", "11:00", NEWER)
    settings.apply({"messages": {"work_hours_start": None, "work_hours_end": None}}, NEWER)
    assert settings.until_work_hours(8 * 3600) == 3600, "nine to nineteen"
    settings.apply({"messages": {"work_hours_enabled": False}}, NEWER)
    assert settings.until_work_hours(0) == 0
    PhoneSettings().apply({"messages": {"work_hours_start": "never"}}, OLDER)


def test_seconds_of_the_command_line() -> None:
    assert parse_seconds("0.3") == 0.3
    assert parse_seconds("0.1-0.5") == (0.1, 0.5)
    for wrong in ("0.5-0.1", "fast", ""):
        with pytest.raises(ValueError, match=r"bounds|float"):
            parse_seconds(wrong)
