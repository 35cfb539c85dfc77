"""Validity, messages that nobody knows about, and sending again."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest


@pytest.fixture
def tick(work):
    from app.messages.life import expiry

    return lambda: work(expiry.expire)


def retry(client, message):
    return client.post(f"/api/sms/{message['id']}/retry")


def test_what_waits_does_not_expire_and_is_valid_from_the_moment_it_is_given_out(phone, send, later, tick, status_of):
    message = send()
    later(40 * 86_400)
    tick()
    assert status_of(message) == "pending"
    (pulled,) = phone.pull()
    left = datetime.fromisoformat(pulled["validUntil"]) - datetime.now(UTC)
    assert left == pytest.approx(timedelta(hours=24), abs=timedelta(minutes=1))


def test_what_no_phone_took_within_the_senders_own_validity_fails_as_expired(client, phone, send, later, tick):
    message = send(validity_period=300)
    later(301)
    assert phone.pull() == [], "not even where upkeep is late"
    tick()
    shown = client.get(f"/api/sms/{message['id']}").json()["data"]
    assert (shown["status"], shown["uncertain"]) == ("failed", False)
    assert shown["error_message"] == "The message expired before a phone could take it"


@pytest.mark.parametrize("accepted", [False, True])
def test_what_a_phone_never_reported_is_uncertain_ten_minutes_after_its_validity(
    client, phone, send, later, tick, status_of, accepted
):
    message = send()
    (pulled,) = phone.pull()
    if accepted:
        phone.report(pulled["id"], "Processed")
    later(86_401)
    tick()
    assert status_of(message) == "pending"
    assert retry(client, message).status_code == 422, "the phone may still have it"
    later(600)
    tick()
    shown = client.get(f"/api/sms/{message['id']}").json()["data"]
    assert (shown["status"], shown["uncertain"], shown["error_message"]) == ("failed", True, "The phone never reported")


def test_what_a_phone_says_it_has_is_never_waited_for_without_end(client, phone, send, later, tick, status_of):
    """As after the database was restored from a copy that is older than the phone's pull."""
    message = send()
    assert phone.report(message["message_id"], "Pending") == 204
    assert phone.pull() == [], "it has it"
    later(86_401)
    assert status_of(message) == "pending"
    later(600)
    tick()
    shown = client.get(f"/api/sms/{message['id']}").json()["data"]
    assert (shown["status"], shown["uncertain"], shown["error_message"]) == ("failed", True, "The phone never reported")


def test_what_a_phone_has_is_not_given_to_another_because_its_owner_called_it_failed(
    client, phone, send, later, status_of
):
    held, told = send("held"), send("told")
    names = {message["message"]: message["id"] for message in phone.pull()}
    for message in (held, told):
        client.put(f"/api/sms/{message['id']}", json={"status": "failed"})
        answer = retry(client, message)
        assert (answer.status_code, status_of(message)) == (422, "failed")
        assert answer.json()["message"] == "A phone was given this message and may still send it"
    assert phone.report(names["told"], "Failed") == 204
    assert retry(client, told).status_code == 200, "the phone is done with it"
    later(86_401)
    assert retry(client, held).status_code == 422
    later(600)
    assert retry(client, held).status_code == 200


def test_what_a_phone_sent_after_its_owner_called_it_failed_is_sent(client, phone, send, status_of):
    message = send()
    (pulled,) = phone.pull()
    client.put(f"/api/sms/{message['id']}", json={"status": "failed"})
    client.put(f"/api/sms/{message['id']}", json={"status": "sent"})
    assert status_of(message) == "failed", "an owner takes nothing back"
    assert phone.report(pulled["id"], "Sent") == 204
    assert status_of(message) == "sent"
    assert retry(client, message).status_code == 422


def test_a_late_report_is_believed(client, phone, send, later, tick):
    message = send()
    (pulled,) = phone.pull()
    later(87_100)
    tick()
    phone.report(pulled["id"], "Delivered")
    shown = client.get(f"/api/sms/{message['id']}").json()["data"]
    assert (shown["status"], shown["uncertain"], shown["error_message"]) == ("delivered", False, None)
    stats = client.get("/api/account").json()["data"]["stats"]
    assert (stats["total_sent"], stats["total_delivered"], stats["total_failed"]) == (1, 1, 0)


def failed(phone, send):
    message = send()
    (pulled,) = phone.pull()
    phone.report(pulled["id"], "Failed", error="Send result: RESULT_ERROR_NO_SERVICE")
    return message, pulled


def test_sending_again_goes_out_under_a_new_name(client, phone, send, status_of):
    message, pulled = failed(phone, send)
    answer = retry(client, message)
    assert (answer.status_code, answer.json()["data"]) == (200, {"id": message["id"], "status": "pending"})
    (again,) = phone.pull()
    assert again["id"] not in phone.held or again["id"] != pulled["id"], "a phone knows a name for ever"
    assert again["textMessage"] == pulled["textMessage"]
    phone.report(pulled["id"], "Failed", error="late and of the first sending")
    phone.report(pulled["id"], "Processed")
    assert status_of(message) == "pending"
    phone.send(again["id"])
    assert status_of(message) == "delivered"
    stats = client.get("/api/account").json()["data"]["stats"]
    assert (stats["total_sent"], stats["total_delivered"], stats["total_failed"], stats["total_pending"]) == (
        1,
        1,
        0,
        0,
    )


