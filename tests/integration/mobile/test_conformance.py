"""The traps of the phone protocol, one by one, with a phone written strictly from its page."""

import json
import re
import time
from datetime import datetime, timedelta

import pytest

from tests.support.strict_phone import SIMS

BATCHES = {"sms:batch:received", "sms:batch:data-received", "mms:batch:received", "mms:batch:downloaded"}
ALWAYS = {"sms:received", "sms:data-received", "mms:received", "system:ping"}


def test_trap_1_dates_have_exactly_three_fraction_digits(phone, send):
    send()
    raw = phone.client.get("/message", headers=phone.headers).text
    dates = re.findall(r'"(\d{4}-\d\d-\d\dT[^"]*)"', raw)
    assert len(dates) == 2
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)", date) for date in dates)
    valid_until, created_at = sorted(map(datetime.fromisoformat, dates), reverse=True)
    assert valid_until - created_at == pytest.approx(timedelta(hours=24), abs=timedelta(seconds=5))


def test_trap_2_a_stale_token_is_told_to_register_again_by_a_401(phone):
    phone.token, own = "token-of-the-public-cloud", phone.token
    assert phone.announce(simCards=SIMS) == 401
    phone.token = own
    assert phone.announce(simCards=SIMS) == 204


def test_trap_3_a_new_stream_announces_hooks_and_settings(phone):
    with phone.stream() as stream:
        assert stream.next() == ("WebhooksUpdated", None)
        assert stream.next() == ("SettingsUpdated", None)


def test_trap_4_announcing_succeeds_at_every_start(phone):
    for body in ({}, {"simCards": SIMS}, {"pushToken": "eTxx"}, {"simCards": []}):
        assert phone.announce(**body) == 204


def test_trap_5_every_event_has_data(phone, send):
    with phone.client.stream("GET", "/events", headers=phone.headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        events = []
        send()
        while len(events) < 3:
            event = []
            while line := next(lines):
                event.append(line)
            events.append(event)
        assert all(any(line.startswith("data:") for line in event) for event in events)


@pytest.mark.parametrize("version", ["1.38.0", "1.60.0", "1.66.2"])
def test_trap_6_old_apps_are_never_offered_what_they_would_send(enroll, client, send, version):
    old = enroll(version=version, name="old")
    message = send(device_id=old.device_id)
    (pulled,) = old.pull()
    assert pulled["scheduleAt"] is None
    assert client.post(f"/api/sms/{message['id']}/cancel").status_code == 422
    with old.stream() as stream:
        stream.until("SettingsUpdated")
        assert {offered.get("state") for offered in old.pull()} <= {"Pending", None}


@pytest.mark.parametrize(
    ("version", "events"),
    [
        ("1.30.0", set()),
        ("1.33.0", ALWAYS),
        ("1.56.0", {*ALWAYS, "mms:downloaded"}),
        ("1.68.0", {*ALWAYS, "mms:downloaded", "app:started"}),
        ("1.70.3", {*ALWAYS, "mms:downloaded", "app:started"}),
        ("1.75.0", {*ALWAYS, "mms:downloaded", "app:started", *BATCHES}),
        ("1.99.7-beta1", {*ALWAYS, "mms:downloaded", "app:started", *BATCHES}),
    ],
)
def test_trap_7_only_events_that_the_version_knows(enroll, version, events):
    phone = enroll(version="1.33.0")
    phone.client.headers["User-Agent"] = f"me.capcom.smsgateway/{version}"
    phone.version = version.partition("-")[0]
    phone.sync()
    assert {hook["event"] for hook in phone.hooks} == events
    before = phone.hooks
    phone.sync()
    assert phone.hooks == before, "ids stay the same for ever"


def test_trap_8_hooks_are_answered_in_milliseconds(phone):
    phone.sync()
    took = []
    for number in range(30):
        began = time.monotonic()
        assert phone.receive("+998901112233", str(number)) == 200
        took.append(time.monotonic() - began)
    assert sorted(took)[15] < 0.5


@pytest.mark.parametrize(
    ("reports", "status"),
    [
        (["Delivered", "Sent", "Processed", "Pending"], "delivered"),
        (["Sent", "Processed", "Sent"], "sent"),
        (["Processed", "Failed", "Sent"], "failed"),
        (["Failed", "Delivered"], "failed"),
        (["Cancelled", "Sent"], "sent"),
        (["Pending", "Cancelled", "Delivered", "Cancelled"], "delivered"),
        (["Delivered", "Failed"], "delivered"),
    ],
)
def test_trap_9_no_state_is_ever_taken_back(phone, send, status_of, reports, status):
    message = send()
    (pulled,) = phone.pull()
    for state in reports:
        assert phone.report(pulled["id"], state) == 204
    assert status_of(message) == status


def test_trap_9_a_late_part_that_hides_delivered_carries_it_in_its_history(phone, send, status_of):
    message = send()
    (pulled,) = phone.pull()
    history = {"Sent": phone.now(), "Delivered": phone.now()}
    assert phone.report(pulled["id"], "Sent", states=history) == 204
    assert status_of(message) == "delivered"


def test_trap_10_a_push_token_keeps_no_event_from_the_streams(phone, send):
    assert phone.announce(pushToken="eTxx88nf") == 204
    with phone.stream() as stream:
        stream.until("SettingsUpdated")
        send()
        stream.until("MessageEnqueued")


def test_trap_11_the_number_goes_out_as_it_is_kept(phone, send):
    send(recipient_number="+998 (90) 111-22-33")
    (pulled,) = phone.pull()
    assert pulled["phoneNumbers"] == ["+998901112233"]


def test_trap_12_one_message_per_recipient(phone, client):
    numbers = [f"+99890111000{number}" for number in range(5)]
    body = {"message": "x", "recipients": numbers, "device_id": phone.device_id}
    assert client.post("/api/sms/bulk", json=body).status_code == 201
    assert sorted(message["phoneNumbers"] for message in phone.pull()) == [[number] for number in numbers]


def test_base_addresses_with_a_slash_at_the_end_work(phone, api):
    assert api.patch("/api/mobile/v1//device", headers=phone.headers, json={"id": phone.device_id}).status_code == 204
    assert api.get("/api/mobile/v1/messages", headers=phone.headers).status_code == 200


def test_reports_come_in_arrays_of_any_size(phone, client, sql):
    sql.execute("UPDATE device_state SET send_window = 100")
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(60)]}
    client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id})
    names = [message["id"] for message in phone.pull()]
    items = [phone.item(name, state) for state in ("Delivered", "Processed", "Sent") for name in names] * 8
    assert len(items) > 1000
    assert phone.report_all(items) == 204
    assert phone.report_all([]) == 204
    assert sql.execute("SELECT count(*) FROM messages WHERE status = 'delivered'").fetchone() == (60,)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"null",
        b"[3]",
        b'[{"id": 5, "state": "Sent"}]',
        b'[{"id": "", "state": "Sent"}]',
        b'[{"id": "x", "state": ["Sent"]}]',
        b'[{"id": "x"}]',
        b'[{"id": "' + b"x" * 37 + b'", "state": "Sent"}]',
        b'[{"id": "x", "state": "Sent", "recipients": 5}]',
        b'[{"id": "x", "state": "Sent", "recipients": [5]}]',
        b"[",
    ],
)
def test_reports_that_are_none_are_a_400(phone, body):
    headers = phone.headers | {"Content-Type": "application/json"}
    assert phone.client.patch("/message", content=body, headers=headers).status_code == 400


