"""Feeding: a small stock, in turns, at the campaign's rate, each recipient with one message."""

import time
from collections import Counter

import pytest

from app.campaigns import supervising
from app.campaigns.fleet import shares
from app.messages.dispatch import routing
from tests.support.waiting import until


def test_the_stock_stays_small(phone, campaign, ask, look, counts):
    number = campaign(recipients=1000)
    ask(number, "start")
    for _ in range(3):
        look()
    assert counts(number) == {"waiting": 200, "not_made": 800}
    given = phone.pull()
    look()
    assert counts(number) == {"waiting": 200, "given": len(given), "not_made": 800 - len(given)}


def test_a_hundred_campaigns_take_turns(phone, campaign, ask, look, counts, sql):
    numbers = [campaign(recipients=400 if place else 2) for place in range(100)]
    for number in numbers:
        ask(number, "start")
    look()
    made = dict(sql.execute("SELECT campaign_id, count(*) FROM messages GROUP BY campaign_id").fetchall())
    assert made == dict.fromkeys(numbers, 2), "each has the same share, the small one all it needs"
    order = [row[0] for row in sql.execute("SELECT campaign_id FROM messages ORDER BY id LIMIT 100").fetchall()]
    assert sorted(order) == sorted(numbers), "in turns, not one behind the other"
    later = campaign(recipients=5)
    ask(later, "start")
    given = Counter()
    for message in phone.pull():
        phone.send(message["id"])
        given[message["id"]] += 1
    look()
    assert counts(later).get("waiting", 0) > 0, "one that comes later has its share at once"


def test_shares_fill_up_to_one_level():
    assert shares(10, {1: 5, 2: 0}, {1: 100, 2: 100}) == {1: 3, 2: 7}
    assert shares(10, {}, {1: 3, 2: 100}) == {1: 3, 2: 7}
    assert shares(2, {}, {1: 9, 2: 9, 3: 9}) == {1: 1, 2: 1, 3: 0}
    assert shares(0, {}, {1: 9}) == {1: 0}
    assert shares(9, {}, {1: 0}) == {1: 0}


def test_a_rate_is_kept(phone, campaign, ask, look, counts, sql):
    number = campaign(recipients=1000, rate_per_minute=600)
    ask(number, "start")
    look()
    look()
    assert 10 <= counts(number)["waiting"] <= 20, "two seconds' worth, and no more than that waits"
    began, made = time.monotonic(), 10
    for _ in range(30):
        sql.execute("UPDATE campaigns SET next_slot_at = next_slot_at - interval '1 second'")
        for message in phone.pull():
            phone.report(message["id"], "Delivered")
        look()
        made = 1000 - counts(number).get("not_made", 0)
    passed = 30 + time.monotonic() - began
    assert 250 < made <= 10 + 10 * passed


def test_a_changed_rate_does_not_wait_for_the_one_before(client, phone, campaign, ask, look, counts):
    number = campaign(recipients=100, rate_per_minute=1)
    ask(number, "start")
    look()
    assert counts(number)["waiting"] == 1
    client.patch(f"/api/campaigns/{number}", json={"rate_per_minute": 600})

    def is_faster():
        look()
        return counts(number)["waiting"] > 5

    until(is_faster, 10)


def test_texts_have_the_recipients_fields(phone, campaign, ask, look, client, sql, counts):
    number = campaign(recipients=3, message="Hello {name|there}, {code}!")
    sql.execute("UPDATE campaigns SET columns = '[\"code\"]'")
    sql.execute("UPDATE campaign_recipients SET name = 'Ali', fields = '{\"code\": \"{name}\"}' WHERE place = 1")
    sql.execute('UPDATE campaign_recipients SET fields = \'{"code": "2"}\' WHERE place = 2')
    sql.execute("UPDATE campaign_recipients SET fields = jsonb_build_object('code', repeat('x', 1600)) WHERE place = 3")
    client.post("/api/contacts", json={"phone_number": "+998900000002", "name": "Laylo"})
    ask(number, "start")
    look()
    texts = sorted(row[0] for row in sql.execute("SELECT message FROM messages").fetchall())
    assert texts == ["Hello Ali, {name}!", "Hello Laylo, 2!"]
    assert counts(number) == {"waiting": 2, "left_out": 1}
    assert sql.execute("SELECT value, reason FROM campaign_left_out").fetchall() == [("+998900000003", "too_long")]


