"""A campaign keeps its own hours and its account's, by the clock of each recipient where that is asked for."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg.types.json import Jsonb

from app.campaigns import eligibility
from app.messages.dispatch import releasing
from app.messages.states import Stage


def around_now(first, last, zone="account", at=0):
    """Hours from and to so many hours from now, by a clock so many hours ahead of UTC."""
    now = datetime.now(UTC) + timedelta(hours=at)
    clock = [(now + timedelta(hours=hours)).strftime("%H:%M") for hours in (first, last)]
    return {"from": clock[0], "to": clock[1], "zone": zone}


OPEN, CLOSED = (-2, 2), (3, 6)
TOKYO = 9


@pytest.fixture
def release(work):
    def until_done():
        while work(releasing.reevaluate_hours):
            pass
        while work(releasing.release, eligibility.keepers):
            pass

    return until_done


@pytest.fixture
def set_hours(client):
    return lambda campaign, **hours: client.patch(f"/api/campaigns/{campaign}", json={"hours": hours or None})


def to_tokyo(sql, campaign, places):
    sql.execute(
        "UPDATE campaign_recipients SET number = '+8131234' || lpad(place::text, 4, '0')"
        " WHERE campaign_id = %s AND place <= %s",
        (campaign, places),
    )


def queued(sql):
    rows = sql.execute("SELECT stage, due_at IS NOT NULL, closes_at IS NOT NULL FROM message_queue")
    return [(Stage(stage), due, closes) for stage, due, closes in rows]


WAITING, HELD = (Stage.WAITING, False, True), (Stage.HELD, True, True)


def test_outside_its_hours_nothing_is_made_and_it_says_until_when(phone, campaign, ask, show, look, set_hours, sql):
    number = campaign(3, hours=around_now(*CLOSED))
    ask(number, "start")
    look()
    shown = show(number)
    assert (shown["counts"]["not_made"], shown["reason_code"]) == (3, "outside_hours")
    assert "next opening" in shown["reason"]
    assert set_hours(number, **around_now(*OPEN)).status_code == 200
    look()
    assert show(number)["counts"]["waiting"] == 3
    assert show(number)["reason_code"] is None
    assert queued(sql) == [WAITING] * 3


def test_recipients_have_clocks_of_their_own(phone, campaign, ask, show, look, sql, set_hours):
    number = campaign(5, hours=around_now(-1, 1, "recipient", at=TOKYO))
    to_tokyo(sql, number, 2)
    ask(number, "start")
    look()
    made = sql.execute("SELECT recipient_number FROM messages ORDER BY id").fetchall()
    assert [recipient[:3] for (recipient,) in made] == ["+81", "+81"]
    assert show(number)["counts"]["not_made"] == 3
    look()
    assert show(number)["reason_code"] == "outside_hours"
    set_hours(number)
    look()
    assert show(number)["counts"] | {"not_made": 0, "waiting": 5} == show(number)["counts"]


def test_a_contacts_zone_goes_first(client, phone, campaign, ask, look, sql):
    client.post("/api/contacts", json={"phone_number": "+998900000002", "time_zone": "Asia/Tokyo"})
    ask(campaign(3, hours=around_now(-1, 1, "recipient", at=TOKYO)), "start")
    look()
    assert sql.execute("SELECT recipient_number FROM messages").fetchall() == [("+998900000002",)]


def test_a_duplicate_asks_for_zones_anew(client, phone, campaign, ask, look, sql):
    number = campaign(3, hours=around_now(-1, 1, "recipient", at=TOKYO))
    ask(number, "start")
    look()
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    client.post("/api/contacts", json={"phone_number": "+998900000002", "time_zone": "Asia/Tokyo"})
    ask(client.post(f"/api/campaigns/{number}/duplicate").json()["data"]["id"], "start")
    look()
    assert sql.execute("SELECT recipient_number FROM messages").fetchall() == [("+998900000002",)]


def test_the_accounts_hours_narrow_a_campaigns(client, phone, campaign, ask, show, look):
    client.put("/api/settings", json={"allowed_hours": around_now(*CLOSED)})
    number = campaign(2, hours=around_now(*OPEN))
    ask(number, "start")
    look()
    assert show(number)["reason_code"] == "outside_hours"
    client.put("/api/settings", json={"allowed_hours": around_now(-1, 5)})
    look()
    assert show(number)["counts"]["waiting"] == 2


def test_what_was_made_and_waits_when_the_hours_end_is_held_until_the_next_opening(
    client, phone, campaign, ask, show, look, release, sql
):
    number = campaign(2, hours=around_now(*OPEN))
    ask(number, "start")
    look()
    sql.execute("UPDATE campaigns SET hours = hours || %s", (Jsonb(around_now(*CLOSED)),))
    sql.execute("UPDATE message_queue SET closes_at = clock_timestamp()")
    assert phone.pull() == []
    release()
    assert queued(sql) == [HELD, HELD]
    [message, *_] = client.get("/api/sms").json()["data"]["data"]
    waiting = client.get(f"/api/sms/{message['id']}/timeline").json()["data"]["waiting"]
    assert waiting["reason_code"] == "outside_hours_of_campaign"
    # Pausing and resuming lets nothing slip out before its time.
    ask(number, "pause")
    ask(number, "resume")
    assert queued(sql) == [HELD, HELD]
    sql.execute("UPDATE campaigns SET hours = hours || %s", (Jsonb(around_now(*OPEN)),))
    sql.execute("UPDATE message_queue SET due_at = clock_timestamp()")
    release()
    assert queued(sql) == [WAITING, WAITING]
    assert len(phone.pull()) == 2


def test_what_comes_due_while_its_campaign_is_paused_goes_when_it_is_resumed(phone, campaign, ask, look, release, sql):
    number = campaign(1, hours=around_now(*OPEN))
    ask(number, "start")
    look()
    sql.execute(f"UPDATE message_queue SET stage = {Stage.HELD}, due_at = clock_timestamp() + interval '1 hour'")
    ask(number, "pause")
    sql.execute("UPDATE message_queue SET due_at = clock_timestamp()")
    release()
    assert phone.pull() == []
    ask(number, "resume")
    release()
    assert len(phone.pull()) == 1


@pytest.mark.parametrize(
    ("hours", "field"),
    [
        ({"from": "9", "to": "20:00"}, "hours.from"),
        ({"from": "09:00", "to": "20:00", "days": [1]}, "hours.days.0"),
        ({"from": "09:00", "to": "20:00", "zone": "Mars"}, "hours.zone"),
    ],
)
def test_bad_hours_are_refused_by_field(client, hours, field):
    answer = client.post("/api/campaigns", json={"name": "Sale", "message": "Hi", "hours": hours})
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


def test_many_recipients_are_zoned_a_batch_at_a_time(phone, campaign, ask, show, look, sql, monkeypatch):
    monkeypatch.setattr(eligibility, "_ZONED_AT_ONCE", 2)
    number = campaign(5, hours=around_now(-1, 1, "recipient", at=TOKYO))
    sql.execute("UPDATE campaign_recipients SET number = '+81312345678' WHERE place = 5")
    ask(number, "start")
    for _ in range(3):
        look()
        sql.execute("UPDATE campaigns SET next_look_at = clock_timestamp()")
    look()
    assert show(number)["counts"]["waiting"] == 1


def test_what_is_sent_again_keeps_to_them(client, phone, campaign, ask, look, set_hours, release, sql):
    number = campaign(2, hours=around_now(*OPEN))
    ask(number, "start")
    look()
    first, second = [message["id"] for message in phone.pull()]
    for name in (first, second):
        phone.report(name, "Failed", error="RESULT_ERROR_GENERIC_FAILURE: 1")
    look()
    ask(number, "retry-failed")
    look()
    assert queued(sql) == [WAITING] * 2
    again = [message["id"] for message in phone.pull()]
    assert len(again) == 2
    for name in again:
        phone.report(name, "Failed", error="RESULT_ERROR_GENERIC_FAILURE: 1")
    sql.execute(
        "UPDATE campaigns SET hours = %s",
        (Jsonb({**around_now(*CLOSED), "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]}),),
    )
    [(one,)] = sql.execute("SELECT min(id) FROM messages").fetchall()
    assert client.post(f"/api/sms/{one}/retry").status_code == 200
    assert phone.pull() == []
    release()
    assert queued(sql) == [HELD]


def test_changed_hours_hold_for_what_waits_already(phone, campaign, ask, look, set_hours, release, sql):
    number = campaign(3)
    ask(number, "start")
    look()
    assert set_hours(number, **around_now(*CLOSED)).status_code == 200
    assert phone.pull() == []
    release()
    assert queued(sql) == [HELD] * 3
    set_hours(number)
    release()
    assert len(phone.pull()) == 3


def test_changed_hours_do_not_hurry_a_message_that_was_given_another_time(
    client, phone, campaign, ask, look, set_hours, release, sql
):
    number = campaign(1)
    ask(number, "start")
    look()
    set_hours(number, **around_now(*CLOSED))
    release()
    [message] = client.get("/api/sms").json()["data"]["data"]
    at = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    assert client.patch(f"/api/sms/{message['id']}", json={"send_at": at}).status_code == 200
    set_hours(number)
    release()
    assert phone.pull() == []
    assert queued(sql) == [(Stage.HELD, True, False)]


def test_hours_that_were_set_during_a_pause_hold_when_it_goes_on(phone, campaign, ask, look, set_hours, release, sql):
    number = campaign(3)
    ask(number, "start")
    look()
    ask(number, "pause")
    set_hours(number, **around_now(*CLOSED))
    release()
    ask(number, "resume")
    assert phone.pull() == []
    release()
    assert queued(sql) == [HELD] * 3


def test_so_do_the_accounts(phone, campaign, ask, look, client, release, sql):
    number = campaign(3)
    ask(number, "start")
    look()
    ask(number, "pause")
    client.put("/api/settings", json={"allowed_hours": around_now(*CLOSED)})
    release()
    ask(number, "resume")
    assert phone.pull() == []
    release()
    assert queued(sql) == [HELD] * 3


def test_a_pause_that_outlasts_what_the_hours_held_does_not_let_it_go(
    phone, campaign, ask, look, set_hours, release, sql
):
    number = campaign(3)
    ask(number, "start")
    look()
    set_hours(number, **around_now(*CLOSED))
    release()
    ask(number, "pause")
    sql.execute("UPDATE message_queue SET due_at = clock_timestamp()")
    release()
    ask(number, "resume")
    assert phone.pull() == []
    release()
    assert queued(sql) == [HELD] * 3
