"""Figures of phones and SIM cards."""

from concurrent.futures import ThreadPoolExecutor

import pytest

NO_SERVICE = "Send result: RESULT_ERROR_NO_SERVICE (…)"
GENERIC = "Send result: RESULT_ERROR_GENERIC_FAILURE (…)"
PERIODS = ("today", "last_7_days", "last_30_days")


@pytest.fixture
def fold(work):
    from app.devices import figures

    return lambda: work(figures.fold, 5000)


@pytest.fixture
def stats(client):
    return lambda phone: client.get(f"/api/devices/{phone.device_id}/stats").json()["data"]


def brief(period):
    return tuple(period[name] for name in ("sent", "delivered", "failed", "delivery_rate"))


def test_sent_delivered_and_failed_by_reason_today_and_in_days(client, phone, send, stats, fold, sql):
    assert brief(stats(phone)["today"]) == (0, 0, 0, 0)
    for _ in range(7):
        send()
    pulled = phone.pull()
    for message in pulled[:3]:
        phone.send(message["id"])
    phone.report(pulled[3]["id"], "Sent")
    phone.report(pulled[4]["id"], "Failed", error=NO_SERVICE)
    phone.report(pulled[5]["id"], "Failed", error=NO_SERVICE)
    phone.report(pulled[6]["id"], "Failed", error=GENERIC)
    for _ in range(2):
        told = stats(phone)
        for name in PERIODS:
            assert brief(told[name]) == (4, 3, 3, 75)
            assert [(row["reason_code"], row["count"]) for row in told[name]["failures"]] == [
                ("no_service", 2),
                ("generic", 1),
            ]
            assert told[name]["failures"][0]["reason"] == "The SIM card has no mobile service."
        (listed,) = client.get("/api/devices").json()["data"]
        assert brief(listed["today"]) == (4, 3, 3, 75)
        fold()
    assert sql.execute("SELECT count(*) FROM device_deltas").fetchone() == (0,)
    sql.execute("UPDATE device_totals SET day = day - 1")
    assert [told := stats(phone), [told[name]["sent"] for name in PERIODS]][1] == [0, 4, 4]
    sql.execute("UPDATE device_totals SET day = day - 7")
    assert [told := stats(phone), [told[name]["sent"] for name in PERIODS]][1] == [0, 0, 4]
    sql.execute("UPDATE device_totals SET day = day - 30")
    assert [told := stats(phone), [told[name]["sent"] for name in PERIODS]][1] == [0, 0, 0]


def test_old_days_are_cleaned_away(phone, send, fold, sql, work):
    from app.messages.life import cleaning

    send()
    (message,) = phone.pull()
    phone.send(message["id"])
    fold()
    sql.execute("UPDATE device_totals SET day = day - 40")
    for statement in cleaning.STATEMENTS:
        work(cleaning.clean, statement)
    assert sql.execute("SELECT count(*) FROM device_totals").fetchone() == (0,)


def test_the_median_times_are_of_the_messages(phone, send, stats, later):
    for _ in range(3):
        send()
    pulled = phone.pull()
    later(20)
    for message, seconds in zip(pulled, (10, 12, 19), strict=True):
        phone.report(message["id"], "Sent", states={"Sent": phone.now(seconds - 20)})
        phone.report(message["id"], "Delivered", states={"Sent": phone.now(seconds - 20), "Delivered": phone.now()})
    told = stats(phone)["today"]
    assert told["median_seconds_to_send"] == pytest.approx(12, rel=0.15)
    assert told["median_seconds_to_deliver"] == pytest.approx(8, rel=0.2)


def test_each_sim_card_has_its_own(enroll, send, stats, settings_of):
    phone = enroll(name="dual", sims=[{"slotIndex": 0, "simNumber": 1}, {"slotIndex": 1, "simNumber": 2}])
    for slot in (0, 1, 1):
        send(device_id=phone.device_id, sim_slot=slot)
    for message in phone.pull():
        if message["simNumber"] == 2:
            phone.send(message["id"])
        else:
            phone.report(message["id"], "Failed", error=GENERIC)
    told = stats(phone)
    assert brief(told["today"]) == (2, 2, 1, 100)
    assert [(sim["sim_slot"], *brief(sim["today"])) for sim in told["sims"]] == [(0, 0, 0, 1, 0), (1, 2, 2, 0, 100)]


def test_what_was_never_reported_counts_until_it_is(phone, send, stats, later, work):
    from app.messages.life import expiry

    send()
    (message,) = phone.pull()
    later(87_100)
    work(expiry.expire)
    assert [(row["reason_code"], row["count"]) for row in stats(phone)["today"]["failures"]] == [("never_reported", 1)]
    phone.report(message["id"], "Delivered")
    told = stats(phone)["today"]
    assert (brief(told), told["failures"]) == ((1, 1, 0, 100), [])


def test_reports_that_come_twice_count_once(phone, send, stats):
    send()
    (message,) = phone.pull()
    items = [phone.item(message["id"], state) for state in ("Processed", "Sent", "Delivered")]
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda _: phone.report_all(items), range(6))) == {204}
    assert brief(stats(phone)["today"]) == (1, 1, 0, 100)


def test_an_sms_that_was_not_delivered_was_sent(phone, send, stats):
    send()
    (message,) = phone.pull()
    phone.report(message["id"], "Sent")
    phone.report(message["id"], "Failed", error="Delivery result: 64")
    told = stats(phone)["today"]
    assert brief(told) == (1, 0, 1, 0)
    assert told["failures"][0]["reason_code"] == "not_delivered"


def test_a_failure_that_the_owner_told_gives_way_to_what_the_phone_says(client, phone, send, stats):
    message = send()
    (pulled,) = phone.pull()
    client.put(f"/api/sms/{message['id']}", json={"status": "failed"})
    assert brief(stats(phone)["today"]) == (0, 0, 1, 0)
    phone.report(pulled["id"], "Failed", error=NO_SERVICE)
    told = stats(phone)["today"]
    assert [(row["reason_code"], row["count"]) for row in told["failures"]] == [("no_service", 1)]


def test_what_no_phone_was_given_is_no_result_of_one(client, phone, send, stats, later, work):
    from app.messages.life import expiry

    send(validity_period=60)
    later(61)
    work(expiry.expire)
    assert brief(stats(phone)["today"]) == (0, 0, 0, 0)


def test_nobody_else_sees_them(api, other, phone):
    assert api.get(f"/api/devices/{phone.device_id}/stats", headers=other.headers).status_code == 404
