"""Presence, and telling owners of phones that went away."""

from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def tick(work, ali):
    from app.devices import alerts

    def once():
        return sum(alerts.notify_owner(account) for account in work(alerts.accounts))

    return once


def test_the_owner_is_told_once_that_a_phone_is_offline_and_once_that_it_is_back(
    client, phone, later, tick, mailbox, sql, ali
):
    client.put("/api/settings", json={"offline_alert_minutes": 10, "device_events": True})
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'status', 'http://example.org/s', 'http://example.org:80')",
        (ali.id,),
    )
    assert tick() == 0
    later(599)
    assert tick() == 0, "not yet for that long"
    later(2)
    with ThreadPoolExecutor(4) as pool:
        assert sum(told.result() for told in [pool.submit(tick) for _ in range(4)]) == 1
    later(1000)
    assert tick() == 0
    phone.pull()
    assert [tick(), tick()] == [1, 0]
    assert [mail["Subject"] for mail in mailbox.mails] == [
        "Phone offline: samsung/a52qnsxx",
        "Phone online again: samsung/a52qnsxx",
    ]
    assert {mail["To"] for mail in mailbox.mails} == {ali.email}
    bodies = [row[0] for row in sql.execute("SELECT body::json FROM webhook_deliveries ORDER BY id")]
    assert [body["event"] for body in bodies] == ["device", "device"]
    assert [body["data"]["online"] for body in bodies] == [False, True]
    assert bodies[0]["data"]["device_id"] == phone.device_id


def test_a_phone_that_asks_every_quarter_of_an_hour_is_not_missed_in_between(client, phone, later, tick, mailbox):
    assert client.put("/api/settings", json={"offline_alert_minutes": 5}).status_code == 200
    for _ in range(3):
        phone.pull()
        later(15 * 60)
        assert tick() == 0
    later(5 * 60 + 1)
    assert tick() == 1


def test_no_event_unless_the_owner_asked_for_it(client, phone, later, tick, mailbox, sql, ali):
    client.put("/api/settings", json={"offline_alert_minutes": 10})
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'status', 'http://example.org/s', 'http://example.org:80')",
        (ali.id,),
    )
    later(3600)
    assert tick() == 1
    assert len(mailbox.mails) == 1
    assert sql.execute("SELECT count(*) FROM webhook_deliveries").fetchone() == (0,)


def test_a_phone_that_answers_no_wake_is_missed_though_its_stream_stands(client, phone, later, tick, mailbox, sql):
    client.put("/api/settings", json={"offline_alert_minutes": 10})

    def stands(woken_ago):
        sql.execute(
            "UPDATE device_state SET stream_seen_at = clock_timestamp(),"
            " woken_at = clock_timestamp() - make_interval(secs => %s)",
            [woken_ago],
        )

    later(3600)
    stands(20)
    assert tick() == 0, "it counts from the wake: before that, the stream was all there was to see"
    stands(601)
    assert tick() == 1
    (mail,) = mailbox.mails
    (device,) = client.get("/api/devices").json()["data"]
    assert not device["online"]
    assert device["last_seen_at"] in mail.get_content()
    (seen_ago,) = sql.execute("SELECT clock_timestamp() - %s::timestamptz", [device["last_seen_at"]]).fetchone()
    assert 600 < seen_ago.total_seconds() < 700
    phone.pull()
    assert tick() == 1, "back"


@pytest.mark.parametrize("why", ["no time set", "switched off", "removed"])
def test_nobody_is_told_of_what_is_not_missed(client, phone, later, tick, settings_of, mailbox, why):
    if why != "no time set":
        assert client.put("/api/settings", json={"offline_alert_minutes": 1}).status_code == 200
    if why == "switched off":
        settings_of(phone, is_active=False)
    if why == "removed":
        client.delete(f"/api/devices/{phone.device_id}")
    later(3600)
    assert tick() == 0


def test_a_phone_that_is_switched_off_while_away_is_forgotten_without_an_all_clear(
    client, phone, later, tick, settings_of, mailbox
):
    client.put("/api/settings", json={"offline_alert_minutes": 1})
    later(3600)
    assert tick() == 1
    settings_of(phone, is_active=False)
    assert tick() == 1
    assert len(mailbox.mails) == 1


def test_a_mail_server_that_is_down_stops_nothing(client, phone, later, tick, configured):
    configured(SMTP_URL="smtp://127.0.0.1:1")
    client.put("/api/settings", json={"offline_alert_minutes": 1})
    later(3600)
    assert [tick(), tick()] == [1, 0]


def online(client):
    (device,) = client.get("/api/devices").json()["data"]
    return device["online"]


def test_online_is_a_stream_within_30_seconds_or_a_request_within_two_minutes(client, phone, later, sql):
    assert online(client)
    later(119)
    assert online(client)
    later(2)
    assert not online(client)
    sql.execute("UPDATE device_state SET stream_seen_at = clock_timestamp() - interval '29 seconds'")
    assert online(client)
    later(2)
    assert not online(client)
    phone.sync()
    assert not online(client), "it used streams and has none, so nothing can wake it"
    later(3600)
    phone.sync()
    assert online(client), "it has only asked for an hour"
    with phone.stream():
        later(200)
        sql.execute("UPDATE device_state SET stream_seen_at = clock_timestamp()")
        assert online(client)


def test_every_authenticated_call_is_life(client, phone, later):
    phone.sync()
    calls = [
        phone.pull,
        phone.announce,
        lambda: phone.report("unknown", "Sent"),
        phone.sync,
        lambda: phone.receive("a", "b"),
    ]
    for call in calls:
        later(600)
        assert not online(client)
        call()
        assert online(client)