@pytest.mark.parametrize("several", [False, True])
def test_phones_that_are_named_are_used_and_no_others(phone, enroll, campaign, ask, look, device_number, several, sql):
    second, third = enroll(name="second"), enroll(name="third")
    named = [device_number(phone), device_number(second)] if several else device_number(second)
    number = campaign(recipients=40, device_id=named)
    ask(number, "start")
    look()
    by_phone = dict(sql.execute("SELECT device_id, count(*) FROM messages GROUP BY device_id").fetchall())
    assert by_phone == ({named[0]: 20, named[1]: 20} if several else {named: 40})
    assert third.pull() == []
    assert second.pull() != []


def test_messages_have_their_phones_from_the_feed_in_turn(enroll, campaign, ask, work, ali, sql, client):
    def fed():
        ask(number := campaign(recipients=3), "start")
        work(supervising.look, ali.id)
        rows = sql.execute("SELECT device_id FROM messages WHERE campaign_id = %s", (number,)).fetchall()
        return Counter(device for (device,) in rows)

    for name in ("first", "second"):
        enroll(name=name)
    first, second = (device["id"] for device in client.get("/api/devices").json()["data"])
    assert fed() + fed() == {first: 3, second: 3}
    told = sql.execute("SELECT DISTINCT device_named, routed_at IS NULL, price FROM messages").fetchall()
    assert told == [(False, False, 100)], "any phone may have them, as if they were routed"
    client.post("/api/sms/bulk", json={"message": "Hi", "recipients": ["+998901112233"], "device_id": "active"})
    assert fed() == {None: 3}, "others wait for room"
    work(routing.route_waiting, ali.id)
    client.put("/api/settings", json={"sticky_phone": True})
    assert fed() == {None: 3}, "numbers stay with their phones"


def test_without_an_enabled_phone_it_says_so(phone, campaign, ask, look, show, settings_of, sql):
    number = campaign(recipients=3)
    ask(number, "start")
    settings_of(phone, is_active=False)
    look()
    shown = show(number)
    assert (shown["status"], shown["reason_code"], shown["counts"]["not_made"]) == ("running", "no_phone_enabled", 3)
    settings_of(phone, is_active=True)
    look()
    shown = show(number)
    assert (shown["reason"], shown["counts"]["waiting"]) == (None, 3)


def test_another_users_single_send_passes(phone, campaign, ask, look, send):
    number = campaign(recipients=300)
    ask(number, "start")
    look()
    send("urgent")
    first = phone.pull(order="fifo")
    assert first[0]["message"] == "urgent"


def test_a_feed_that_dies_leaves_nothing(phone, campaign, ask, counts, sql, ali):
    from app.campaigns import supervising
    from app.core.database import transaction

    number = campaign(recipients=10)
    ask(number, "start")

    def die():
        with transaction() as session:
            supervising.look(session, ali.id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die()
    assert counts(number) == {"not_made": 10}


def test_a_tick_finds_what_no_nudge_told_of(campaign, ask, phone, ali):
    from app.campaigns import supervising
    from app.core.database import transaction
    from app.core.task_names import TaskName

    ask(campaign(), "start")
    with transaction() as session:
        supervising.remind(session)
        assert session.info["nudges"] == {(TaskName.FEED, ali.id)}


def test_of_a_list_of_phones_those_that_are_there_take_over(
    phone, enroll, campaign, ask, look, device_number, sql, counts
):
    second, other = enroll(name="second"), enroll(name="not of the list")
    first, named = device_number(phone), device_number(second)
    number = campaign(recipients=40, device_id=[first, named])
    ask(number, "start")
    look()
    given = phone.pull()
    sql.execute(
        "UPDATE device_state SET seen_at = clock_timestamp() - interval '1 hour', pulled_at = NULL"
        " WHERE device_id = %s",
        (first,),
    )
    look()
    by_phone = dict(
        sql.execute("SELECT device_id, count(*) FROM message_queue WHERE stage = 0 GROUP BY device_id").fetchall()
    )
    assert by_phone == {named: 40 - len(given)}
    assert other.pull() == []
    assert counts(number) == {"waiting": 40 - len(given), "given": len(given)}


def test_of_a_list_the_others_take_over_from_a_removed_phone(
    client, phone, enroll, campaign, ask, look, device_number, counts
):
    from workers import upkeep

    second = enroll(name="second")
    number = campaign(recipients=40, device_id=[device_number(phone), device_number(second)])
    ask(number, "start")
    look()
    ask(number, "pause")
    client.delete(f"/api/devices/{device_number(phone)}")
    upkeep.move()
    assert counts(number) == {"held": 40}, "they are held as before"
    ask(number, "resume")
    for message in second.pull():
        second.report(message["id"], "Failed", error="Send result: RESULT_ERROR_GENERIC_FAILURE (1)")
    look()
    client.delete(f"/api/devices/{device_number(second)}")
    upkeep.move()
    assert counts(number)["failed"] == 40, "there is none left"
