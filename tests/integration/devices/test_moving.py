"""Messages move from phones that may not have them; never what a phone was given."""

import pytest


@pytest.fixture
def move(work, ali):
    from app.messages import moving, routing

    def once():
        work(moving.move)
        work(routing.route_waiting, ali.id)

    return once


@pytest.fixture
def two(client, phone, enroll, device_number):
    second = enroll(name="second")
    client.post("/api/devices/default-device", json={"device_id": phone.device_id})
    return phone, second


def away(sql, number, how):
    statements = {
        "silent": "seen_at = clock_timestamp() - interval '21 minutes', pulled_at = NULL, stream_seen_at = NULL",
        "silent with a stream": "seen_at = clock_timestamp() - interval '4 minutes', pulled_at = NULL,"
        " stream_seen_at = clock_timestamp() - interval '4 minutes', stream_opened_at = clock_timestamp()",
        "suspect": "woken_at = clock_timestamp() - interval '16 seconds'",
        "held": "held_until = clock_timestamp() + interval '1 hour', held_by = 'per_hour'",
    }
    sql.execute(f"UPDATE device_state SET {statements[how]} WHERE device_id = %s", (number,))


@pytest.mark.parametrize("how", ["silent", "silent with a stream", "suspect", "held", "inactive", "removed"])
def test_routed_messages_leave_a_phone_that_may_not_have_them(
    client, two, send, sql, move, device_number, settings_of, how
):
    first, second = two
    given = send("given", device_id=None)
    (pulled,) = first.pull()
    waiting = [send(f"waiting {number}", device_id=None) for number in range(3)]
    named = send("named", device_id=first.device_id)
    number = device_number(first)
    if how == "inactive":
        settings_of(first, is_active=False)
    elif how == "removed":
        client.delete(f"/api/devices/{first.device_id}")
    else:
        away(sql, number, how)
    move()
    assert [message["message"] for message in second.pull()] == [message_text(client, message) for message in waiting]
    shown = client.get(f"/api/sms/{given['id']}").json()["data"]
    assert (shown["status"], shown["device_id"]) == ("pending", number), "what was given never moves"
    shown = client.get(f"/api/sms/{named['id']}").json()["data"]
    if how == "removed":
        assert (shown["status"], shown["uncertain"]) == ("failed", False)
        assert shown["error_message"] == "The phone that was named for this message was removed"
    else:
        assert (shown["status"], shown["device_id"]) == ("pending", number)
    first.send(pulled["id"])
    assert client.get(f"/api/sms/{given['id']}").json()["data"]["status"] == "delivered"


def message_text(client, message):
    return client.get(f"/api/sms/{message['id']}").json()["data"]["message"]


@pytest.mark.parametrize("how", ["silent", "suspect"])
def test_a_phone_that_is_away_keeps_its_messages_while_no_other_is_there(
    client, phone, send, sql, move, how, device_number
):
    client.post("/api/devices/default-device", json={"device_id": phone.device_id})
    message = send(device_id=None)
    away(sql, device_number(phone), how)
    move()
    assert [pulled["id"] for pulled in phone.pull()] == [message["message_id"]]


def test_messages_without_any_active_phone_wait_for_one(client, two, send, move, settings_of):
    first, second = two
    message = send(device_id=None)
    for phone in two:
        settings_of(phone, is_active=False)
    move()
    assert first.pull() == second.pull() == []
    settings_of(second, is_active=True)
    move()
    assert [pulled["id"] for pulled in second.pull()] == [message["message_id"]]


def test_a_wake_that_no_pull_follows_makes_a_phone_suspect(client, phone, send, sql, until, device_number):
    """The process that holds the stream notices it; the test only lets its wake be longer ago."""
    from app.core.database import transaction
    from app.devices import presence

    number = device_number(phone)
    for pulled_ago, waited, suspect in ((60, 20, True), (60, 5, False), (3, 20, False)):
        sql.execute(
            "UPDATE device_state SET woken_at = NULL, pulled_at = clock_timestamp() - make_interval(secs => %s)",
            (pulled_ago,),
        )
        with transaction() as session:
            presence.streaming(session, {number: waited})
        (device,) = client.get("/api/devices").json()["data"]
        assert device["online"] is not suspect, (pulled_ago, waited)
    phone.pull()
    (device,) = client.get("/api/devices").json()["data"]
    assert device["online"] is True


def test_a_batch_is_a_batch_however_many_phones_are_unfit(client, two, send, sql, work, settings_of, monkeypatch):
    from app.messages import moving

    monkeypatch.setattr(moving, "MOST_IN_A_BATCH", 3)
    for phone in two:
        for _ in range(2):
            send(device_id=phone.device_id)
    sql.execute("UPDATE message_queue SET named = false")
    for phone in two:
        settings_of(phone, is_active=False)
    assert [work(moving.move) for _ in range(3)] == [3, 1, 0]