def test_an_error_that_cannot_be_stored_is_mended_and_stops_no_other_report(phone, client, send, status_of):
    sent, failed = send("1"), send("2")
    phone.pull()
    items = [
        phone.item(sent["message_id"], "Sent"),
        phone.item(failed["message_id"], "Failed", error="no \0 service \ud83d"),
    ]
    body = json.dumps(items).encode().replace(b"service", b"service \xff")
    assert phone.client.patch("/message", content=body, headers=phone.headers).status_code == 204
    assert status_of(sent) == "sent"
    shown = client.get(f"/api/sms/{failed['id']}").json()["data"]
    assert (shown["status"], shown["error_message"]) == ("failed", "no  service \ufffd ?")


def test_more_reports_than_any_phone_has_are_refused_unread(phone):
    body = b"[" * (1024 * 1024 + 1)
    assert phone.client.patch("/message", content=body, headers=phone.headers).status_code == 413


def test_a_state_of_a_newer_app_stops_no_other_report(phone, send, status_of):
    before, unknown, after = send("1"), send("2"), send("3")
    phone.pull()
    items = [
        phone.item(message["message_id"], state)
        for message, state in ((before, "Sent"), (unknown, "Teleported"), (after, "Delivered"))
    ]
    assert phone.report_all(items) == 204
    assert phone.report(unknown["message_id"], "Teleported") == 204
    assert [status_of(message) for message in (before, unknown, after)] == ["sent", "pending", "delivered"]


@pytest.mark.parametrize("name", ["unknown", "PyDmBQZZXYmyxMwED8Fzy", "01a202cd-3ffe-7274-81a8-c3927a76a23a", "\u00e9"])
def test_unknown_messages_are_swallowed(phone, name):
    assert phone.report(name, "Sent") == 204


