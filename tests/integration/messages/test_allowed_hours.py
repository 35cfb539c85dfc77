"""Bulk messages keep to the account's allowed hours; single ones are not bound by them."""

from datetime import UTC, datetime, timedelta

import pytest

from app.messages.dispatch import releasing, routing
from app.messages.states import Stage

TO = "+998901112233"


def no_campaigns(session, campaigns):
    return {}


@pytest.fixture
def release(work):
    def until_done():
        while work(releasing.reevaluate_hours):
            pass
        while work(releasing.release, no_campaigns):
            pass

    return until_done


@pytest.fixture
def set_hours(client, release):
    def change(**values):
        answer = client.put("/api/settings", json=values)
        assert answer.status_code == 200, answer.text
        release()
        return answer.json()["data"]

    return change


@pytest.fixture
def bulk(client, phone):
    def post(*numbers, **fields):
        body = {"message": "Bulk", "recipients": list(numbers or [TO]), "device_id": phone.device_id} | fields
        answer = client.post("/api/sms/bulk", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    return post


def around_now(first, last, zone="UTC", now=None):
    """Hours from and to so many hours from now, by the clocks of the test's and the database's machine."""
    now = now or datetime.now(UTC)
    clock = [(now + timedelta(hours=hours)).strftime("%H:%M") for hours in (first, last)]
    return {"from": clock[0], "to": clock[1], "zone": zone}


OPEN, CLOSED = (-2, 2), (3, 6)


def texts(phone):
    return [message["message"] for message in phone.pull()]


def waiting(client, message):
    return client.get(f"/api/sms/{message['id']}/timeline").json()["data"]["waiting"]


def stages(sql):
    rows = sql.execute("SELECT stage, due_at IS NULL, closes_at IS NULL FROM message_queue ORDER BY message_id")
    return [(Stage(stage), no_due, no_closing) for stage, no_due, no_closing in rows]


AT_ONCE = (Stage.WAITING, True, False)
HELD = (Stage.HELD, False, False)


def test_settings_are_off_and_are_shown_as_they_were_set(client, set_hours):
    off = client.get("/api/settings").json()["data"]
    assert {name: off[name] for name in ("allowed_hours", "time_zone", "country_zones", "sticky_phone")} == {
        "allowed_hours": None,
        "time_zone": None,
        "country_zones": None,
        "sticky_phone": False,
    }
    wanted = {"from": "09:00", "to": "20:00", "days": ["sat", "mon"]}
    shown = set_hours(allowed_hours=wanted, time_zone="Asia/Tashkent", country_zones={"us": "America/Chicago"})
    assert shown["allowed_hours"] == {"from": "09:00", "to": "20:00", "days": ["mon", "sat"], "zone": "recipient"}
    assert (shown["time_zone"], shown["country_zones"]) == ("Asia/Tashkent", {"US": "America/Chicago"})
    assert set_hours(allowed_hours=None)["allowed_hours"] is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"allowed_hours": {"from": "9", "to": "20:00"}}, "allowed_hours.from"),
        ({"allowed_hours": {"from": "09:00"}}, "allowed_hours.to"),
        ({"allowed_hours": {"from": "09:00", "to": "20:00", "zone": "Nowhere"}}, "allowed_hours.zone"),
        ({"allowed_hours": "always"}, "allowed_hours"),
        ({"time_zone": "UTC+5"}, "time_zone"),
        ({"country_zones": {"XX": "UTC"}}, "country_zones.XX"),
        ({"country_zones": {"US": "Nowhere"}}, "country_zones.US"),
    ],
)
def test_bad_settings_are_refused_by_field(client, values, field):
    answer = client.put("/api/settings", json=values)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, [field])


def test_within_the_hours_nothing_waits(bulk, phone, set_hours, sql):
    set_hours(allowed_hours=around_now(*OPEN))
    bulk(zone := TO)
    assert zone
    assert stages(sql) in ([AT_ONCE], [HELD])  # by the recipient's clock
    sql.execute("DELETE FROM message_queue")
    set_hours(allowed_hours=around_now(*OPEN, zone="UTC"))
    bulk()
    assert stages(sql) == [AT_ONCE]
    assert texts(phone) == ["Bulk"]


def test_outside_the_hours_bulk_waits_for_the_opening_and_says_so(
    client, bulk, send, phone, set_hours, release, later, sql
):
    set_hours(allowed_hours=around_now(*CLOSED))
    (message,) = bulk()
    assert stages(sql) == [HELD]
    why = waiting(client, message)
    assert why["reason_code"] == "outside_hours"
    assert "UTC" in why["reason"]
    assert timedelta(hours=2, minutes=58) < datetime.fromisoformat(why["expected_at"]) - datetime.now(UTC)
    assert client.get("/api/sms?stage=scheduled").json()["data"]["total"] == 0  # nobody scheduled it
    send("Single")
    assert texts(phone) == ["Single"]
    set_hours(allowed_hours=around_now(-1, 2))
    assert stages(sql)[0] == AT_ONCE
    assert texts(phone) == ["Bulk"]


