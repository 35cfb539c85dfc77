"""The same key and body give the first answer again and send nothing, also over two processes, and after a crash."""

import hashlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.accounts.principals import Principal
from app.core.database import transaction
from app.core.errors import Conflict
from app.messages.accepting import bulk as bulk_sends
from app.messages.accepting import bulk_keys
from app.messages.schemas import BulkDraft
from tests.support.messages_of import add_phone
from tests.support.waiting import until

OTHER = {
    "success": False,
    "message": "This Idempotency-Key was already used for another request.",
    "reason_code": "key_used",
}
UNDER_WAY = {
    "success": False,
    "message": "A request with this Idempotency-Key is still being processed.",
    "reason_code": "key_in_use",
}
ONE = {"message": "Hello", "recipient_number": "+998901234567"}
MANY = {"message": "Hello", "recipients": ["+998901234567", "+998901112233"]}
CALLS = {"/api/sms": ONE, "/api/sms/bulk": MANY}


def in_hours(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.fixture
def phone(ali, sql) -> int:
    return add_phone(sql, ali)


@pytest.fixture
def post(api, ali):
    def call(path, body, key="key-1", headers=None, client=api):
        return client.post(path, json=body, headers={**(headers or ali.headers), "Idempotency-Key": key})

    return call


@dataclass(frozen=True)
class Running:
    """A gateway in a process of its own."""

    process: subprocess.Popen[bytes]
    client: httpx.Client


@pytest.fixture
def processes(database) -> Iterator[list[Running]]:
    """Two gateways, each a process of its own, on the test's database."""
    started: list[Running] = []
    try:
        for _ in range(2):
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                listener.listen(128)
                port = listener.getsockname()[1]
                command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory"]
                options = ["--fd", str(listener.fileno()), "--log-level", "warning", "--timeout-graceful-shutdown", "5"]
                process = subprocess.Popen([*command, *options], pass_fds=[listener.fileno()])
            started.append(Running(process, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)))
        for running in started:
            # The socket takes connections already, so the first request waits until it is served.
            assert running.client.get("/health/live").status_code == 200
        yield started
    finally:
        for running in started:
            running.client.close()
            running.process.terminate()
        for running in started:
            running.process.wait(60)


def messages(sql) -> int:
    return sql.execute("SELECT count(*) FROM messages").fetchone()[0]


def age(sql, by: timedelta) -> None:
    sql.execute("UPDATE idempotency_keys SET created_at = created_at - %s, lease_until = lease_until - %s", (by, by))


@pytest.mark.parametrize("path", CALLS)
def test_the_first_answer_again(post, phone, ali, sql, api, path):
    first = post(path, CALLS[path])
    assert first.status_code == 201
    made = messages(sql)
    # Routed, sent and hidden since: the answer is still what the first one was.
    sql.execute("UPDATE messages SET device_id = %s, status = 'sent', routed_at = now(), sent_at = now()", (phone,))
    again = post(path, CALLS[path])
    assert (again.status_code, again.json()) == (201, first.json())
    data = first.json()["data"]
    message = data["id"] if path == "/api/sms" else data[0]["id"]
    api.delete(f"/api/sms/{message}", headers=ali.headers)
    assert post(path, CALLS[path]).json() == first.json()
    assert messages(sql) == made


@pytest.mark.parametrize("path", CALLS)
def test_another_body_is_refused(post, phone, sql, path):
    assert post(path, CALLS[path]).status_code == 201
    made = messages(sql)
    answer = post(path, {**CALLS[path], "message": "Bye"})
    assert (answer.status_code, answer.json()) == (422, OTHER)
    assert messages(sql) == made


@pytest.mark.parametrize("path", CALLS)
def test_keys_are_of_a_user_and_a_route_and_last_a_day(post, phone, other, sql, path):
    add_phone(sql, other)
    ids = {post(route, body).text for route, body in CALLS.items()}
    ids.add(post(path, CALLS[path], headers=other.headers).text)
    ids.add(post(path, CALLS[path], key="key-2").text)
    assert len(ids) == 4
    age(sql, timedelta(hours=23, minutes=59))
    assert post(path, CALLS[path]).text in ids
    age(sql, timedelta(minutes=2))
    ids.add(post(path, {**CALLS[path], "message": "Bye"}).text)
    assert len(ids) == 5