def test_reports_of_deleted_messages_are_taken(phone, send, client, sql):
    message = send()
    (pulled,) = phone.pull()
    assert client.delete(f"/api/sms/{message['id']}").status_code == 200
    phone.send(pulled["id"])
    assert sql.execute("SELECT status FROM messages").fetchone() == ("delivered",)
    stats = client.get("/api/account").json()["data"]["stats"]
    assert (stats["total_sent"], stats["total_delivered"]) == (1, 1)


def test_another_users_phone_reports_nothing_of_mine(phone, send, enroll, other, status_of):
    message = send()
    (pulled,) = phone.pull()
    stranger = enroll(other, name="stranger")
    assert stranger.report(pulled["id"], "Delivered") == 204
    assert status_of(message) == "pending"


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("Failed", "Send result: RESULT_ERROR_NO_SERVICE"),
        ("Delivered", "Delivery result from SC +1: 0"),
        ("Failed", None),
    ],
)
def test_a_recipients_error_is_kept(phone, send, client, state, error):
    message = send()
    (pulled,) = phone.pull()
    phone.report(pulled["id"], state, error=error)
    shown = client.get(f"/api/sms/{message['id']}").json()["data"]
    assert shown["error_message"] == (error or "The phone could not send the message")


def test_the_recipients_state_counts_where_the_aggregate_reads_sent(phone, send, status_of):
    message = send()
    (pulled,) = phone.pull()
    item = phone.item(pulled["id"], "Failed", error="Send result: x") | {"state": "Sent"}
    assert phone.report_all([item]) == 204
    assert status_of(message) == "failed"


@pytest.mark.parametrize("offset", [-10_000_000, 10_000_000, 0])
def test_times_of_the_phone_are_bounded_to_what_can_be(phone, send, client, offset):
    message = send()
    (pulled,) = phone.pull()
    phone.report(pulled["id"], "Sent", states={"Sent": phone.now(offset)})
    shown = client.get(f"/api/sms/{message['id']}").json()["data"]
    assert shown["created_at"] <= shown["sent_at"] <= shown["updated_at"]


def test_odd_dates_are_no_error(phone, send, status_of):
    message = send()
    (pulled,) = phone.pull()
    odd = {"Sent": "yesterday", "Delivered": 5, "Pending": "0001-01-01T00:00:00+23:59", "Strange": "x"}
    assert phone.report(pulled["id"], "Sent", states=odd) == 204
    assert status_of(message) == "sent"


def test_the_public_address_is_told(phone):
    assert phone.client.get("/device").json() == {"externalIp": "127.0.0.1"}


@pytest.mark.parametrize("version", ["1.68.0", "1.75.0"])
def test_an_app_of_any_version_lives_its_day(enroll, client, send, status_of, version):
    phone = enroll(version=version, name=version)
    assert phone.announce(simCards=SIMS) == 204
    phone.sync()
    message = send(device_id=phone.device_id)
    (pulled,) = phone.pull()
    phone.send(pulled["id"])
    assert status_of(message) == "delivered"
    assert phone.receive("+15550001111", version) == 200
    if version == "1.75.0":
        assert phone.push_inbox(250) == [201] * 3, "none is halved"
    assert [each["message"] for each in client.get("/api/sms/inbox").json()["data"]["data"]] == [version]


def test_a_pushed_inbox_of_a_stranger_is_a_401(phone):
    phone.token = "of another server"
    assert phone.push_inbox(1) == [401]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-01-26T06:32:53.293+-5:00", "2026-01-26T11:32:53.293000+00:00"),
        ("2026-01-26T06:32:53.293+-3:30", "2026-01-26T10:02:53.293000+00:00"),
        ("2026-01-26T06:32:53.293+-11:00", "2026-01-26T17:32:53.293000+00:00"),
        ("2026-01-26T06:32:53.293-05:00", "2026-01-26T11:32:53.293000+00:00"),
        ("2026-01-26T06:32:53.293+7:00", "2026-01-25T23:32:53.293000+00:00"),
        ("2026-01-26T06:32:53.293Z", "2026-01-26T06:32:53.293000+00:00"),
    ],
)
def test_dates_of_old_androids_are_read(phone, client, written, meant):
    phone.sync()
    assert phone.receive("+15550001111", "hi", receivedAt=written) == 200
    (message,) = client.get("/api/sms/inbox").json()["data"]["data"]
    assert datetime.fromisoformat(message["received_at"]) == datetime.fromisoformat(meant)


def test_a_late_report_of_an_old_android_tells_what_was_delivered(phone, send, status_of):
    message = send()
    (pulled,) = phone.pull()
    history = {"Sent": "2026-11-26T06:32:53.293+-5:00", "Delivered": "2026-11-26T06:32:55.001+-5:00"}
    assert phone.report(pulled["id"], "Sent", states=history) == 204
    assert status_of(message) == "delivered"
