"""The timeline of a message, and the sentence why it is not sent yet."""

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


@pytest.mark.parametrize(
    ("case", "sentence", "expected"),
    [
        ("queued", "It waits for a phone with room, as the next one.", True),
        ("no phone active", "No phone is active: it goes out when one is switched on.", False),
        ("none online", "No phone is online: it goes out when one is back.", False),
        ("all held", "Every phone has reached its limit, the first until ", True),
        ("named, off", "samsung/a52qnsxx, which was named for it, is switched off: it stays until", False),
        ("named, offline", "samsung/a52qnsxx, which was named for it, is offline (last seen 20", False),
        ("default, offline", "samsung/a52qnsxx is offline (last seen 20", False),
        ("paced", "sends one message every 60 seconds; this one goes behind 1 other.", True),
        ("next", "is to fetch it, as the next one.", True),
        ("released", "It was given to samsung/a52qnsxx, which has not said yet that it got it.", False),
        ("accepted", "samsung/a52qnsxx has taken it and has not said yet that it was sent.", False),
        ("asked back", "samsung/a52qnsxx has been asked to give it back and has not answered yet.", False),
    ],
)
def test_one_plain_sentence_why(client, phone, send, sql, settings_of, case, sentence, expected):  # noqa: C901 - a table
    message = None
    match case:
        case "queued":
            message = queue(client)
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
        case "default, offline":
            client.post("/api/devices/default-device", json={"device_id": phone.device_id})
            message = send(device_id=None)
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
    assert sentence in waiting["reason"]
    assert (waiting["expected_at"] is not None) is expected


def test_nobody_else_sees_it(api, other, send):
    message = send()
    assert api.get(f"/api/sms/{message['id']}/timeline", headers=other.headers).status_code == 404