@pytest.mark.parametrize("path", CALLS)
def test_a_refused_send_leaves_its_key_free(post, ali, sql, path):
    assert post(path, CALLS[path]).json()["message"] == "No active device available"
    assert post(path, {**CALLS[path], "message": ""}).status_code == 422
    add_phone(sql, ali)
    assert post(path, CALLS[path]).status_code == 201


@pytest.mark.parametrize("path", CALLS)
def test_the_key_itself(post, phone, sql, path):
    too_long = post(path, CALLS[path], key="k" * 256)
    assert too_long.json()["errors"] == {
        "idempotency_key": ["The idempotency key must not be greater than 255 characters."]
    }
    assert post(path, CALLS[path], key="k" * 255).status_code == 201
    made = messages(sql)
    assert post(path, CALLS[path], key="").text != post(path, CALLS[path], key="").text
    assert messages(sql) == 3 * made


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("send_at", [None, in_hours(48)], ids=["now", "another time"])
def test_a_message_that_was_given_another_time_is_answered_as_at_first(api, ali, post, phone, path, send_at):
    body = {**CALLS[path], "send_at": in_hours(24)}
    first = post(path, body)
    message = first.json()["data"] if path == "/api/sms" else first.json()["data"][0]
    changed = api.patch(f"/api/sms/{message['id']}", json={"send_at": send_at}, headers=ali.headers)
    assert changed.status_code == 200
    assert post(path, body).json() == first.json()


def test_skipped_recipients_are_told_again(post, phone):
    body = {**MANY, "recipients": ["+998901234567", "12"], "skip_invalid": True}
    first = post("/api/sms/bulk", body).json()
    assert len(first["skipped"]) == 1
    assert post("/api/sms/bulk", body).json() == first


NATIONAL = {
    "/api/sms": {"message": "Hello", "recipient_number": "901234567"},
    "/api/sms/bulk": {"message": "Hello", "recipients": ["901234567", "12"], "skip_invalid": True},
}


@pytest.mark.parametrize("path", NATIONAL)
def test_numbers_are_not_read_again_by_another_region(api, ali, post, phone, sql, path):
    api.put("/api/settings", json={"default_region": "UZ"}, headers=ali.headers)
    first = post(path, NATIONAL[path])
    assert first.status_code == 201
    for region in (None, "US"):
        api.put("/api/settings", json={"default_region": region}, headers=ali.headers)
        again = post(path, NATIONAL[path])
        assert (again.status_code, again.json()) == (201, first.json())
    api.put("/api/settings", json={"default_region": None}, headers=ali.headers)
    assert post(path, NATIONAL[path], key="key-2").status_code == 422
    assert messages(sql) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/sms", {**ONE, "callback_url": "https://example.com/sms/callback"}), ("/api/sms/bulk", MANY)],
)
def test_the_plan_is_not_asked_again(api, ali, post, phone, sql, configured, path, body):
    first = post(path, body)
    assert first.status_code == 201
    made = messages(sql)
    configured(FREE_FEATURES="api")
    again = post(path, body)
    assert (again.status_code, again.json()) == (201, first.json())
    # A key that stands for nothing yet, none, and a blank one; the refused key stays free.
    for headers in ({"Idempotency-Key": "key-2"}, {}, {"Idempotency-Key": ""}):
        refused = api.post(path, json=body, headers={**ali.headers, **headers})
        assert (refused.status_code, refused.json()["upgrade"]) == (403, True)
    assert post(path, {**body, "message": "Bye"}).json() == OTHER
    assert messages(sql) == made
    configured(FREE_FEATURES="api,webhooks,bulk")
    assert post(path, body, key="key-2").status_code == 201


def test_many_keys_at_once_in_two_processes(processes, post, phone, sql):
    """Each key is sent eight times, four through either process, all at the same time as the others."""
    keys = [f"key-{n}" for n in range(40)]

    def send(call):
        key, client = call
        return key, post("/api/sms", {**ONE, "my_id": key}, key, client=client)

    with ThreadPoolExecutor(32) as pool:
        calls = [(key, running.client) for running in processes for _ in range(4) for key in keys]
        answers = list(pool.map(send, calls))
    assert {answer.status_code for _, answer in answers} == {201}
    by_key = {key: {answer.text for told, answer in answers if told == key} for key in keys}
    assert all(len(texts) == 1 for texts in by_key.values())
    assert messages(sql) == len(keys)
    assert sql.execute("SELECT sum(n) FROM usage_deltas WHERE kind = 'accepted'").fetchone() == (len(keys),)


