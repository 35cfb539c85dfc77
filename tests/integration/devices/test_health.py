"""Phones and SIM cards that fail lose their turn for a while."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.support.waiting import until

NO_SERVICE = "Send result: RESULT_ERROR_NO_SERVICE (…)"
GENERIC = "Send result: RESULT_ERROR_GENERIC_FAILURE (…)"
LIMIT = "Send result: RESULT_ERROR_LIMIT_EXCEEDED (…)"
CARDS = [{"slotIndex": 0, "simNumber": 1}, {"slotIndex": 1, "simNumber": 2}]
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


class Result(NamedTuple):
    device_id: int
    sim_slot: int
    sent: int
    failed: int
    reason: str | None


class Fleet:
    """Phones, the first of which fails everything, and one round of what workers do."""

    def __init__(self, client, phones, work, user):
        self.client, self.phones, self.work, self.user = client, phones, work, user
        self.bad = phones[0]
        self.error = GENERIC

    def queue(self, count=1, **fields):
        body = {"message": "x", "recipient_number": "+998901112233", "device_id": "active"} | fields
        answers = [self.client.post("/api/sms", json=body) for _ in range(count)]
        assert {answer.status_code for answer in answers} == {201}
        return [answer.json()["data"] for answer in answers]

    def route(self):
        from app.messages.dispatch import routing
        from app.messages.life import moving

        self.work(moving.move, self.user)
        self.work(routing.route_waiting, self.user)

    def fold(self):
        from app.devices import figures

        self.work(figures.fold, 5000)

    def round(self):
        """Every phone sends what it gets; how much each got."""
        self.route()
        got = []
        for phone in self.phones:
            pulled = phone.pull()
            got.append(len(pulled))
            for message in pulled:
                if phone is self.bad:
                    phone.report(message["id"], "Failed", error=self.error)
                else:
                    phone.send(message["id"])
        self.fold()
        return got

    def shown(self, phone):
        return self.client.get(f"/api/devices/{phone.device_id}").json()["data"]


@pytest.fixture
def fleet(client, enroll, work, ali):
    phones = [enroll(name=f"phone {number}") for number in range(5)]
    for phone in phones:
        phone.pull()
    return Fleet(client, phones, work, ali.id)


@pytest.fixture
def tick(work):
    from app.devices import alerts

    def once():
        return sum(alerts.notify_owner(account) for account in work(alerts.accounts))

    return once


def test_one_that_fails_everything_loses_its_turn_for_a_while_that_grows(fleet, later, sql):
    fleet.queue(20)
    assert fleet.round() == [4, 4, 4, 4, 4]
    shown = fleet.shown(fleet.bad)
    assert (shown["state"], shown["is_active"], shown["online"]) == ("failing", True, True)
    assert "SIM card 1" in shown["hint"]
    assert "no credit" in shown["hint"]
    assert [fleet.shown(phone)["state"] for phone in fleet.phones[1:]] == ["online"] * 4
    fleet.queue(20)
    assert fleet.round() == [0, 5, 5, 5, 5]
    for seconds in (60, 120, 240):
        later(seconds - 5)
        for phone in fleet.phones:
            phone.pull()
        fleet.queue(8)
        assert fleet.round()[0] == 0, "still resting"
        later(6)
        fleet.queue(20)
        assert fleet.round()[0] == 1, "one message to try"
        fleet.queue(8)
        assert fleet.round()[0] == 0
    later(481)
    for phone in fleet.phones:
        phone.pull()
    fleet.queue(20)
    bad, fleet.bad = fleet.bad, None
    assert fleet.round()[0] == 1
    assert fleet.shown(bad)["state"] == "online"
    fleet.queue(20)
    assert fleet.round() == [4, 4, 4, 4, 4]


def test_of_fifty_all_go_out_where_the_failures_certainly_did_not_leave(fleet, client):
    fleet.error = NO_SERVICE
    messages = fleet.queue(50)
    got = fleet.round()
    assert got[0] == 10
    for _ in range(3):
        fleet.round()
    states = [client.get(f"/api/sms/{message['id']}").json()["data"]["status"] for message in messages]
    assert states == ["delivered"] * 50


def test_what_waits_for_it_moves(fleet, sql):
    fleet.queue(40)
    fleet.route()
    first = fleet.bad.pull()[:8]
    for message in first:
        fleet.bad.report(message["id"], "Failed", error=GENERIC)
    for phone in fleet.phones[1:]:
        for message in phone.pull():
            phone.send(message["id"])
    fleet.queue(10)
    fleet.route()
    fleet.fold()
    fleet.route()
    place = "SELECT count(*) FROM message_queue q JOIN devices d ON d.id = q.device_id WHERE q.stage = 0"
    assert sql.execute(f"{place} AND d.device_id = %s", (fleet.bad.device_id,)).fetchone() == (0,)


def test_where_all_fail_none_loses_its_turn(fleet):
    for phone in fleet.phones[1:]:
        fleet.client.patch(f"/api/devices/{phone.device_id}", json={"is_active": False})
    fleet.queue(10)
    assert fleet.round()[0] == 10
    assert fleet.shown(fleet.bad)["state"] == "online", "nothing says that another would do better"


def test_a_few_failures_among_many_are_no_reason(fleet):
    fleet.bad = None
    fleet.queue(30)
    fleet.round()
    phone = fleet.phones[0]
    for _ in range(2):
        fleet.queue(20)
        fleet.route()
        for place, message in enumerate(phone.pull()):
            if place == 0:
                phone.report(message["id"], "Failed", error=GENERIC)
            else:
                phone.send(message["id"])
        fleet.round()
    assert fleet.shown(phone)["state"] == "online"


def test_failures_that_are_not_the_phones_do_not_count(fleet):
    fleet.error = "Delivery result: 64"
    fleet.queue(30)
    fleet.round()
    assert fleet.shown(fleet.bad)["state"] == "online"


def test_the_default_phone_loses_its_turn_too(fleet, client):
    fleet.queue(20)
    fleet.round()
    client.post("/api/devices/default-device", json={"device_id": fleet.bad.device_id})
    fleet.queue(8, device_id=None)
    assert fleet.round() == [0, 2, 2, 2, 2]
    fleet.queue(device_id=fleet.bad.device_id)
    assert fleet.round()[0] == 1, "one that is named is never replaced"


def test_where_no_other_is_online_it_gets_one_at_a_time(fleet, sql):
    fleet.queue(20)
    fleet.round()
    sql.execute(
        "UPDATE device_state s SET seen_at = clock_timestamp() - interval '1 day', pulled_at = NULL"
        " FROM devices d WHERE d.id = s.device_id AND d.device_id <> %s",
        (fleet.bad.device_id,),
    )
    fleet.queue(5)
    fleet.route()
    assert len(fleet.bad.pull()) == 1


def test_its_owner_gives_it_its_turn_back(fleet):
    fleet.queue(20)
    fleet.round()
    fleet.client.patch(f"/api/devices/{fleet.bad.device_id}", json={"is_active": True})
    assert fleet.shown(fleet.bad)["state"] == "online"
    fleet.queue(20)
    assert fleet.round()[0] == 4


def test_its_owner_is_told_once_and_once_that_it_works_again(fleet, tick, mailbox, sql, ali, later, client):
    client.put("/api/settings", json={"device_events": True})
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'status', 'http://example.org/s', 'http://example.org:80')",
        (ali.id,),
    )
    fleet.error = LIMIT
    client.put("/api/settings", json={"failover": False})
    fleet.queue(20)
    fleet.round()
    assert [tick(), tick()] == [1, 0]
    later(61)
    fleet.queue(20)
    bad, fleet.bad = fleet.bad, None
    fleet.round()
    assert [tick(), tick()] == [1, 0]
    assert [mail["Subject"] for mail in mailbox.mails] == [
        f"Phone failing: {bad.name}",
        f"Phone works again: {bad.name}",
    ]
    assert {mail["To"] for mail in mailbox.mails} == {ali.email}
    text = mailbox.mails[0].get_content()
    assert "sms_outgoing_check_max_count" in text, "the remedy of Android's own limit"
    rows = sql.execute("SELECT body FROM webhook_deliveries WHERE event = 'device' ORDER BY id")
    assert [json.loads(row[0])["data"]["state"] for row in rows] == ["failing", "online"]


def test_a_failing_card_is_passed_over_while_the_other_works(enroll, client, work, ali, later):
    phone = enroll(name="dual", sims=CARDS)
    client.patch(f"/api/devices/{phone.device_id}", json={"sim_selection": "alternate"})
    fleet = Fleet(client, [phone], work, ali.id)

    def slots(count):
        fleet.queue(count)
        fleet.route()
        used = []
        for message in phone.pull():
            used.append(message["simNumber"])
            if message["simNumber"] == 1:
                phone.report(message["id"], "Failed", error=GENERIC)
            else:
                phone.send(message["id"])
        fleet.fold()
        return used

    assert slots(10).count(1) == 5
    assert (fleet.shown(phone)["state"], "SIM card 1" in fleet.shown(phone)["hint"]) == ("failing", True)
    assert slots(6) == [2] * 6
    later(61)
    phone.pull()
    assert sorted(slots(6)) == [1] + [2] * 5, "one message to try"
    assert slots(6) == [2] * 6


def test_two_cards_that_fail_at_once_both_rest(enroll, sql):
    """Two workers judge one card each, and the second waits for the first."""
    from app.core.database import transaction
    from app.devices import health
    from workers.base import in_transaction

    enroll(name="dual", sims=CARDS)
    enroll(name="good")
    dual, good = (row[0] for row in sql.execute("SELECT id FROM devices ORDER BY id"))
    in_transaction(health.evaluate, [Result(good, 0, 5, 0, None)])
    with ThreadPoolExecutor(1) as pool, transaction() as session:
        health.evaluate(session, [Result(dual, 0, 0, 5, "generic")])
        second = pool.submit(in_transaction, health.evaluate, [Result(dual, 1, 0, 5, "generic")])
        until(lambda: sql.execute(WAITING).fetchone() == (1,))
        session.commit()
        second.result()
    rests = "SELECT sim_rests FROM device_state WHERE device_id = %s"
    assert sorted(sql.execute(rests, (dual,)).fetchone()[0]) == ["0", "1"]


def test_a_phone_that_goes_quiet_after_thirty_parts_gets_a_hint(client, phone, send, later, work, sql, ali):
    from app.messages.life import quiet

    for _ in range(20):
        send()
    for message in phone.pull():
        phone.send(message["id"])
    for _ in range(12):
        send()
    pulled = phone.pull()
    for message in pulled[:10]:
        phone.send(message["id"])
    for message in pulled[10:]:
        phone.report(message["id"], "Processed")
    assert work(quiet.accounts) == [ali.id]
    work(quiet.recognise, ali.id)
    shown = client.get(f"/api/devices/{phone.device_id}").json()["data"]
    assert (shown["state"], shown["hint"]) == ("online", None)
    later(400)
    sql.execute("UPDATE messages SET sent_at = sent_at - interval '400 seconds'")
    for _ in range(2):
        phone.pull()
        assert work(quiet.accounts) == [ali.id]
        work(quiet.recognise, ali.id)
        shown = client.get(f"/api/devices/{phone.device_id}").json()["data"]
    assert shown["state"] == "quiet"
    assert "settings put global sms_outgoing_check_max_count" in shown["hint"]
    stuck = client.get("/api/sms", params={"status": "pending"}).json()["data"]["data"][0]
    waiting = client.get(f"/api/sms/{stuck['id']}/timeline").json()["data"]["waiting"]
    assert waiting["reason_code"] == "quiet"
    for message in pulled[10:]:
        phone.send(message["id"])
    assert work(quiet.accounts) == [ali.id]
    work(quiet.recognise, ali.id)
    assert client.get(f"/api/devices/{phone.device_id}").json()["data"]["state"] == "online"
