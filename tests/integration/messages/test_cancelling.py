"""Cancelling before and after a phone has the message."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core.refusals import NOT_CONFIRMED


def cancel(client, message):
    return client.post(f"/api/sms/{message['id']}/cancel")


REFUSED = {"success": False, "message": "Only pending messages can be cancelled"}


def test_what_no_phone_was_given_is_cancelled_at_once(client, phone, send):
    message = send()
    answer = cancel(client, message)
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "success": True,
            "data": {"id": message["id"], "status": "cancelled"},
            "message": "SMS cancelled successfully",
        },
    )
    assert phone.pull() == []
    again = cancel(client, message)
    assert (again.status_code, again.json()) == (
        422,
        REFUSED | {"reason": "The message's status is cancelled.", "reason_code": "not_pending"},
    )


def test_a_phone_that_has_it_is_asked_and_confirms(client, phone, send, status_of):
    message = send()
    (pulled,) = phone.pull()
    phone.report(pulled["id"], "Pending")
    with phone.stream() as stream, ThreadPoolExecutor() as pool:
        asked = pool.submit(cancel, client, message)
        assert stream.until("MessageCancelled") == {"messageId": pulled["id"]}
        assert phone.report(pulled["id"], "Cancelled") == 204
        assert asked.result().json()["data"]["status"] == "cancelled"
    assert status_of(message) == "cancelled"
    assert phone.pull() == []


def test_a_phone_that_never_got_it_says_so_when_it_pulls(client, phone, send, status_of):
    """The answer to its pull was lost, so `MessageCancelled` names a message that it does not know."""
    message = send()
    (lost,) = phone.pull()
    phone.held.clear()
    with phone.stream() as stream, ThreadPoolExecutor() as pool:
        asked = pool.submit(cancel, client, message)
        stream.until("MessageCancelled")
        stream.until("MessageEnqueued")
        (offered,) = phone.pull()
        assert (offered["id"], offered["state"]) == (lost["id"], "Cancelling")
        assert phone.report(offered["id"], "Cancelled") == 204
        assert asked.result().status_code == 200
    assert status_of(message) == "cancelled"


def test_without_a_word_from_the_phone_it_is_refused_after_three_seconds_and_still_may_be_cancelled(
    client, phone, send, status_of, sql, ali
):
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin)"
        " VALUES (%s, 'status', 'http://example.org/s', 'http://example.org:80')",
        (ali.id,),
    )
    message = send()
    (pulled,) = phone.pull()
    began = time.monotonic()
    answer = cancel(client, message)
    assert (answer.status_code, answer.json()) == (
        422,
        REFUSED | {"reason": NOT_CONFIRMED.sentence, "reason_code": "not_confirmed"},
    )
    assert 2.5 < time.monotonic() - began < 5
    assert status_of(message) == "pending"
    phone.report(pulled["id"], "Cancelled")
    assert status_of(message) == "cancelled"
    ((body,),) = sql.execute("SELECT body::json FROM webhook_deliveries").fetchall()
    assert body["data"]["status"] == "cancelled"


def test_a_phone_that_already_sent_it_is_believed(client, phone, send, status_of):
    message = send()
    (pulled,) = phone.pull()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(cancel, client, message)
        phone.send(pulled["id"])
        assert asked.result().status_code == 422
    assert status_of(message) == "delivered"


def test_an_app_that_would_send_it_is_never_told_of_cancelling(client, enroll, send, status_of):
    old = enroll(version="1.66.2", name="old")
    message = send(device_id=old.device_id)
    (pulled,) = old.pull()
    with old.stream() as stream:
        stream.rest()
        began = time.monotonic()
        answer = cancel(client, message)
        assert (answer.status_code, answer.json()["message"]) == (422, REFUSED["message"])
        assert answer.json()["reason"] == (
            "old already has the message, and its app (version 1.66.2) cannot give it back; "
            "that requires version 1.67 or later."
        )
        assert time.monotonic() - began < 2, "nobody is waited for"
        assert "MessageCancelled" not in stream.rest()
    assert all(offered.get("state", "Pending") == "Pending" for offered in old.pull())
    old.send(pulled["id"])
    assert status_of(message) == "delivered"
    assert cancel(client, message).json() == REFUSED | {
        "reason": "The message's status is delivered.",
        "reason_code": "not_pending",
    }


def test_an_app_that_was_set_back_is_not_offered_what_it_would_send(client, phone, send):
    message = send()
    phone.pull()
    assert cancel(client, message).status_code == 422
    phone.version = "1.66.0"
    phone.client.headers["User-Agent"] = "me.capcom.smsgateway/1.66.0"
    with phone.stream():
        assert phone.pull() == []


@pytest.mark.parametrize("name", ["999", "nonsense", "0190a1b2-0000-7000-8000-000000000000"])
def test_unknown_messages_are_a_404_before_anything_is_waited_for(client, name):
    answer = client.post(f"/api/sms/{name}/cancel")
    assert (answer.status_code, answer.json()["message"]) == (404, "No query results for model [SmsMessage].")


def test_only_the_owner_cancels(client, other, send):
    message = send()
    answer = client.post(f"/api/sms/{message['id']}/cancel", headers=other.headers)
    assert answer.status_code == 404


def test_many_wait_for_their_phones_without_stopping_others(client, phone, send):
    """Three seconds each, and more of them than there are threads for plain routes."""
    messages = [send(recipient_number=f"+99890111{number:04d}") for number in range(60)]
    for _ in range(3):
        phone.pull()
        for message in messages:
            phone.report(message["message_id"], "Pending")
    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(cancel, client, message) for message in messages]
        assert client.get(f"/api/sms/{messages[0]['id']}").status_code == 200
        assert not all(answer.done() for answer in asked), "it was answered while they waited"
        assert {answer.result().status_code for answer in asked} == {422}
