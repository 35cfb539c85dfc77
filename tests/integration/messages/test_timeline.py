"""The timeline of a message, and the sentence why it is not sent yet."""

from datetime import UTC, datetime, timedelta

import pytest


def timeline(client, message):
    answer = client.get(f"/api/sms/{message['id']}/timeline")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_every_stage_with_its_time_and_phone(client, phone, send, sql, ali):
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'status', 'http://example.org/s', 'http://example.org:80')",
        (ali.id,),
    )
    message = send()
    (pulled,) = phone.pull()
    phone.send(pulled["id"])
    told = timeline(client, message)
    assert [stage["stage"] for stage in told["stages"]] == [
        "queued",
        "routed",
        "released",
        "accepted",
        "sent",
        "delivered",
    ]
    assert told["stages"] == sorted(told["stages"], key=lambda stage: stage["at"])
    assert {stage["device_name"] for stage in told["stages"][1:]} == {phone.name}
    assert (told["status"], told["waiting"], told["attempt"]) == ("delivered", None, 1)
    assert [hook["event"] for hook in told["webhooks"]] == ["status", "status"]
    assert told["webhooks"][0]["attempts"] == []


def test_an_inbound_message_was_received(client, phone):
    phone.sync()
    phone.receive("a", "b")
    (message,) = client.get("/api/sms/inbox").json()["data"]["data"]
    told = timeline(client, message)
    assert [(stage["stage"], stage["device_name"]) for stage in told["stages"]] == [("received", phone.name)]


def queue(client, **fields):
    body = {"message": "x", "recipient_number": "+998901112233", "device_id": "active"} | fields
    return client.post("/api/sms", json=body).json()["data"]


def make_offline(sql):
    sql.execute(
        "UPDATE device_state"
        " SET seen_at = clock_timestamp() - interval '1 day', pulled_at = NULL, stream_seen_at = NULL"
    )


def test_phones_are_not_blamed_while_the_gateway_itself_was_away(client, phone, send, sql):
    message = send()
    make_offline(sql)
    assert timeline(client, message)["waiting"]["reason_code"] == "chosen_phone_offline"
    # The gateway of the tests may write it at any moment.
    with sql.transaction():
        sql.execute("LOCK TABLE phone_watch IN SHARE ROW EXCLUSIVE MODE")
        sql.execute(
            "INSERT INTO phone_watch VALUES (1, clock_timestamp()) ON CONFLICT (id)"
            " DO UPDATE SET seen_at = clock_timestamp()"
        )
        sql.execute("UPDATE phone_watch SET back_at = clock_timestamp()")
    waiting = timeline(client, message)["waiting"]
    assert (waiting["reason_code"], waiting["expected_at"]) == ("gateway_was_away", None)


@pytest.mark.parametrize(
    ("case", "code", "sentence", "expected"),
    [
        ("queued", "queued_next", "Waiting for a free phone; this message is next.", True),
        ("queued behind", "queued", "Waiting for a free phone; messages ahead: 2.", True),
        (
            "no phone active",
            "no_phone_enabled",
            "No phone is enabled; the message goes out when one is enabled.",
            False,
        ),
        ("none online", "no_phone_online", "No phone is online; the message goes out when one is back.", False),
        ("all held", "all_phones_at_limit", "Every phone has reached its limit; the first is free again at 20", True),
        ("named, off", "chosen_phone_disabled", "samsung/a52qnsxx, the phone you chose, is disabled; the", False),
        ("named, offline", "chosen_phone_offline", "samsung/a52qnsxx, the phone you chose, has been offline", False),
        ("default, off", "phone_disabled", "samsung/a52qnsxx is disabled; the message moves to another phone.", False),
        ("default, offline", "phone_offline", "samsung/a52qnsxx has been offline since 20", False),
        ("paced", "paced", "sends one message every 60 seconds; messages ahead: 1.", True),
        ("next", "in_line_next", "Next in line on samsung/a52qnsxx.", True),
        ("late", "phone_late", "samsung/a52qnsxx is online but has not fetched the message, which was exp", False),
        ("busy", "phone_busy", "samsung/a52qnsxx has not reported yet what became of the messages it was given", False),
        ("released", "released", "The message was given to samsung/a52qnsxx, which has not confirmed it yet.", False),
        ("accepted", "accepted", "samsung/a52qnsxx has accepted the message and has not reported yet", False),
        ("asked back", "recalled", "samsung/a52qnsxx has been asked to give the message back and has not", False),
        ("stuck", "not_routed", "A phone is free, but no worker has assigned the message to it since 20", False),
    ],
)
def test_one_plain_sentence_why(client, phone, send, sql, settings_of, later, case, code, sentence, expected):  # noqa: C901, PLR0912, PLR0915, PLR0917
    message = None
    match case:
        case "queued":
            message = queue(client)
        case "queued behind":
            for _ in range(3):
                message = queue(client)
        case "stuck":
            message = queue(client)
            later(11)
        case "late":
            message = send()
            later(60)
        case "busy":
            for _ in range(21):
                message = send()
            phone.pull()
            later(60)
        case "no phone active":
            message = queue(client)
            settings_of(phone, is_active=False)
        case "none online":
            message = queue(client)
            make_offline(sql)
        case "all held":
            message = queue(client)
            sql.execute(
                "UPDATE device_state SET held_until = clock_timestamp() + interval '1 hour', held_by = 'per_hour'"
            )
        case "named, off":
            message = send()
            settings_of(phone, is_active=False)
        case "named, offline":
            message = send()
            make_offline(sql)
        case "default, offline" | "default, off":
            client.post("/api/devices/default-device", json={"device_id": phone.device_id})
            message = send(device_id=None)
            if case == "default, off":
                settings_of(phone, is_active=False)
            else:
                make_offline(sql)
        case "paced":
            settings_of(phone, send_delay_seconds=60)
            send()
            message = send()
        case "next":
            message = send()
        case _:
            message = send()
            (pulled,) = phone.pull()
            if case == "accepted":
                phone.report(pulled["id"], "Processed")
            if case == "asked back":
                client.post(f"/api/sms/{message['id']}/cancel")
    waiting = timeline(client, message)["waiting"]
    assert (waiting["reason_code"], sentence in waiting["reason"]) == (code, True), waiting
    assert (waiting["expected_at"] is not None) is expected