def test_what_waits_when_the_hours_end_waits_for_the_next_opening(client, bulk, phone, set_hours, release, sql):
    set_hours(allowed_hours=around_now(*OPEN))
    (message,) = bulk(validity_period=600)
    sql.execute("UPDATE message_queue SET closes_at = clock_timestamp() - interval '1 second'")
    assert texts(phone) == [], "its hours are over, whether or not a tick has looked"
    sql.execute("UPDATE users SET allowed_hours = jsonb_set(allowed_hours, '{zone}', '\"Pacific/Kiritimati\"')")
    sql.execute(  # now they begin in three hours there
        "UPDATE users SET allowed_hours = allowed_hours || jsonb_build_object("
        " 'from', to_char(clock_timestamp() AT TIME ZONE 'Pacific/Kiritimati' + interval '3 hours', 'HH24:MI'),"
        " 'to', to_char(clock_timestamp() AT TIME ZONE 'Pacific/Kiritimati' + interval '5 hours', 'HH24:MI'))"
    )
    release()
    assert stages(sql) == [HELD]
    assert waiting(client, message)["reason_code"] == "outside_hours"
    # Its validity stands still meanwhile.
    [left] = sql.execute("SELECT q.valid_until - q.due_at FROM message_queue q").fetchone()
    assert timedelta(seconds=590) < left <= timedelta(seconds=600)


def test_a_retry_keeps_to_the_hours_as_a_new_message_would(client, bulk, send, phone, set_hours, release, sql):
    bulk()
    send("Single")
    pulled = phone.pull()
    for message in pulled:
        phone.report(message["id"], "Failed", error="RESULT_ERROR_GENERIC_FAILURE: 1")
    set_hours(allowed_hours=around_now(*CLOSED))
    found = {message["message"]: message for message in client.get("/api/sms").json()["data"]["data"]}
    for message in found.values():
        assert client.post(f"/api/sms/{message['id']}/retry").status_code == 200
    assert texts(phone) == ["Single"], "before a tick has looked"
    release()
    assert waiting(client, found["Bulk"])["reason_code"] == "outside_hours"
    set_hours(allowed_hours=around_now(-1, 2))
    assert texts(phone) == ["Bulk"]


def test_hours_that_are_set_or_cleared_hold_for_what_waits_already(bulk, phone, set_hours, sql):
    bulk()
    assert stages(sql) == [(Stage.WAITING, True, True)]
    set_hours(allowed_hours=around_now(*CLOSED))
    assert stages(sql) == [HELD]
    assert texts(phone) == []
    set_hours(allowed_hours=None)
    assert stages(sql) == [(Stage.WAITING, True, True)]
    assert texts(phone) == ["Bulk"]


def test_what_is_scheduled_is_judged_when_it_is_due(client, bulk, phone, set_hours, release, later, sql):
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    set_hours(allowed_hours=around_now(*CLOSED))
    (message,) = bulk(send_at=at)
    assert waiting(client, message)["reason_code"] == "scheduled"
    sql.execute("UPDATE message_queue SET due_at = clock_timestamp()")
    release()
    assert stages(sql) == [HELD]
    assert waiting(client, message)["reason_code"] == "outside_hours"
    assert client.get("/api/sms?stage=scheduled").json()["data"]["total"] == 0, "its time has come"
    # Changed hours do not hurry a time that its sender wants.
    (later_one,) = bulk(send_at=at)
    set_hours(allowed_hours=None)
    assert waiting(client, later_one)["reason_code"] == "scheduled"
    assert texts(phone) == ["Bulk"]


def test_what_the_hours_held_keeps_the_time_that_its_owner_gives_it(client, bulk, phone, set_hours, sql):
    set_hours(allowed_hours=around_now(*CLOSED))
    (message,) = bulk()
    at = datetime.now(UTC) + timedelta(days=3)
    assert client.patch(f"/api/sms/{message['id']}", json={"send_at": at.isoformat()}).status_code == 200
    assert waiting(client, message)["reason_code"] == "scheduled"
    set_hours(allowed_hours=None)
    assert texts(phone) == []
    assert sql.execute("SELECT due_at FROM message_queue").fetchone() == (at,)


def test_a_contact_has_a_clock_of_its_own(client, bulk, set_hours, sql):
    """Tokyo's clock shows an allowed time when Tashkent's, four hours behind it, does not."""
    contact = {"phone_number": TO, "time_zone": "Asia/Tokyo"}
    made = client.post("/api/contacts", json=contact)
    assert made.json()["data"]["time_zone"] == "Asia/Tokyo"
    there = datetime.now(UTC) + timedelta(hours=9)
    set_hours(allowed_hours=around_now(-1, 1, zone="recipient", now=there))
    bulk(TO, "+998901112234")
    assert stages(sql) == [AT_ONCE, HELD]
    path = f"/api/contacts/{made.json()['data']['id']}"
    assert client.put(path, json={"time_zone": "Tokyo"}).json()["errors"].keys() == {"time_zone"}
    assert client.put(path, json={"time_zone": None}).json()["data"]["time_zone"] is None


