"""Messages move from phones that may not have them; never what a phone was given."""

import pytest


@pytest.fixture
def move(work, ali):
    from app.messages.dispatch import routing
    from app.messages.life import moving

    def once():
        work(moving.move, ali.id)
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


def test_a_wake_that_no_pull_follows_makes_a_phone_suspect(client, phone, send, sql, device_number):
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


def test_a_batch_is_a_batch_however_many_phones_are_unfit(two, send, sql, work, settings_of, monkeypatch, ali):
    from app.messages.life import moving

    monkeypatch.setattr(moving, "BATCH_SIZE", 3)
    for phone in two:
        for _ in range(2):
            send(device_id=phone.device_id)
    sql.execute("UPDATE message_queue SET named = false")
    for phone in two:
        settings_of(phone, is_active=False)
    assert [work(moving.move, ali.id) for _ in range(3)] == [3, 1, 0]


LOST = "stream_opened_at = clock_timestamp() - interval '1 hour'"


def lose_stream(sql, number, seconds_ago, due_ago):
    """The phone's stream ended, and something has been due since; it asked for the last time before both."""
    sql.execute(
        f"UPDATE device_state SET {LOST}, stream_seen_at = clock_timestamp() - make_interval(secs => %s),"
        " pulled_at = clock_timestamp() - interval '50 seconds', seen_at = clock_timestamp() WHERE device_id = %s",
        (seconds_ago, number),
    )
    sql.execute("UPDATE message_queue SET since = clock_timestamp() - make_interval(secs => %s)", (due_ago,))


@pytest.mark.parametrize(
    ("seconds_ago", "due_ago", "moves"),
    [(16, 16, True), (29, 20, True), (16, 40, True), (16, 10, False), (11, 40, False), (5, 40, False)],
)
def test_a_phone_that_lost_its_stream_has_15_seconds_from_what_is_due(
    two, send, sql, move, device_number, seconds_ago, due_ago, moves
):
    first, second = two
    send(device_id=None)
    lose_stream(sql, device_number(first), seconds_ago, due_ago)
    move()
    assert len(second.pull()) == moves
    assert len(first.pull()) == (not moves)


def test_a_phone_that_comes_back_within_its_15_seconds_keeps_its_messages(two, send, sql, move, device_number, later):
    first, second = two
    send(device_id=None)
    lose_stream(sql, device_number(first), 12, 12)
    move()
    with first.stream() as stream:
        stream.until("SettingsUpdated")
        assert len(first.pull()) == 1, "the app pulls whenever its stream opens"
    assert second.pull() == []
    assert sql.execute(
        "SELECT woken_at FROM device_state WHERE device_id = %s", (device_number(first),)
    ).fetchone() == (None,)


def test_a_phone_without_anything_due_is_not_suspect_for_having_no_stream(phone, sql, move, device_number):
    lose_stream(sql, device_number(phone), 29, 0)
    move()
    assert sql.execute("SELECT woken_at FROM device_state").fetchone() == (None,)


def test_a_phone_that_only_pulls_keeps_the_two_minutes(client, two, send, sql, move):
    first, second = two
    send(device_id=None)
    sql.execute("UPDATE device_state SET pulled_at = clock_timestamp() - interval '110 seconds'")
    sql.execute("UPDATE message_queue SET since = clock_timestamp() - interval '100 seconds'")
    move()
    assert all(device["online"] for device in client.get("/api/devices").json()["data"])
    assert second.pull() == []
    assert len(first.pull()) == 1


@pytest.mark.parametrize("how", ["silent", "suspect", "lost"])
@pytest.mark.parametrize(
    ("watch", "moves"),
    [
        ("seen_at = clock_timestamp() - interval '9 seconds'", False),
        ("back_at = clock_timestamp() - interval '14 seconds'", False),
        ("back_at = clock_timestamp() - interval '16 seconds'", True),
    ],
)
def test_no_phone_is_given_up_while_the_gateway_was_away(two, send, sql, move, device_number, how, watch, moves):
    first, second = two
    send(device_id=None)
    if how == "lost":
        lose_stream(sql, device_number(first), 29, 29)
    else:
        away(sql, device_number(first), how)
    # The gateway of the tests may write it at any moment.
    with sql.transaction():
        sql.execute("LOCK TABLE phone_watch IN SHARE ROW EXCLUSIVE MODE")
        sql.execute(
            "INSERT INTO phone_watch VALUES (1, clock_timestamp()) ON CONFLICT (id) DO UPDATE SET seen_at ="
            " clock_timestamp()"
        )
        sql.execute(f"UPDATE phone_watch SET {watch}")
    move()
    assert len(second.pull()) == moves


def test_the_watch_notes_when_the_gateway_is_back(sql, work):
    from app.devices import presence

    def watched(seen_ago):
        sql.execute("DELETE FROM phone_watch")
        sql.execute(
            "INSERT INTO phone_watch (id, seen_at) VALUES (1, clock_timestamp() - make_interval(secs => %s))",
            (seen_ago,),
        )
        work(presence.watching)
        return sql.execute("SELECT back_at IS NOT NULL, seen_at > clock_timestamp() - interval '2 s' FROM phone_watch")

    assert watched(5).fetchone() == (False, True)
    assert watched(9).fetchone() == (True, True)
