"""From the row to the receiver."""

import time

from standardwebhooks import Webhook

from tests.integration.webhooks.conftest import (
    callback,
    execute,
    hasten,
    make_user,
    rows,
    set_url,
    states,
    status,
    value,
    write,
)
from tests.support.waiting import until
from tests.support.webhooks_receiver import answer, in_turn


def test_a_callback_arrives_signed_as_the_specification_says(receiver, deliverer) -> None:
    user = make_user()
    write(callback(user, receiver.url("/cb?x=1"), 7, id=7, status="delivered", message="Süß ✓"))
    [request] = receiver.wait_for(1)
    assert request.path == "/cb?x=1"
    assert request.json["event"] == "status"
    assert request.json["data"] == {"id": 7, "status": "delivered", "message": "Süß ✓"}
    assert request.json["timestamp"].endswith("Z")
    assert len(request.json["timestamp"]) == 27
    assert request.headers["content-type"] == "application/json"
    secret = value("SELECT secret FROM webhook_secrets WHERE user_id = :user", user=user)
    assert Webhook(secret).verify(request.body, request.headers) == request.json
    until(lambda: states()["delivered"] == 1)
    [attempt] = rows("SELECT url, status_code, answer, error, duration_ms FROM webhook_attempts")
    assert attempt[:4] == ("", 200, "ok", None)
    assert value("SELECT count(*) FROM webhook_queue") == 0


def test_account_hooks_go_to_the_account_url(receiver, deliverer) -> None:
    user, silent = make_user(), make_user("other@example.com")
    set_url(user, receiver.url("/status"))
    assert len(write(status(user, 1, n=1), status(silent, 2, n=2))) == 1
    receiver.wait_for(1)
    assert [(r.path, r.json["data"]) for r in receiver.received] == [("/status", {"n": 1})]


def test_five_hundred_then_two_hundred(receiver, deliverer) -> None:
    receiver.behaviour = in_turn(answer(500, b"oops"), answer(503), answer(200, b"fine"))
    user = make_user()
    write(callback(user, receiver.url(), 1))
    receiver.wait_for(1)
    for attempt in (1, 2):
        until(lambda n=attempt: value("SELECT attempt FROM webhook_queue WHERE lease_id IS NULL") == n)
        wait = value("SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) FROM webhook_queue")
        low, high = ((3.5, 6.1), (23.5, 36.1))[attempt - 1]
        assert low < wait < high
        hasten()
        receiver.wait_for(attempt + 1)
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    assert [row[0] for row in rows("SELECT status_code FROM webhook_attempts ORDER BY id")] == [500, 503, 200]
    assert value("SELECT attempts FROM webhook_deliveries") == 3
    assert len({r.webhook_id for r in receiver.received}) == 1
    assert len({r.body for r in receiver.received}) == 1


def test_given_up_after_eight_attempts_and_kept(receiver, deliverer) -> None:
    receiver.behaviour = answer(500)
    write(callback(make_user(), receiver.url(), 1))
    for n in range(1, 9):
        receiver.wait_for(n)
        until(lambda n=n: value("SELECT attempts FROM webhook_deliveries") == n)
        hasten()
    assert rows("SELECT state, error FROM webhook_deliveries") == [
        ("failed", "Given up after the last attempt of the schedule.")
    ]
    assert value("SELECT count(*) FROM webhook_queue") == 0


def test_the_first_delivery_after_a_pause_leaves_at_once(receiver, deliverer) -> None:
    user = make_user()
    write(callback(user, receiver.url(), 1))
    receiver.wait_for(1)
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    committed = time.monotonic()
    write(callback(user, receiver.url(), 2))
    assert receiver.wait_for(2)[1].at - committed < 0.2


def test_delivered_is_never_posted_before_sent_is_accepted(receiver, deliverer) -> None:
    receiver.behaviour = in_turn(answer(500), answer(200))
    user = make_user()
    set_url(user, receiver.url())
    write(status(user, 1, status="sent"), status(user, 1, status="delivered"), status(user, 2, status="sent"))
    receiver.wait_for(2)
    until(lambda: value("SELECT count(*) FROM webhook_queue WHERE attempt = 1") == 2)
    hasten()
    receiver.wait_for(5)
    first = [r.json["data"]["status"] for r in receiver.received if r.webhook_id]
    until(lambda: hasten() or value("SELECT count(*) FROM webhook_queue") == 0)
    of_message = [
        (r.json["data"]["status"], r.webhook_id)
        for r in receiver.received
        if r.json["data"]["status"] == "delivered" or r.webhook_id == receiver.received[0].webhook_id
    ]
    assert first[:2] == ["sent", "sent"]
    assert [s for s, _ in of_message] == ["sent", "sent", "delivered", "delivered"]


def test_a_changed_url_takes_what_waits(receiver, deliverer) -> None:
    user = make_user()
    set_url(user, "http://127.0.0.1:9/nobody")
    write(status(user, 1, n=1))
    until(lambda: value("SELECT count(*) FROM webhook_queue WHERE attempt = 1") == 1)
    set_url(user, receiver.url("/new"))
    hasten()
    assert receiver.wait_for(1)[0].path == "/new"
    until(lambda: value("SELECT url FROM webhook_deliveries WHERE state = 'delivered'") == receiver.url("/new"))


def test_a_removed_url_gives_up_what_waits(receiver, deliverer) -> None:
    user = make_user()
    set_url(user, "http://127.0.0.1:9/nobody")
    write(status(user, 1))
    until(lambda: value("SELECT count(*) FROM webhook_queue WHERE attempt = 1") == 1)
    execute("DELETE FROM webhook_urls")
    hasten()
    until(lambda: value("SELECT state FROM webhook_deliveries") == "failed")
    assert value("SELECT count(*) FROM webhook_queue") == 0