def test_a_guessed_zone_is_told_as_such(client, bulk, set_hours):
    there = datetime.now(UTC) + timedelta(hours=-5)
    set_hours(allowed_hours=around_now(4, 6, zone="recipient", now=there))
    (message,) = bulk("+18005550123")
    assert waiting(client, message)["reason_code"] == "outside_hours_guessed"


def test_a_bulk_of_many_that_is_partly_open_wakes_for_those(client, phone, set_hours, ali, work, sql):
    there = datetime.now(UTC) + timedelta(hours=9)
    set_hours(allowed_hours=around_now(-1, 1, zone="recipient", now=there))
    body = {"message": "Hi", "recipients": ["+998901112233", "+81312345678"], "device_id": "active"}
    client.post("/api/sms/bulk", json=body)
    assert stages(sql) == [HELD, AT_ONCE]
    assert work(routing.route_waiting, ali.id) == 1
    assert [message["phoneNumbers"] for message in phone.pull()] == [["+81312345678"]]


def test_a_change_of_hours_passes_over_what_a_hand_out_holds(client, bulk, set_hours, sql, work):
    """The hand-out's row is locked in another session; the others are judged anew and nobody waits."""
    from sqlalchemy import text

    from app.core.database import transaction

    bulk(TO, "+998901112234")
    with transaction() as session:
        session.execute(text("SELECT FROM message_queue ORDER BY message_id LIMIT 1 FOR NO KEY UPDATE"))
        set_hours(allowed_hours=around_now(*CLOSED))
        assert stages(sql) == [(Stage.WAITING, True, True), HELD]


def test_many_are_judged_anew_in_batches_that_go_on_where_the_last_ended(client, bulk, work, sql, monkeypatch):
    monkeypatch.setattr(releasing, "BATCH_SIZE", 2)
    bulk(*[f"+9989011122{number:02}" for number in range(5)])
    client.put("/api/settings", json={"allowed_hours": around_now(*CLOSED)})
    assert work(releasing.reevaluate_hours)
    assert sum(not no_closing for _, _, no_closing in stages(sql)) == 2
    # A tick in between judges what was marked, and it is not marked again.
    assert work(releasing.release, no_campaigns) == 2
    assert stages(sql)[:2] == [HELD, HELD]
    assert [work(releasing.reevaluate_hours) for _ in range(3)] == [True, True, False]
    while work(releasing.release, no_campaigns):
        pass
    assert stages(sql) == [HELD] * 5


def test_of_two_that_judge_one_account_anew_one_does(client, bulk, set_hours, sql):
    from app.core.database import transaction

    bulk()
    client.put("/api/settings", json={"allowed_hours": around_now(*CLOSED)})
    with transaction() as one, transaction() as two:
        assert (releasing.reevaluate_hours(one), releasing.reevaluate_hours(two)) == (True, False)


def test_what_was_being_written_by_the_hours_before_is_judged_when_it_has_ended(client, bulk, set_hours, work, sql):
    bulk(TO)
    set_hours(allowed_hours=around_now(*CLOSED))
    # As a bulk writes it that had read the hours before.
    sql.execute("UPDATE message_queue SET stage = 0, due_at = NULL, closes_at = NULL")
    assert not work(releasing.reevaluate_hours), "it may not have ended yet"
    sql.execute("UPDATE users SET hours_set_at = hours_set_at - interval '91 seconds'")
    assert [work(releasing.reevaluate_hours) for _ in range(2)] == [True, False]
    work(releasing.release, no_campaigns)
    assert stages(sql) == [HELD]
    assert sql.execute("SELECT count(*) FROM users WHERE hours_set_at IS NOT NULL").fetchone() == (0,)


def test_the_second_look_at_many_goes_on_where_the_last_ended(client, bulk, set_hours, work, sql, monkeypatch):
    monkeypatch.setattr(releasing, "BATCH_SIZE", 2)
    bulk(*[f"+9989011122{number:02}" for number in range(5)])
    set_hours(allowed_hours=around_now(*CLOSED))
    sql.execute("UPDATE message_queue SET stage = 0, due_at = NULL, closes_at = NULL")
    sql.execute("UPDATE users SET hours_set_at = hours_set_at - interval '91 seconds'")
    assert [work(releasing.reevaluate_hours) for _ in range(4)] == [True, True, True, False]
    while work(releasing.release, no_campaigns):
        pass
    assert stages(sql) == [HELD] * 5
