"""Calls of one account that wait for one another: others have threads, connections and places meanwhile."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import psycopg
import pytest
from sqlalchemy import text

from app.core import database, places
from tests.support.messages_of import add_message, add_phone
from tests.support.waiting import until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%users%'"
MOST = places.MAX_PLACES - (places.MAX_PLACES - places.UNCOUNTED_PLACES) // 2


@pytest.fixture
def patient(monkeypatch):
    """Calls wait for as long as the test takes, however busy the machine is."""
    longer = (
        "SELECT current_setting('transaction_read_only')"
        " FROM set_config('lock_timeout', '60s', true) a, set_config('statement_timeout', '60s', true) b"
    )
    monkeypatch.setattr(database, "_LONG_LOCK_TIMEOUT", text(longer))
    monkeypatch.setattr(places, "WAIT_SECONDS", 60.0)


@contextmanager
def locked(sql, account):
    """The account's own row is somebody else's, until the end or a rollback."""
    with psycopg.connect(sql.info.dsn, password=sql.info.password) as held:
        held.execute("SET idle_in_transaction_session_timeout = 0")
        held.execute("SELECT FROM users WHERE id = %s FOR UPDATE", [account.id])
        yield held
        held.rollback()


def figure(gateway, name):
    shown = httpx.get(f"{gateway.url}/metrics", timeout=60).text
    return float(re.search(rf"^{name} ([0-9.]+)", shown, re.MULTILINE)[1])


def becomes(gateway, name, value):
    deadline = time.monotonic() + 30
    while figure(gateway, name) != value:
        assert time.monotonic() < deadline, (name, figure(gateway, name))
        time.sleep(0.02)


def browser(gateway, account):
    cookies = {"smsfleet_session": account.headers["Authorization"].removeprefix("Bearer ")}
    return httpx.Client(base_url=gateway.url, cookies=cookies, timeout=90)


def change(gateway, account, n):
    return httpx.put(
        f"{gateway.url}/api/settings", json={"keep_messages_days": 30 + n}, headers=account.headers, timeout=90
    )


def test_calls_that_wait_for_a_row_of_their_account_leave_others_theirs(gateway, sql, ali, other, patient):
    with browser(gateway, ali) as mine, browser(gateway, other) as theirs, locked(sql, ali) as held:
        token = re.search(r'name="form_token" value="(\w+)"', mine.get("/settings").text)[1]

        def say(n):
            form = {"form_token": token, "language": ("en", "ru", "uz")[n % 3]}
            return mine.post("/settings/language", data=form)

        with ThreadPoolExecutor(80) as pool:
            api = [pool.submit(change, gateway, ali, n) for n in range(40)]
            pages = [pool.submit(say, n) for n in range(40)]
            # One of the places is the call's that asks.
            becomes(gateway, "smsfleet_calls_waiting", 80 - MOST)
            assert figure(gateway, "smsfleet_calls_running") == MOST + 1
            assert sql.execute(WAITING).fetchone()[0] == MOST
            for n in range(3):
                assert change(gateway, other, n).status_code == 200
                for path in ("/settings", "/phones", "/messages"):
                    assert theirs.get(path).status_code == 200
                assert httpx.get(f"{gateway.url}/api/devices", headers=other.headers).status_code == 200
                # A stranger finds the door.
                assert httpx.get(f"{gateway.url}/sign-in").status_code == 200
            assert not any(call.done() for call in api + pages)
            held.rollback()
            assert {call.result().status_code for call in api} == {200}
            assert {call.result().status_code for call in pages} == {303}
    becomes(gateway, "smsfleet_calls_running", 1)
    assert figure(gateway, "smsfleet_calls_waiting") == 0


def test_who_waits_too_long_for_a_place_is_told_when_to_come_again(gateway, sql, ali, other, patient, monkeypatch):
    monkeypatch.setattr(places, "WAIT_SECONDS", 0.5)
    with locked(sql, ali) as held, ThreadPoolExecutor(30) as pool:
        calls = [pool.submit(change, gateway, ali, n) for n in range(30)]
        deadline = time.monotonic() + 30
        while sum(call.done() for call in calls) < 30 - MOST:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        refused = [call.result() for call in calls if call.done()]
        assert len(refused) == 30 - MOST
        assert {(answer.status_code, answer.headers["Retry-After"]) for answer in refused} == {(503, "1")}
        assert refused[0].json()["success"] is False
        assert httpx.get(f"{gateway.url}/health/live").json() == {"status": "ok"}
        assert change(gateway, other, 1).status_code == 200
        held.rollback()
        answers = [call.result().status_code for call in calls]
    assert answers.count(200) == MOST
    assert change(gateway, ali, 1).status_code == 200


@pytest.fixture
def campaign(gateway, ali):
    made = httpx.post(f"{gateway.url}/api/campaigns", json={"name": "x", "message": "x"}, headers=ali.headers)
    return made.json()["data"]["id"]


def test_streams_and_calls_that_wait_for_others_have_no_place(gateway, ali, sql, campaign):
    """A cancellation waits three seconds for the word of a phone that is away."""
    phone = add_phone(sql, ali)
    sql.execute("UPDATE devices SET app_version = '9.9.9' WHERE id = %s", [phone])
    messages = [add_message(sql, ali, status="pending", device_id=phone) for _ in range(12)]
    for message in messages:
        sql.execute(
            "INSERT INTO message_queue (message_id, user_id, device_id, lane, stage, since, released_at)"
            " VALUES (%s, %s, %s, 0, 1, clock_timestamp(), clock_timestamp())",
            [message, ali.id, phone],
        )
    with httpx.Client(base_url=gateway.url, headers=ali.headers, timeout=60) as client, ExitStack() as open_streams:
        for _ in range(12):
            answer = open_streams.enter_context(client.stream("GET", f"/api/campaigns/{campaign}/events"))
            assert answer.status_code == 200
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(client.post, f"/api/sms/{message}/cancel") for message in messages]
            asked = "SELECT count(*) FROM message_queue WHERE cancelling"
            until(lambda: sql.execute(asked).fetchone()[0] == 12)
            becomes(gateway, "smsfleet_calls_running", 1)
            assert not any(call.done() for call in calls)
            assert {call.result().status_code for call in calls} == {422}
