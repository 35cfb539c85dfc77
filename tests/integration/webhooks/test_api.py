"""The routes under /api/webhooks."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from standardwebhooks import Webhook

from app.core.settings import get_settings
from app.messages.views import message_object
from app.webhooks.history import MAX_REPLAYS, MAX_REPLAYS_OF_MANY
from app.webhooks.records import SCHEDULE
from app.webhooks.trial import MAX_TESTS
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
from tests.support.webhooks_receiver import Receiver, answer, in_turn


@pytest.fixture
def mine(api, ali):
    api.headers.update(ali.headers)
    return api


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_urls_are_set_shown_and_removed_one_by_one(mine, method) -> None:
    def change(**urls):
        return mine.request(method, "/api/webhooks", json=urls)

    nothing = mine.get("/api/webhooks").json()
    assert nothing["success"] is True
    assert nothing["data"]["webhook_url_incoming"] is None
    assert nothing["data"]["webhook_url_status"] is None
    set_one = change(webhook_url_status=" https://example.com/s ")
    assert set_one.status_code == 200
    assert set_one.json()["message"] == "Webhooks updated successfully"
    assert set_one.json()["data"]["webhook_url_status"] == "https://example.com/s"
    both = change(webhook_url_incoming="https://example.com/i").json()["data"]
    assert (both["webhook_url_incoming"], both["webhook_url_status"]) == (
        "https://example.com/i",
        "https://example.com/s",
    )
    cleared = change(webhook_url_status=None, webhook_url_incoming="").json()["data"]
    assert (cleared["webhook_url_incoming"], cleared["webhook_url_status"]) == (None, None)
    assert change().status_code == 200


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.com/", "http or https"),
        ("not a url", "spaces"),
        ("https://user:secret@example.com/", "user name"),
        ("http://10.1.2.3/", "private, local or reserved"),
        ("http://2130706433/", "plain decimal"),
        ("http://0x7f.1/", "plain decimal"),
        ("http://[::ffff:10.0.0.1]/", "private, local or reserved"),
        ("https://example.com/" + "x" * 3000, "2000 characters"),
        ({"a": 1}, "must be a string"),
    ],
)
def test_hostile_urls_are_refused_by_name(mine, url, why) -> None:
    refused = mine.put("/api/webhooks", json={"webhook_url_status": url})
    assert refused.status_code == 422
    assert set(refused.json()) == {"success", "message", "errors"}
    [sentence] = refused.json()["errors"]["webhook_url_status"]
    assert sentence.startswith("The webhook url status field")
    assert why in sentence


def test_localhost_is_refused_unless_its_network_is_allowed(mine, configured) -> None:
    from app.webhooks.guard import check_address

    assert mine.put("/api/webhooks", json={"webhook_url_status": "http://localhost:1/"}).status_code == 200
    configured(WEBHOOK_ALLOWED_NETWORKS="")
    check_address.cache_clear()
    assert mine.put("/api/webhooks", json={"webhook_url_status": "http://localhost:1/"}).status_code == 422
    assert mine.put("/api/webhooks", json={"webhook_url_status": "http://nowhere.invalid/"}).status_code == 200


def test_abilities_and_plan(mine, ali, configured) -> None:
    reader = ali.token("sms:send")
    refused = mine.get("/api/webhooks", headers=reader)
    assert (refused.status_code, refused.json()["message"]) == (403, "Invalid ability provided.")
    assert mine.get("/api/webhooks", headers=ali.token("webhooks")).status_code == 200
    configured(FREE_FEATURES="api")
    gated = mine.put("/api/webhooks", json={"webhook_url_status": "https://example.com/"})
    assert (gated.status_code, gated.json()["upgrade"]) == (403, True)
    tested = mine.post("/api/webhooks/test", json={})
    assert (tested.status_code, tested.json()["upgrade"]) == (403, True)
    assert mine.post("/api/webhooks/test", json={}, headers={"Authorization": "Bearer 1|x"}).status_code == 401


def test_the_secret_is_shown_and_rotated(mine) -> None:
    first = mine.get("/api/webhooks/secret").json()["data"]
    assert first["secret"].startswith("whsec_")
    assert first["previous_valid_until"] is None
    assert mine.get("/api/webhooks/secret").json()["data"] == first
    rotated = mine.post("/api/webhooks/secret").json()["data"]
    assert rotated["secret"] != first["secret"]
    assert rotated["previous_valid_until"].endswith("Z")


def test_deliveries_are_listed_with_attempts_and_filtered(mine, ali, receiver, deliverer) -> None:
    receiver.behaviour = answer(500, b"no")
    set_url(ali.id, receiver.url("/status"))
    first, second = write(callback(ali.id, receiver.url("/cb"), 7, n=1), status(ali.id, 8, n=2))
    until(lambda: value("SELECT count(*) FROM webhook_attempts") == 2)
    page = mine.get("/api/webhooks/deliveries").json()["data"]
    assert [item["id"] for item in page["data"]] == [second, first]
    assert (page["total"], page["total_exact"], page["per_page"]) == (2, True, 50)
    one = page["data"][1]
    assert (one["event"], one["hook"], one["url"], one["sms_id"], one["state"]) == (
        "status",
        "callback",
        receiver.url("/cb"),
        7,
        "pending",
    )
    [attempt] = one["attempts"]
    assert (attempt["status"], attempt["answer"], attempt["error"]) == (500, "no", None)
    assert attempt["at"].endswith("Z")
    assert one["next_attempt_at"].endswith("Z")

    def ids(**query) -> list[int]:
        answered = mine.get("/api/webhooks/deliveries", params=query)
        assert answered.status_code == 200, answered.text
        return [item["id"] for item in answered.json()["data"]["data"]]

    assert ids(state="failed") == []
    assert ids(state="pending", event="status") == [second, first]
    assert ids(url=receiver.url("/status")) == [second]
    assert ids(message_id="7") == [first]
    assert ids(message_id="5f6f6fbc-8dbf-4ca5-9a6f-5f8d1f3f0f00") == []
    for bad in ({"state": "lost"}, {"event": "x"}, {"message_id": "x"}, {"per_page": "1000"}):
        answered = mine.get("/api/webhooks/deliveries", params=bad)
        assert (answered.status_code, set(answered.json()["errors"])) == (422, set(bad))
    whole = mine.get(f"/api/webhooks/deliveries/{first}").json()["data"]
    assert '"data":{"n":1}' in whole["body"]


def test_one_that_was_accepted_at_once_is_shown_as_one_that_was_not(mine, ali, receiver, deliverer) -> None:
    [first] = write(callback(ali.id, receiver.url("/cb"), 7))
    until(lambda: states() == {"delivered": 1})
    receiver.behaviour = in_turn(answer(500), answer(200))
    [second] = write(callback(ali.id, receiver.url("/cb"), 8))
    until(lambda: hasten() or states() == {"delivered": 2})
    [third] = write(callback(ali.id, "http://127.0.0.1:9/", 9))

    def listed(**query) -> list[dict]:
        page = mine.get("/api/webhooks/deliveries", params=query).json()["data"]
        assert page["total"] == len(page["data"])
        return page["data"]

    assert [item["id"] for item in listed(state="delivered")] == [second, first]
    assert [item["id"] for item in listed(state="delivered", message_id="7")] == [first]
    assert [item["id"] for item in listed(state="pending")] == [third]
    again, once = listed(state="delivered")
    assert [attempt["status"] for attempt in again["attempts"]] == [500, 200]
    [attempt] = once["attempts"]
    assert (attempt["status"], attempt["answer"], attempt["url"]) == (200, "ok", receiver.url("/cb"))
    assert once["finished_at"] == attempt["at"]
    assert again["finished_at"] >= again["attempts"][1]["at"]
    assert (once["error"], once["next_attempt_at"]) == (None, None)
    receiver.behaviour = answer(200)
    assert mine.post(f"/api/webhooks/deliveries/{first}/replay").json()["data"]["state"] == "pending"
    until(lambda: states()["delivered"] == 2)
    assert len(mine.get(f"/api/webhooks/deliveries/{first}").json()["data"]["attempts"]) == 2


def test_another_users_deliveries_do_not_exist(mine, ali, other) -> None:
    [theirs] = write(callback(other.id, "https://example.com/", 1))
    assert mine.get("/api/webhooks/deliveries").json()["data"]["data"] == []
    for path in (f"deliveries/{theirs}", "deliveries/x", "deliveries/99999999999999999999"):
        answered = mine.get(f"/api/webhooks/{path}")
        assert answered.status_code == 404
        assert answered.json() == {"success": False, "message": "No query results for model [WebhookDelivery]."}
        assert mine.post(f"/api/webhooks/{path}/replay").status_code == 404
    replayed = mine.post("/api/webhooks/deliveries/replay", json={"from": "2020-01-01T00:00:00Z"})
    assert replayed.json()["data"] == {"replayed": 0}
    backwards = mine.post("/api/webhooks/deliveries/replay", json={"from": "2020-01-02", "to": "2020-01-01"})
    assert backwards.json()["errors"] == {"to": ["The to field must be a date after or equal to from."]}


def _fail(receiver, n: int) -> None:
    receiver.behaviour = answer(500)
    execute("UPDATE webhook_queue SET attempt = 7")
    hasten()
    until(lambda: hasten() or states()["failed"] == n)


def test_a_failed_delivery_is_replayed_with_its_id_and_body(mine, ali, receiver, deliverer) -> None:
    receiver.behaviour = answer(500)
    [delivery] = write(callback(ali.id, receiver.url(), 1, n=1))
    until(lambda: value("SELECT attempts FROM webhook_deliveries") == 1)
    waiting = mine.post(f"/api/webhooks/deliveries/{delivery}/replay")
    assert (waiting.status_code, set(waiting.json())) == (422, {"success", "message", "reason_code"})
    _fail(receiver, 1)
    receiver.behaviour = answer(200)
    until(lambda: execute("UPDATE webhook_targets SET next_try_at = NULL") or True)
    replayed = mine.post(f"/api/webhooks/deliveries/{delivery}/replay")
    assert replayed.status_code == 200
    assert replayed.json()["data"]["state"] == "pending"
    until(lambda: states()["delivered"] == 1)
    assert len({(r.webhook_id, r.body) for r in receiver.received}) == 1
    again = mine.post(f"/api/webhooks/deliveries/{delivery}/replay")
    assert again.status_code == 200
    until(lambda: states()["delivered"] == 1)


def test_all_failed_of_a_time_are_replayed_once_the_url_is_set_again(mine, ali, receiver, deliverer) -> None:
    set_url(ali.id, receiver.url())
    receiver.behaviour = answer(500)
    write(*(status(ali.id, n) for n in range(1, 6)))
    until(lambda: value("SELECT count(*) FROM webhook_attempts") >= 1)
    _fail(receiver, 5)
    execute("UPDATE webhook_urls SET disabled_at = clock_timestamp(), disabled_reason = 'Nothing was accepted.'")
    shown = mine.get("/api/webhooks").json()["data"]
    assert shown["disabled_reason"] == "Nothing was accepted."
    assert shown["disabled_at"].endswith("Z")
    assert shown["status"]["disabled_at"] == shown["disabled_at"]
    span = {"from": "2020-01-01T00:00:00Z", "to": "2099-01-01T00:00:00Z"}
    assert mine.post("/api/webhooks/deliveries/replay", json=span).json()["data"] == {"replayed": 0}
    receiver.behaviour = answer(200)
    enabled = mine.put("/api/webhooks", json={"webhook_url_status": receiver.url()}).json()["data"]
    assert (enabled["disabled_at"], enabled["replayable"]) == (None, 5)
    old = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}
    assert mine.post("/api/webhooks/deliveries/replay", json=old).json()["data"] == {"replayed": 0}
    assert mine.post("/api/webhooks/deliveries/replay", json={"to": "2099-01-01"}).status_code == 422
    replayed = mine.post("/api/webhooks/deliveries/replay", json=span)
    assert replayed.json()["data"] == {"replayed": 5}
    until(lambda: states()["delivered"] == 5)
    assert mine.post("/api/webhooks/deliveries/replay", json=span).json()["data"] == {"replayed": 0}


def test_a_change_of_both_urls_locks_them_in_the_order_that_records_do(mine, ali, sql) -> None:
    both = {"webhook_url_status": "https://example.com/s", "webhook_url_incoming": "https://example.com/i"}
    assert mine.put("/api/webhooks", json=both).status_code == 200

    def lock(hook: str) -> None:
        sql.execute("SELECT FROM webhook_urls WHERE user_id = %s AND hook = %s FOR NO KEY UPDATE", [ali.id, hook])

    with ThreadPoolExecutor(1) as pool, sql.transaction():
        lock("incoming")
        changed = pool.submit(mine.put, "/api/webhooks", json=both | {"webhook_url_incoming": None})
        until(lambda: value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        lock("status")
    assert changed.result().status_code == 200


def test_a_corrected_url_gets_what_waits_at_once(mine, ali, receiver, deliverer) -> None:
    with Receiver(behaviour=answer(503, headers="Retry-After: 3600\r\n")) as wrong:
        assert mine.put("/api/webhooks", json={"webhook_url_status": wrong.url()}).status_code == 200
        write(status(ali.id, 1), status(ali.id, 1), status(ali.id, 2))
        # A wish of an hour holds what was tried; what was not waits behind it, or for the receiver.
        until(lambda: value("SELECT count(*) FROM webhook_queue WHERE attempt = 1 AND lease_id IS NULL") >= 1)
        until(lambda: value("SELECT count(*) FROM webhook_queue WHERE lease_id IS NOT NULL") == 0)
    write(callback(ali.id, receiver.url("/callback"), 3))
    receiver.wait_for(1)
    changed = time.monotonic()
    assert mine.put("/api/webhooks", json={"webhook_url_status": receiver.url("/right")}).status_code == 200
    received = receiver.wait_for(4)
    assert [r.path for r in received[1:]] == ["/right"] * 3
    assert received[-1].at - changed < 3


def test_a_call_under_way_to_the_old_url_is_tried_at_the_new_one_at_once(mine, ali, receiver, deliverer) -> None:
    answers = threading.Event()

    async def late(request, writer) -> None:
        await asyncio.get_running_loop().run_in_executor(None, answers.wait)
        await answer(500)(request, writer)

    with Receiver(behaviour=late) as wrong:
        mine.put("/api/webhooks", json={"webhook_url_status": wrong.url()})
        write(status(ali.id, 1))
        wrong.wait_for(1)
        mine.put("/api/webhooks", json={"webhook_url_status": receiver.url("/right")})
        answers.set()
        answered = time.monotonic()
        assert receiver.wait_for(1)[0].at - answered < 2


@pytest.mark.parametrize("code", [500, 410])
def test_the_last_call_to_an_old_url_ends_nothing(mine, ali, receiver, start_deliverer, code) -> None:
    answers = threading.Event()

    async def late(request, writer) -> None:
        await asyncio.get_running_loop().run_in_executor(None, answers.wait)
        await answer(code)(request, writer)

    with Receiver(behaviour=late) as wrong:
        mine.put("/api/webhooks", json={"webhook_url_status": wrong.url()})
        write(status(ali.id, 1))
        execute("UPDATE webhook_queue SET attempt = :last", last=len(SCHEDULE))
        start_deliverer()
        wrong.wait_for(1)
        mine.put("/api/webhooks", json={"webhook_url_status": receiver.url("/right")})
        answers.set()
        receiver.wait_for(1)
        until(lambda: states() == {"delivered": 1})
    assert mine.get("/api/webhooks").json()["data"]["disabled_at"] is None


def test_a_corrected_url_has_the_whole_schedule_before_it(mine, ali, receiver, start_deliverer) -> None:
    receiver.behaviour = answer(500)
    mine.put("/api/webhooks", json={"webhook_url_status": receiver.url("/wrong")})
    write(status(ali.id, 1))
    execute("UPDATE webhook_queue SET attempt = :last", last=len(SCHEDULE))
    mine.put("/api/webhooks", json={"webhook_url_status": receiver.url("/right")})
    start_deliverer()
    receiver.wait_for(1)
    until(lambda: value("SELECT count(*) FROM webhook_attempts"))
    assert (states(), value("SELECT attempt FROM webhook_queue")) == ({"pending": 1}, 1)


def test_a_test_webhook_shows_what_came_back(mine, ali, receiver) -> None:
    refused = mine.post("/api/webhooks/test", json={})
    assert (refused.status_code, refused.json()["message"]) == (422, "No webhook URL is set.")
    receiver.behaviour = answer(202, b"thanks")
    set_url(ali.id, receiver.url("/in"), "incoming")
    assert mine.post("/api/webhooks/test", json={"event": "status"}).status_code == 422
    tested = mine.post("/api/webhooks/test").json()
    assert tested["data"] | {"duration_ms": 0, "webhook_id": ""} == {
        "delivered": True,
        "url": receiver.url("/in"),
        "webhook_id": "",
        "status": 202,
        "answer": "thanks",
        "error": None,
        "duration_ms": 0,
    }
    [request] = receiver.received
    secret = mine.get("/api/webhooks/secret").json()["data"]["secret"]
    body = Webhook(secret).verify(request.body, request.headers)
    assert body["event"] == "incoming"
    row = defaultdict(lambda: None, message_id=uuid4())
    assert body["data"].keys() == message_object(row).keys() | {"test"}, "as in earnest"
    set_url(ali.id, "http://127.0.0.1:9/", "incoming")
    failed = mine.post("/api/webhooks/test", json={"event": "incoming"}).json()["data"]
    assert (failed["delivered"], failed["status"]) == (False, None)
    assert failed["error"].startswith("The receiver cannot be connected to")


def test_tests_and_replays_are_limited_over_all_processes(mine, ali, receiver) -> None:
    set_url(ali.id, receiver.url(), "incoming")
    tested = [mine.post("/api/webhooks/test").status_code for _ in range(MAX_TESTS + 1)]
    assert tested == [200] * MAX_TESTS + [429]
    assert len(receiver.received) == MAX_TESTS
    [delivery] = write(callback(ali.id, receiver.url(), 1))
    one, many = f"/api/webhooks/deliveries/{delivery}/replay", "/api/webhooks/deliveries/replay"
    assert [mine.post(one).status_code for _ in range(MAX_REPLAYS + 1)][-2:] == [422, 429]
    span = {"from": "2026-01-01T00:00:00Z"}
    refused = [mine.post(many, json=span) for _ in range(MAX_REPLAYS_OF_MANY + 1)][-1]
    assert (refused.status_code, refused.json()["message"]) == (429, "Too Many Attempts.")
    assert 0 < int(refused.headers["Retry-After"]) <= 60


@pytest.mark.parametrize("length", [2000, 2001, 2005, 2048, 2049])
def test_the_length_of_a_url_is_limited_alike_everywhere(mine, ali, length) -> None:
    url = "https://receiver.example/".ljust(length, "x")
    sent = {"recipient_number": "+998901234567", "message": "Hi", "callback_url": url}
    for name, asked in (
        ("callback url", mine.post("/api/sms", json=sent)),
        ("callback url", mine.post("/api/sms/bulk", json={**sent, "recipients": ["+998901234567"]})),
        ("webhook url status", mine.put("/api/webhooks", json={"webhook_url_status": url})),
        ("webhook url incoming", mine.put("/api/webhooks", json={"webhook_url_incoming": url})),
    ):
        said = asked.json()["message"]
        assert (said == f"The {name} field must not be greater than 2000 characters.") == (length > 2000), said


def test_the_owner_of_a_url_that_was_switched_off_gets_one_mail(ali, monkeypatch) -> None:
    import socketserver

    from app.webhooks import notices

    mails: list[str] = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            while line := self.rfile.readline():
                command = line[:4].upper()
                if command == b"DATA":
                    self.wfile.write(b"354 go\r\n")
                    mail = b""
                    while (part := self.rfile.readline()) != b".\r\n":
                        mail += part
                    mails.append(mail.decode())
                self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")

    set_url(ali.id, "https://example.com/hook")
    execute("UPDATE webhook_urls SET disabled_at = clock_timestamp(), disabled_reason = 'Nothing was accepted.'")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("SMSFLEET_SMTP_URL", "smtp://127.0.0.1:9")
        get_settings.cache_clear()
        assert notices.notify_owners() == 0
        assert rows("SELECT owner_told_at FROM webhook_urls") == [(None,)]
        assert notices.notify_owners() == 0
        # As if the lease of the one that failed were over.
        execute("UPDATE webhook_urls SET telling_until = clock_timestamp()")
        monkeypatch.setenv("SMSFLEET_SMTP_URL", f"smtp://127.0.0.1:{server.server_address[1]}")
        get_settings.cache_clear()
        assert [notices.notify_owners(), notices.notify_owners()] == [1, 0]
        server.shutdown()
    [mail] = mails
    assert f"To: {ali.email}" in mail
    assert "https://example.com/hook" in mail


def test_a_mail_is_not_lost_with_the_process_that_was_sending_it(ali) -> None:
    from app.webhooks import notices

    set_url(ali.id, "https://example.com/hook")
    execute("UPDATE webhook_urls SET disabled_at = clock_timestamp(), disabled_reason = 'Nothing was accepted.'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        program = "from app.webhooks import notices; notices.notify_owners()"
        environment = os.environ | {"SMSFLEET_SMTP_URL": f"smtp://127.0.0.1:{server.getsockname()[1]}"}
        with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
            connection, _ = server.accept()
            with connection:
                process.kill()
    assert rows("SELECT owner_told_at FROM webhook_urls") == [(None,)]
    assert notices.notify_owners() == 0
    # As if the dead one's lease were over.
    execute("UPDATE webhook_urls SET telling_until = clock_timestamp()")
    assert notices.notify_owners() == 1
    assert notices.notify_owners() == 0


def test_mails_that_nobody_takes_keep_no_others(configured, mailbox) -> None:
    from app.webhooks import notices

    for number in range(notices.BATCH_SIZE + 1):
        set_url(make_user(f"owner{number}@example.com"), "https://example.com/hook")
    execute("UPDATE webhook_urls SET disabled_at = clock_timestamp(), disabled_reason = 'Nothing was accepted.'")
    address = get_settings().smtp_url.get_secret_value()
    configured(SMTP_URL="smtp://127.0.0.1:9")
    assert notices.notify_owners() == 0
    execute("UPDATE webhook_urls SET telling_until = clock_timestamp() WHERE telling_until IS NOT NULL")
    configured(SMTP_URL=address)
    notices.notify_owners()
    assert f"owner{notices.BATCH_SIZE}@example.com" in {mail["To"] for mail in mailbox.mails}
