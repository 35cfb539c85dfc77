"""Searches, the slowest of calls: one account's leave threads to all others."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
from sqlalchemy import text

from app.core import database
from app.core.errors import TooManyAttempts
from app.core.shares import Shares

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%messages%'"


def get(gateway, account, path):
    return httpx.get(gateway.url + path, headers=account.headers, timeout=60)


def test_one_accounts_slow_searches_leave_threads_to_others(gateway, sql, ali, other, monkeypatch):
    path, most = "/api/sms?search=code&from=2026-01-01&to=2026-01-31", 8
    # They wait for as long as this takes, however busy the machine is.
    monkeypatch.setattr(database, "_LONG_LOCK_TIMEOUT", text(database._LONG_LOCK_TIMEOUT.text.replace("5s", "60s")))
    with psycopg.connect(sql.info.dsn, password=sql.info.password) as held, ThreadPoolExecutor(60) as pool:
        held.execute("SET idle_in_transaction_session_timeout = 0")
        held.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        slow = [pool.submit(get, gateway, ali, path) for _ in range(60)]
        deadline = time.monotonic() + 20
        while sum(call.done() for call in slow) < 60 - most:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert sql.execute(WAITING).fetchone()[0] == most
        for _ in range(20):
            assert get(gateway, other, "/api/settings").status_code == 200
        held.rollback()
        answers = [call.result() for call in slow]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 60 - most
    assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
    assert get(gateway, ali, path).status_code == 200


def test_calls_of_one_account_that_are_no_searches_have_no_limit(gateway, ali):
    """A client with many connections is no attack, and a fleet may start at one moment."""
    with ThreadPoolExecutor(60) as pool:
        calls = [pool.submit(get, gateway, ali, path) for path in ("/api/devices", "/api/sms", "/api/settings") * 40]
        assert {call.result().status_code for call in calls} == {200}


def test_each_account_has_half_of_what_the_others_leave():
    shares = Shares(40)
    had = [sum(shares.take(account) for _ in range(100)) for account in range(6)]
    assert had == [20, 10, 5, 2, 1, 1]
    shares.give_back(0, 20)
    assert sum(shares.take(6) for _ in range(100)) == 10
    with pytest.raises(TooManyAttempts), Shares(0).one(1):
        pass
