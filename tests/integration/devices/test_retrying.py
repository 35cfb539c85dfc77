"""Validity, messages that nobody knows about, and sending again."""

from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def tick(work):
    from app.messages import expiry

    return lambda: work(expiry.expire)


def retry(client, message):
    return client.post(f"/api/sms/{message['id']}/retry")


def test_what_no_phone_took_in_time_fails_as_expired(client, send, later, tick):
    message = send()
    later(86_401)
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


def test_only_one_of_two_retries_at_once_is_taken(phone, send, client):
    message, _ = failed(phone, send)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(retry, client, message) for _ in range(4)]
        assert sorted(answer.result().status_code for answer in answers) == [200, 422, 422, 422]
    assert len(phone.pull()) == 1


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
