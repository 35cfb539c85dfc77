"""Pace, limits, SIM cards and repeats of the hand-out, under concurrency too."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest


@pytest.fixture
def released(sql):
    """When each message was given out, and by which SIM slot, in order."""

    def times():
        return sql.execute(
            "SELECT released_at, sim_slot FROM message_queue WHERE stage > 0 UNION ALL SELECT released_at, sim_slot"
            " FROM messages WHERE status <> 'pending' AND released_at IS NOT NULL ORDER BY 1"
        ).fetchall()

    return times


def names(messages):
    return [message["id"] for message in messages]


def test_an_answer_holds_at_most_a_hundred_and_the_window_what_the_phone_sends(phone, client, sql):
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(300)]}
    assert client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id}).status_code == 201
    assert len(phone.pull()) == 20, "so much is given to a phone that nothing is known of"
    sql.execute("UPDATE device_state SET send_window = 100")
    assert len(phone.pull()) == 80
    assert phone.pull() == []


def test_a_message_is_offered_until_the_first_report_in_its_rhythm(phone, send, later):
    message = send()
    assert names(phone.pull()) == [message["message_id"]]
    assert phone.pull() == [], "not again within 30 seconds"
    later(31)
    (again,) = phone.pull()
    assert again["id"] == message["message_id"]
    with phone.stream() as stream:
        stream.until("SettingsUpdated")
        assert names(phone.pull()) == [message["message_id"]], "at once on the first pull after a new stream"
        assert phone.pull() == []
    phone.report(message["message_id"], "Pending")
    later(31)
    assert phone.pull() == []


def test_only_what_is_in_the_answer_counts_as_offered(phone, client, later, sql):
    sql.execute("UPDATE device_state SET send_window = 100")
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(200)]}
    client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id})
    accepted = phone.pull()
    assert phone.report_all([phone.item(message["id"], "Processed") for message in accepted]) == 204
    later(601)
    unreported = phone.pull()
    assert len(accepted) == len(unreported) == 100
    sql.execute("UPDATE message_queue SET cancelling = true WHERE stage = 2")
    later(31)
    answers = [phone.pull() for _ in range(3)]
    assert [len(answer) for answer in answers] == [100, 100, 0]
    assert {message["state"] for message in answers[0]} == {"Cancelling"}, "asking back comes first"
    assert set(names(answers[1])) == set(names(unreported))


def test_single_goes_before_bulk_and_new_before_repeated(phone, send, client, later):
    repeated = send("repeated")
    phone.pull()
    later(31)
    body = {"message": "bulk", "recipients": ["+998901110001", "+998901110002"], "device_id": phone.device_id}
    client.post("/api/sms/bulk", json=body)
    single = send("single")
    texts = [message["message"] for message in phone.pull()]
    assert texts == ["single", "bulk", "bulk", "repeated"]
    assert {repeated["message_id"], single["message_id"]} <= set(phone.held)


def test_priorities_let_the_app_keep_its_pace(phone, send, client):
    send("single")
    client.post(
        "/api/sms/bulk", json={"message": "bulk", "recipients": ["+998901110001"], "device_id": phone.device_id}
    )
    assert {message["message"]: message["priority"] for message in phone.pull()} == {"single": 50, "bulk": 0}


def test_the_pace_is_one_message_a_slot_and_counts_from_the_last_release(phone, send, settings_of, later):
    settings_of(phone, send_delay_seconds=10)
    messages = [send(str(number)) for number in range(3)]
    given = []
    for seconds in (0, 5, 4, 2, 5, 6):
        later(seconds)
        pulled = names(phone.pull())
        for name in pulled:
            phone.report(name, "Sent")
        given.append(len(pulled))
    assert given == [1, 0, 0, 1, 0, 1]
    assert list(phone.held) == [message["message_id"] for message in messages]


def test_a_phone_that_was_away_gets_no_burst(phone, send, settings_of, later):
    settings_of(phone, send_delay_seconds=10)
    for number in range(5):
        send(str(number))
    later(3600)
    assert len(phone.pull()) == 1
    assert phone.pull() == []


def test_nothing_new_while_the_last_one_is_unreported_for_less_than_a_minute(phone, send, settings_of, later):
    settings_of(phone, send_delay_seconds=1)
    first, second = send("1"), send("2")
    assert names(phone.pull()) == [first["message_id"]]
    later(20)
    assert phone.pull() == []
    later(41)
    assert set(names(phone.pull())) == {first["message_id"], second["message_id"]}


def test_a_new_pace_counts_at_once(phone, send, settings_of, later):
    settings_of(phone, send_delay_seconds=3600)
    first, second = send("1"), send("2")
    phone.pull()
    phone.report(first["message_id"], "Sent")
    with phone.stream() as stream:
        stream.rest()
        settings_of(phone, send_delay_seconds=0)
        stream.until("SettingsUpdated")
        stream.until("MessageEnqueued")
    assert names(phone.pull()) == [second["message_id"]]


def test_the_pace_holds_against_many_pulls_at_once(phone, client, settings_of, released):
    """Threads with transactions of their own, as several API processes are."""
    from app.core.batching import Later
    from app.core.database import transaction
    from app.core.security import digest
    from app.messages.dispatch import handout
    from app.messages.life import opting_out

    settings_of(phone, send_delay_seconds=1)
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(20)]}
    client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id})
    pull = handout.Pull(digest(phone.token), "1.68.0")
    given = []

    def puller():
        while len(given) < 4:
            with transaction() as session:
                (outcome,) = opting_out.hand_out(session, [pull])
            if isinstance(outcome, Later):
                continue
            for message in outcome[1]:
                given.append(message.message_id)
                phone.report(str(message.message_id), "Sent")

    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(puller) for _ in range(4)]:
            worker.result()
    assert len(given) == len(set(given))
    gaps = [(later - earlier).total_seconds() for (earlier, _), (later, _) in pairwise(released())]
    assert len(gaps) >= 3
    assert min(gaps) >= 1.0


def test_pulls_at_once_are_given_the_same_or_nothing(phone, client, sql):
    """The app drops a pull in flight for a newer one, so pulls that are answered together are answered alike."""
    sql.execute("UPDATE device_state SET send_window = 100")
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(200)]}
    client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id})
    with ThreadPoolExecutor(8) as pool:
        answers = [names(answer.result()) for answer in [pool.submit(phone.pull) for _ in range(16)]]
    given = [answer for answer in answers if answer]
    assert len(given[0]) == 100
    assert all(answer == given[0] for answer in given)


def test_the_delay_may_be_spread(phone, send, settings_of, later, sql):
    settings_of(phone, send_delay_seconds=5, send_delay_spread_seconds=10)
    delays = set()
    for number in range(6):
        message = send(str(number))
        assert names(phone.pull()) == [message["message_id"]]
        phone.report(message["message_id"], "Sent")
        ((delay,),) = sql.execute(
            "SELECT extract(epoch FROM next_slot_at - last_release_at) FROM device_state"
        ).fetchall()
        assert 5 <= delay <= 15
        delays.add(delay)
        later(16)
    assert len(delays) > 1
    phone.sync()
    pushed = phone.settings["messages"]
    assert (pushed["send_interval_min"], pushed["send_interval_max"]) == (5, 15)


def test_segments_are_counted_in_windows_that_slide(phone, send, settings_of, later):
    settings_of(phone, limits={"per_minute": 4})
    long = "x" * 200
    sent = [send(text)["message_id"] for text in ("1", long, "2", long, "3")]
    given = []
    for seconds in (0, 30, 29, 2, 58, 3):
        later(seconds)
        new = names(phone.pull())
        given.append(len(new))
        for name in new:
            phone.report(name, "Sent")
    assert given == [3, 0, 0, 2, 0, 0], "one, two and one segments; then two and one"
    assert list(phone.held) == sent, "none overtook another"


def test_what_waits_says_until_when(phone, send, settings_of, client, sql):
    settings_of(phone, limits={"per_hour": 2})
    messages = [send(str(number)) for number in range(3)]
    assert len(phone.pull()) == 2
    assert phone.pull() == []
    waiting = client.get(f"/api/sms/{messages[2]['id']}/timeline").json()["data"]["waiting"]
    assert "has reached its limit per hour; the message waits until" in waiting["reason"]
    (seconds,) = sql.execute("SELECT extract(epoch FROM held_until - clock_timestamp()) FROM device_state").fetchone()
    assert 3500 < seconds <= 3600
    assert waiting["expected_at"] is not None


def test_a_phone_is_woken_when_its_limit_lets_go(phone, send, settings_of, sql):
    settings_of(phone, limits={"per_minute": 1})
    first, second = send("1"), send("2")
    assert names(phone.pull()) == [first["message_id"]]
    phone.report(first["message_id"], "Sent")
    sql.execute("UPDATE device_releases SET released_at = clock_timestamp() - interval '56 seconds'")
    with phone.stream() as stream:
        stream.rest(1)
        assert phone.pull() == []
        stream.until("MessageEnqueued", 10)
        assert names(phone.pull()) == [second["message_id"]]


def test_no_window_of_a_minute_ever_holds_more_than_the_limit(phone, client, settings_of, later, sql):
    settings_of(phone, limits={"per_minute": 5})
    body = {"message": "x", "recipients": [f"+9989011{number:05d}" for number in range(30)]}
    client.post("/api/sms/bulk", json=body | {"device_id": phone.device_id})
    for _ in range(60):
        for message in phone.pull():
            phone.report(message["id"], "Sent")
        later(7)
    window = "o.released_at > r.released_at - interval '1 minute' AND o.released_at <= r.released_at"
    (most, total) = sql.execute(
        "SELECT max(n), count(*) FROM (SELECT (SELECT sum(o.segments) FROM device_releases o"
        f" WHERE {window}) AS n FROM device_releases r) w"
    ).fetchone()
    assert (most, total) == (5, 30)


def test_a_message_longer_than_the_limit_goes_when_the_window_is_empty(phone, send, settings_of, later):
    settings_of(phone, limits={"per_minute": 2})
    short, long = send("short"), send("x" * 500)
    assert names(phone.pull()) == [short["message_id"]]
    later(61)
    assert long["message_id"] in names(phone.pull())


def test_recipients_of_a_month_are_counted_once(phone, send, settings_of, later):
    settings_of(phone, limits={"recipients_per_month": 2})
    for number in ("+998900000001", "+998900000002", "+998900000003", "+998900000001"):
        send(number, recipient_number=number)
    assert [message["message"] for message in phone.pull()] == ["+998900000001", "+998900000002", "+998900000001"]
    later(30 * 86_400 - 60)
    assert "+998900000003" not in [message["message"] for message in phone.pull()]


def test_each_sim_has_limits_of_its_own(phone, send, settings_of):
    settings_of(phone, limits={"per_minute": 10, "sims": {"0": {"per_minute": 1}, "1": {"per_minute": 2}}})
    for number in range(3):
        send(f"a{number}", sim_slot=0)
        send(f"b{number}", sim_slot=1)
    assert sorted(message["message"] for message in phone.pull()) == ["a0", "b0", "b1"]
    assert phone.pull() == []


def test_what_a_limit_of_recipients_lets_pass_is_still_routed(phone, client, settings_of, work, ali):
    settings_of(phone, limits={"recipients_per_month": 1})
    route_active(client, work, ali, "first", "+998900000001")
    assert texts(phone.pull()) == ["first"]
    held = route_active(client, work, ali, "new", "+998900000002")
    assert phone.pull() == []
    route_active(client, work, ali, "known", "+998900000001")
    assert texts(phone.pull()) == ["known"]
    waiting = client.get(f"/api/sms/{held['id']}/timeline").json()["data"]["waiting"]
    assert "limit" in waiting["reason"]


def test_what_names_another_sim_is_still_routed_when_the_default_one_is_spent(phone, client, settings_of, work, ali):
    settings_of(phone, limits={"sims": {"0": {"per_day": 1}}})
    route_active(client, work, ali, "first")
    assert texts(phone.pull()) == ["first"]
    route_active(client, work, ali, "held")
    assert phone.pull() == []
    route_active(client, work, ali, "other", sim_slot=1)
    assert texts(phone.pull()) == ["other"]


def test_a_limit_of_a_sim_that_is_not_the_default_holds_back_nothing_else(phone, client, settings_of, work, ali, send):
    settings_of(phone, limits={"sims": {"1": {"per_day": 1}}})
    send("one", sim_slot=1)
    send("held", sim_slot=1)
    assert texts(phone.pull()) == ["one"]
    route_active(client, work, ali, "usual")
    assert texts(phone.pull()) == ["usual"]


def test_what_is_held_back_hides_nothing_behind_it(phone, client, send, settings_of):
    settings_of(phone, limits={"recipients_per_month": 1})
    send("known", recipient_number="+998900000001")
    phone.pull()
    body = {"message": "new", "recipients": [f"+99891{n:07d}" for n in range(250)], "device_id": phone.device_id}
    assert client.post("/api/sms/bulk", json=body).status_code == 201
    behind = {"message": "behind", "recipients": ["+998900000001"], "device_id": phone.device_id}
    assert client.post("/api/sms/bulk", json=behind).status_code == 201
    assert texts(phone.pull()) == ["behind"]


def texts(pulled):
    return [message["message"] for message in pulled]


def route_active(client, work, ali, message, number="+998901112233", **fields):
    from app.messages.dispatch import routing

    body = {"message": message, "recipient_number": number, "device_id": "active", **fields}
    answer = client.post("/api/sms", json=body)
    assert answer.status_code == 201, answer.text
    work(routing.route_waiting, ali.id)
    return answer.json()["data"]


def test_without_limits_nothing_is_written_for_them(phone, send, sql):
    send()
    phone.pull()
    assert sql.execute("SELECT count(*) FROM device_releases").fetchone() == (0,)


TWO_SIMS = [{"slotIndex": 0, "simNumber": 1}, {"slotIndex": 1, "simNumber": 2}]


def test_the_sim_is_the_messages_own_the_phones_default_or_each_in_turn(enroll, send, settings_of):
    phone = enroll(name="dual", sims=TWO_SIMS)
    settings_of(phone, default_sim_slot=1)
    send("default", device_id=phone.device_id)
    send("own", device_id=phone.device_id, sim_slot=2)
    assert {message["message"]: message["simNumber"] for message in phone.pull()} == {"default": 2, "own": 3}
    settings_of(phone, sim_selection="alternate")
    for number in range(5):
        send(f"turn {number}", device_id=phone.device_id)
    pulled = phone.pull()
    send("turn 5", device_id=phone.device_id)
    pulled += phone.pull()
    assert [message["simNumber"] for message in pulled] == [1, 2, 1, 2, 1, 2]


def test_taking_turns_goes_on_with_the_sim_that_has_room(enroll, send, settings_of):
    phone = enroll(name="dual", sims=TWO_SIMS)
    settings_of(phone, sim_selection="alternate", limits={"sims": {"0": {"per_minute": 1}}})
    for number in range(4):
        send(str(number), device_id=phone.device_id)
    assert [message["simNumber"] for message in phone.pull()] == [1, 2, 2, 2]


@pytest.mark.parametrize("slot", [0, 1])
def test_a_phone_with_one_sim_does_not_alternate(enroll, send, settings_of, slot):
    phone = enroll(sims=TWO_SIMS[slot : slot + 1])
    settings_of(phone, sim_selection="alternate", default_sim_slot=0)
    for number in range(2):
        send(str(number), device_id=phone.device_id)
    assert [message["simNumber"] for message in phone.pull()] == [slot + 1] * 2


def test_a_deactivated_phone_gets_nothing_and_is_not_turned_away(phone, send, settings_of):
    send()
    settings_of(phone, is_active=False)
    assert phone.pull() == []
    settings_of(phone, is_active=True)
    assert len(phone.pull()) == 1


@pytest.mark.parametrize("order", ["lifo", "fifo"])
def test_both_orders_are_understood_and_no_other(phone, send, order):
    send()
    assert len(phone.pull(order)) == 1
    assert phone.client.get("/message?order=x", headers=phone.headers).status_code == 400
