"""Calls that take seconds: their own threads, and a limit for each account."""

import re
import socket
import subprocess
import sys
import time

import httpx
import pytest

from app.core import heavy, reading
from tests.support.waiting import until

# In a process of its own, so that what it takes is not counted as the gateway's time.
ATTACK = """
import http.client, json, sys
from concurrent.futures import ThreadPoolExecutor

port, token = int(sys.argv[1]), sys.argv[2]
rows = [{"phone_number": f"+99890{number:07d}", "name": f"Name {number}"} for number in range(100_000)]
body = json.dumps({"contacts": rows}).encode()

def post(_):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    headers = {"Authorization": token, "Content-Type": "application/json"}
    connection.request("POST", "/api/contacts/import", body, headers)
    return connection.getresponse().status

with ThreadPoolExecutor(44) as pool:
    list(pool.map(post, range(44)))
"""


def refused(running) -> float:
    text = httpx.get(f"{running.url}/metrics", timeout=60).text
    return sum(map(float, re.findall(r'route="/api/contacts/import",status="429"} ([0-9.]+)', text)))


def test_one_account_cannot_take_all_threads(api_process, ali, other):
    """44 imports of 100,000 at once by one account; the light calls of another were answered after 6.7 s (p99).

    On two cores with other work it was seen at 0.66 s, with a median of 0.09 s. The limit here is wide, since a machine
    may be busier still.
    """
    with api_process() as running, httpx.Client(base_url=running.url, timeout=60) as client:
        client.get("/api/contacts", headers=other.headers)
        command = [sys.executable, "-c", ATTACK, str(running.port), ali.headers["Authorization"]]
        attack = subprocess.Popen(command)
        waits, deadline = [], time.monotonic() + 60
        while len(waits) < 100 or refused(running) < 44 - heavy.MAX_UNDER_WAY_OF_ACCOUNT:
            assert time.monotonic() < deadline
            began = time.perf_counter()
            answer = client.get("/api/contacts", headers=other.headers)
            waits.append(time.perf_counter() - began)
            assert answer.status_code == 200
        attack.kill()
        attack.wait()
        assert running.megabytes < 600
    waits.sort()
    figures = f"n {len(waits)}, p50 {waits[len(waits) // 2]:.3f} s, p99 {waits[int(len(waits) * 0.99)]:.3f} s"
    print(figures)  # noqa: T201 - shown by `pytest -s`
    assert waits[int(len(waits) * 0.99)] < 1.5, figures


ONE = {"contacts": [{"phone_number": "+998901234567"}]}


@pytest.fixture
def few(monkeypatch):
    """Limits that a test reaches with a handful of calls, whose bodies have not come yet."""
    monkeypatch.setattr(reading, "GRACE_SECONDS", 300.0)
    monkeypatch.setattr(heavy, "MAX_UNDER_WAY", 3)
    monkeypatch.setattr(heavy, "MAX_UNDER_WAY_OF_ACCOUNT", 2)


def begun(gateway, user) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gateway.port), 10)
    head = f"POST /api/contacts/import HTTP/1.1\r\nHost: x\r\nAuthorization: {user.headers['Authorization']}\r\n"
    connection.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n")
    return connection


def counted(gateway, user) -> socket.socket:
    """One that was let in: the call before it may be counted for a moment after its answer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        connection = begun(gateway, user)
        connection.settimeout(0.5)
        try:
            connection.recv(1)
        except TimeoutError:
            return connection
        connection.close()
    raise AssertionError("never let in")


def test_heavy_calls_of_an_account_are_limited_and_those_of_all(api, gateway, few, new_account, ali, other):
    third = new_account("third@example.com")

    def status(user) -> int:
        return api.post("/api/contacts/import", json={}, headers=user.headers).status_code

    def becomes(user, wanted: int) -> None:
        deadline = time.monotonic() + 60
        while status(user) != wanted:
            assert time.monotonic() < deadline

    held = [begun(gateway, ali), begun(gateway, ali)]
    becomes(ali, 429)
    refused = api.post("/api/contacts/import", json=ONE, headers=ali.headers)
    assert (refused.headers["Retry-After"], refused.json()["message"]) == ("5", "Too Many Attempts.")
    # Of the same account what is not heavy, and of others what is.
    assert api.get("/api/contacts", headers=ali.headers).status_code == 200
    assert status(other) == 422
    held.append(counted(gateway, other))
    becomes(third, 429)
    # A stranger is told that he is one.
    assert api.post("/api/contacts/import", json=ONE).status_code == 401
    for connection in held:
        connection.close()
    for user in (ali, other, third):
        becomes(user, 422)


def test_a_refused_call_is_counted_by_its_route(gateway, few, ali):
    """By the path, each refusal would add series that stay for ever."""
    held = [counted(gateway, ali), counted(gateway, ali)]
    with httpx.Client(base_url=gateway.url, headers=ali.headers, timeout=60) as client:
        for made_up in ("made-up-1", "made-up-2"):
            until(lambda name=made_up: client.post(f"/api/campaigns/{name}/dry-run").status_code == 429)
        shown = client.get("/metrics").text
    assert 'route="/api/campaigns/{campaign_id}/dry-run",status="429"' in shown
    assert "made-up" not in shown
    for connection in held:
        connection.close()


def test_an_export_counts_until_it_is_taken(api, few, ali, sql):
    sql.execute(
        "INSERT INTO contacts (user_id, phone_number, notes)"
        " SELECT %s, '+99890' || lpad(n::text, 7, '0'), repeat('x', 1000) FROM generate_series(1, 20000) n",
        [ali.id],
    )
    path = "/api/contacts/export"
    with api.stream("GET", path, headers=ali.headers) as first, api.stream("GET", path, headers=ali.headers) as second:
        assert (first.status_code, second.status_code) == (200, 200)
        assert api.get(path, headers=ali.headers).status_code == 429
        assert len(first.read().splitlines()) == 20001
        assert len(second.read().splitlines()) == 20001
    assert api.get("/api/contacts/export", headers=ali.headers).status_code == 200


@pytest.mark.parametrize("ends", ["revoked", "expired", "blocked"])
def test_an_export_ends_with_its_token(gateway, ali, sql, ends):
    key = ali.token()
    sql.execute(
        "INSERT INTO contacts (user_id, phone_number, notes)"
        " SELECT %s, '+1202' || 1000000 + n, repeat('x', 1000) FROM generate_series(1, 20000) AS n",
        (ali.id,),
    )
    with httpx.stream("GET", f"{gateway.url}/api/contacts/export", headers=key, timeout=60) as answer:
        parts = answer.iter_bytes()
        next(parts)
        end(sql, ali, ends)
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)


def end(sql, account, ends):
    whose = {"id": account.id}
    if ends == "blocked":
        sql.execute("UPDATE users SET blocked_at = now() WHERE id = %(id)s", whose)
    elif ends == "expired":
        sql.execute("UPDATE tokens SET expires_at = now() WHERE user_id = %(id)s", whose)
    else:
        sql.execute("DELETE FROM tokens WHERE user_id = %(id)s", whose)