def test_if_the_first_sending_left_after_all_there_is_no_second(phone, send, client, status_of):
    message, pulled = failed(phone, send)
    retry(client, message)
    phone.report(pulled["id"], "Sent")
    assert status_of(message) == "sent"
    assert phone.pull() == []


def test_what_was_known_of_the_first_sending_is_no_news_of_the_second(phone, send, client, status_of):
    message = send()
    (pulled,) = phone.pull()
    phone.report(pulled["id"], "Sent")
    history = {"Sent": phone.now(), "Failed": phone.now()}
    phone.report(pulled["id"], "Failed", error="Delivery result: 64", states=history)
    retry(client, message)
    phone.report(pulled["id"], "Failed", error="Delivery result: 64", states=history)
    phone.report(pulled["id"], "Sent")
    assert status_of(message) == "pending"
    (again,) = phone.pull()
    assert again["id"] != pulled["id"]


def test_a_failure_with_its_history_ends_no_second_sending(phone, send, client, status_of):
    message, pulled = failed(phone, send)
    retry(client, message)
    phone.report(pulled["id"], "Failed", error="late", states={"Sent": phone.now()})
    assert status_of(message) == "pending"


def test_sending_again_begins_anew(enroll, send, client, settings_of):
    phone = enroll(name="dual", sims=[{"slotIndex": 0, "simNumber": 1}, {"slotIndex": 1, "simNumber": 2}])
    settings_of(phone, default_sim_slot=1)
    messages = [send(device_id=phone.device_id), send(device_id=phone.device_id, sim_slot=1)]
    for pulled in phone.pull():
        phone.report(pulled["id"], "Sent")
        phone.report(pulled["id"], "Failed", error="Delivery result: 64")
    settings_of(phone, default_sim_slot=0)
    for message in messages:
        retry(client, message)
        assert client.get(f"/api/sms/{message['id']}").json()["data"]["sent_at"] is None
        stages = client.get(f"/api/sms/{message['id']}/timeline").json()["data"]["stages"]
        assert [stage["stage"] for stage in stages if stage["attempt"] == 2] == ["retried", "routed"]
        first = [stage for stage in stages if stage["attempt"] == 1]
        assert [stage["stage"] for stage in first] == ["queued", "routed", "released", "accepted", "sent", "failed"]
        assert (first[-1]["error_message"], first[-1]["reason_code"]) == ("Delivery result: 64", "not_delivered")
    slots = {message["id"].partition(".")[0]: message["simNumber"] for message in phone.pull()}
    assert [slots[message["message_id"].replace("-", "")] for message in messages] == [1, 2], "the one it named stays"


@pytest.mark.parametrize("other", ["report", "delete", "cancel"])
def test_what_meets_a_retry_half_way_finds_the_whole_of_it(client, phone, send, sql, ali, other):
    """The other one began before the retry's commit: what it reads of the queue must not be older than the message."""
    from app.core.database import transaction
    from app.messages.life import retrying
    from app.messages.lookup import find

    message, pulled = failed(phone, send)
    act = {
        "report": lambda: phone.report(pulled["id"], "Delivered"),
        "delete": lambda: client.delete(f"/api/sms/{message['id']}").status_code,
        "cancel": lambda: client.post(f"/api/sms/{message['id']}/cancel").status_code,
    }[other]
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM messages WHERE id%'"
    )
    with ThreadPoolExecutor(1) as pool:
        with transaction() as session:
            retrying.retry(session, find(session, ali.id, str(message["id"])))
            answer = pool.submit(act)
            while sql.execute(waiting).fetchone() == (0,):
                assert not answer.done()
        assert answer.result() in {200, 204}
    assert sql.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)
    assert phone.pull() == []


def test_only_one_of_several_retries_at_once_is_taken(phone, send, client):
    for _ in range(10):
        message, _ = failed(phone, send)
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(retry, client, message) for _ in range(8)]
            assert sorted(answer.result().status_code for answer in answers) == [200] + [422] * 7
        (pulled,) = phone.pull()
        phone.send(pulled["id"])


def test_only_what_failed_is_sent_again(phone, send, client):
    message = send()
    answer = retry(client, message)
    assert (answer.status_code, answer.json()["message"]) == (422, "Only failed messages can be sent again")
    (pulled,) = phone.pull()
    phone.send(pulled["id"])
    assert retry(client, message).status_code == 422


def test_one_whose_phone_is_gone_is_refused_and_keeps_its_state(phone, send, client, status_of):
    message, _ = failed(phone, send)
    client.delete(f"/api/devices/{phone.device_id}")
    answer = retry(client, message)
    assert (answer.status_code, answer.json()["message"]) == (422, "No active device available")
    assert status_of(message) == "failed"


def test_a_message_is_sent_so_often_and_no_more_and_what_did_not_fail_hears_of_that_first(phone, send, client, sql):
    message, _ = failed(phone, send)
    sql.execute("UPDATE messages SET attempt = 989")
    assert retry(client, message).status_code == 200
    answer = retry(client, message)
    assert (answer.status_code, answer.json()["message"]) == (422, "Only failed messages can be sent again")
    (pulled,) = phone.pull()
    assert (len(pulled["id"]), pulled["id"].partition(".")[2]) == (36, "990")
    phone.report(pulled["id"], "Failed", error="Send result: RESULT_ERROR_NO_SERVICE")
    answer = retry(client, message)
    assert (answer.status_code, answer.json()["message"]) == (422, "A message can be sent at most 990 times")