def expected_at(client, message):
    waiting = timeline(client, message)["waiting"]
    return datetime.fromisoformat(waiting["expected_at"])


def test_an_expectation_does_not_slide_along_with_the_clock(client, phone, send, settings_of):
    settings_of(phone, send_delay_seconds=60)
    messages = [send() for _ in range(3)]
    before = [expected_at(client, message) for message in messages]
    assert [round((at - before[0]) / timedelta(minutes=1)) for at in before] == [0, 1, 2]
    assert [expected_at(client, message) for message in messages] == before
    (pulled,) = phone.pull()
    phone.send(pulled["id"])
    left = [expected_at(client, message) for message in messages[1:]]
    assert round((left[1] - left[0]) / timedelta(minutes=1)) == 1
    assert abs(left[0] - before[1]) < timedelta(seconds=10)


def test_the_queues_expectation_does_not_slide_either(client, phone, settings_of):
    settings_of(phone, send_delay_seconds=3600)
    messages = [queue(client) for _ in range(3)]
    before = [expected_at(client, message) for message in messages]
    assert before == sorted(before)
    assert [expected_at(client, message) for message in messages] == before


@pytest.mark.parametrize("limits", [{"per_hour": 2}, {"sims": {"0": {"per_hour": 2}}}])
def test_limits_ahead_are_counted(client, phone, send, settings_of, sql, limits):
    settings_of(phone, limits=limits)
    messages = [send() for _ in range(7)]
    for pulled in phone.pull():
        phone.send(pulled["id"])
    first, second = (row[0] for row in sql.execute("SELECT released_at FROM device_releases ORDER BY id"))
    hour = timedelta(hours=1)
    expected = [expected_at(client, message) for message in messages[2:]]
    assert expected == [first + hour, second + hour, first + 2 * hour, second + 2 * hour, first + 3 * hour]
    waiting = timeline(client, messages[2])["waiting"]
    assert waiting["reason_code"] in {"limit_per_hour", "sim_limit_per_hour"}
    settings_of(phone, limits={})
    assert expected_at(client, messages[-1]) < first + hour


def test_limits_ahead_of_the_whole_fleet_are_counted(client, phone, send, settings_of):
    settings_of(phone, limits={"per_day": 5})
    messages = [queue(client) for _ in range(12)]
    now = datetime.now(UTC)
    days = [round((expected_at(client, message) - now) / timedelta(days=1)) for message in messages]
    assert days == [0] * 5 + [1] * 5 + [2] * 2


def test_one_behind_others_waits_for_more_than_the_first_limit_to_let_go(client, phone, send, settings_of, sql):
    settings_of(phone, limits={"per_hour": 2})
    for _ in range(3):
        send()
    for pulled in phone.pull():
        phone.send(pulled["id"])
    messages = [queue(client) for _ in range(3)]
    told = [timeline(client, message)["waiting"] for message in messages]
    assert {waiting["reason_code"] for waiting in told} == {"all_phones_at_limit"}
    (first,) = sql.execute("SELECT min(released_at) FROM device_releases").fetchone()
    hours = [round((expected_at(client, message) - first) / timedelta(hours=1)) for message in messages]
    assert hours == [1, 2, 2]


def test_nobody_else_sees_it(api, other, send):
    message = send()
    assert api.get(f"/api/sms/{message['id']}/timeline", headers=other.headers).status_code == 404
