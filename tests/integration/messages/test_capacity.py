"""What `GET /api/capacity` foretells, from pace, limits and queue."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.messages_of import add_phone


@pytest.fixture
def capacity(client):
    def get():
        answer = client.get("/api/capacity")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    return get


def seconds_from_now(moment):
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()


def test_nobody_and_nothing(client, capacity):
    assert capacity() == {
        "next_at": None,
        "done_at": None,
        "waiting": 0,
        "scheduled": 0,
        "last_due_at": None,
        "devices": [],
    }


def test_a_phone_that_is_free(phone, capacity, device_number):
    found = capacity()
    assert abs(seconds_from_now(found["next_at"])) < 10
    assert abs(seconds_from_now(found["done_at"])) < 10
    [shown] = found["devices"]
    assert (shown["device_id"], shown["online"], shown["waiting"]) == (device_number(phone), True, 0)
    assert (shown["left_today"], shown["left_this_month"]) == (None, None)


def test_by_the_delay_of_the_phone(client, phone, send, capacity, settings_of):
    settings_of(phone, send_delay_seconds=60)
    for _ in range(10):
        send()
    found = capacity()
    assert found["waiting"] == 10
    assert 590 < seconds_from_now(found["next_at"]) < 610
    assert 590 < seconds_from_now(found["done_at"]) < 610
    assert found["devices"][0]["per_hour"] == 60


def test_a_single_message_goes_before_bulk(client, phone, capacity, settings_of):
    settings_of(phone, send_delay_seconds=60)
    numbers = [f"+99890{number:07}" for number in range(100)]
    body = {"message": "Hi", "recipients": numbers, "device_id": phone.device_id}
    assert client.post("/api/sms/bulk", json=body).status_code == 201
    found = capacity()
    assert seconds_from_now(found["next_at"]) < 10
    assert 5990 < seconds_from_now(found["done_at"]) < 6010


def test_limits_of_the_phone_and_its_cards(client, phone, send, capacity, settings_of, device_number, sql):
    limits = {"per_day": 20, "per_month": 25, "sims": {"0": {"per_day": 10}, "1": {"per_month": 3}}}
    settings_of(phone, limits=limits)
    for days, slot, segments in ((0, 0, 4), (0, 1, 2), (2, 0, 15), (31, 0, 99)):
        sql.execute(
            "INSERT INTO device_releases (device_id, released_at, sim_slot, segments, recipient)"
            " VALUES (%s, clock_timestamp() - make_interval(days => %s), %s, %s, 1)",
            (device_number(phone), days, slot, segments),
        )
    [shown] = capacity()["devices"]
    assert (shown["left_today"], shown["left_this_month"]) == (4, 4)  # 14 today, but the month has four
    assert shown["sims"] == [
        {"left_today": 6, "left_this_month": None, "sim_slot": 0},
        {"left_today": 1, "left_this_month": 1, "sim_slot": 1},
    ]


def test_limits_decide_when_all_is_done(client, phone, capacity, settings_of):
    settings_of(phone, limits={"per_day": 10})
    numbers = [f"+99890{number:07}" for number in range(50)]
    client.post("/api/sms/bulk", json={"message": "Hi", "recipients": numbers, "device_id": phone.device_id})
    days = seconds_from_now(capacity()["done_at"]) / 86_400
    assert 3.9 < days < 4.1


def test_phones_that_are_away_are_not_counted_on(client, ali, sql, capacity):
    add_phone(sql, ali)
    add_phone(sql, ali, active=False)
    numbers = [f"+99890{number:07}" for number in range(3)]
    client.post("/api/sms/bulk", json={"message": "Hi", "recipients": numbers, "device_id": "active"})
    found = capacity()
    assert (found["next_at"], found["done_at"], found["waiting"]) == (None, None, 3)
    assert [(shown["online"], shown["next_at"]) for shown in found["devices"]] == [(False, None)]


def test_what_is_held_is_told_apart(phone, send, capacity):
    at = datetime.now(UTC) + timedelta(days=3)
    send(send_at=at.isoformat())
    send(send_at=(at - timedelta(days=1)).isoformat())
    found = capacity()
    assert (found["waiting"], found["scheduled"]) == (0, 2)
    assert datetime.fromisoformat(found["last_due_at"]) == at


def test_others_have_no_part_in_it(client, other, phone, send, capacity):
    send()
    theirs = client.get("/api/capacity", headers=other.headers).json()["data"]
    assert (theirs["waiting"], theirs["devices"]) == (0, [])
    assert client.get("/api/capacity", headers={"Authorization": "Bearer none"}).status_code == 401


def test_it_needs_the_ability_to_read(client, ali, phone):
    assert client.get("/api/capacity", headers=ali.token("sms:send")).status_code == 403
    assert client.get("/api/capacity", headers=ali.token("sms:read")).status_code == 200