def test_one_bulk_of_many_at_once_in_two_processes(processes, post, phone, sql):
    body = {"message": "Hello", "recipients": [f"+99890{n:07}" for n in range(20_000)]}

    def send(running):
        return post("/api/sms/bulk", body, client=running.client)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, processes * 3))
    done = [answer for answer in answers if answer.status_code == 201]
    meanwhile = [answer for answer in answers if answer.status_code == 409]
    assert len(done) + len(meanwhile) == 6
    assert len({answer.text for answer in done}) == 1
    for answer in meanwhile:
        assert (answer.json(), answer.headers["Retry-After"]) == (UNDER_WAY, "2")
    assert meanwhile
    assert messages(sql) == 20_000
    assert post("/api/sms/bulk", body, client=processes[1].client).text == done[0].text


def _claim(user, body) -> tuple[datetime, bytes]:
    """What a process has done that died right after claiming the key."""
    request_hash = hashlib.sha256(body).digest()
    return bulk_keys.claim(user.id, "key-1", request_hash), request_hash


def test_a_process_that_died_after_its_claim(api, ali, phone, sql):
    body = b'{"message": "Hello", "recipients": ["+998901234567"]}'
    _claim(ali, body)
    headers = {**ali.headers, "Idempotency-Key": "key-1", "Content-Type": "application/json"}
    answer = api.post("/api/sms/bulk", content=body, headers=headers)
    assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (409, UNDER_WAY, "2")
    age(sql, timedelta(seconds=61))
    assert api.post("/api/sms/bulk", content=body + b" ", headers=headers).json() == OTHER
    answer = api.post("/api/sms/bulk", content=body, headers=headers)
    assert (answer.status_code, messages(sql)) == (201, 1)
    assert api.post("/api/sms/bulk", content=body, headers=headers).json() == answer.json()


def _finish(user: Principal, draft: BulkDraft, lease: datetime) -> None:
    """The work of a process under its lease."""
    recipients, skipped = bulk_sends._checked(user, draft)
    with transaction() as session:
        accepted = bulk_sends.accept_bulk(session, user, draft, recipients, skipped)
        done = bulk_keys.Finished(list(accepted.ids), list(skipped))
        bulk_keys.finish(session, user.user_id, "key-1", lease, done)


def test_a_process_that_lost_its_lease_writes_nothing(ali, phone, sql):
    user = Principal(ali.id, 1, "key", frozenset("*"), is_premium=False, default_device_id=None, default_region=None)
    draft = BulkDraft(message="Hello", recipients=["+998901234567"])
    slow, request_hash = _claim(ali, b"body")
    age(sql, timedelta(seconds=61))
    taken_over = bulk_sends.send(user, draft, "key-1", request_hash)
    with pytest.raises(Conflict):
        _finish(user, draft, slow)
    bulk_keys.release(user.user_id, "key-1", slow)
    assert messages(sql) == 1
    assert bulk_sends.send(user, draft, "key-1", request_hash) == taken_over


def test_a_process_killed_in_the_work(processes, post, phone, ali, sql):
    """The work's transaction is open when the process is killed: nothing of it is there, and the key lapses."""
    body = {"message": "Hello", "recipients": ["+998901234567"]}
    sql.execute("BEGIN")
    sql.execute("LOCK TABLE usage_deltas IN EXCLUSIVE MODE")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, "/api/sms/bulk", body, client=processes[0].client)
        until(lambda: sql.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
        processes[0].process.kill()
        assert isinstance(waiting.exception(30), httpx.TransportError)
    sql.execute("COMMIT")
    assert messages(sql) == 0
    assert post("/api/sms/bulk", body, client=processes[1].client).status_code == 409
    age(sql, timedelta(seconds=61))
    assert post("/api/sms/bulk", body, client=processes[1].client).status_code == 201
    assert messages(sql) == 1
