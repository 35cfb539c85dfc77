"""What it costs the gateway when somebody sends a lot, or never ends: memory, time, and other people's calls."""

import gc
import json
import re
import socket
import threading
from contextlib import ExitStack

import httpx
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.core import reading

MB = 1024 * 1024
HOOK = "/hooks/nobody"


def opened(port: int, path: str, *, length: int | None, headers: dict[str, str] | None = None) -> socket.socket:
    """A connection on which a request with a body has begun."""
    connection = socket.create_connection(("127.0.0.1", port), 20)
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", framing, *lines, "", ""])
    connection.sendall(head.encode())
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    received = b""
    while not is_whole(received):
        part = connection.recv(65536)
        assert part, received
        received += part
    return int(received.split(None, 2)[1]), received


def is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def pour(connection: socket.socket, size: int, *, chunked: bool) -> None:
    part = b"x" * 65536
    try:
        for _ in range(size // len(part)):
            connection.sendall(b"10000\r\n" + part + b"\r\n" if chunked else part)
    except OSError:
        pass  # it need not be taken


def test_stalled_bodies_of_strangers_are_not_kept(api_process):
    """40 connections that sent all but the last bytes of what a call may be sent were 1.4 GB.

    Of the 320 MB that are sent, a piece of each connection that is read on is held, 320 KB.
    """
    with api_process() as running, ExitStack() as connections:
        before = running.megabytes
        for path, size in ((HOOK, 8 * MB), ("/api/sms/bulk", 8 * MB), ("/api/sms", MB - 1), ("/api/login", MB - 1)):
            for chunked in (False, True):
                length = None if chunked else size
                held = [connections.enter_context(opened(running.port, path, length=length)) for _ in range(40)]
                threads = [
                    threading.Thread(target=pour, args=(each, size), kwargs={"chunked": chunked}) for each in held
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
                assert {answer(each)[0] for each in held} == {413 if path == "/api/login" else 401}
                assert running.megabytes - before < 80, path
                connections.close()


@pytest.fixture
def requests_left(gateway, database):
    """How many requests, with all that they hold, only the garbage collector will end; it looks seldom."""

    def look() -> int:
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return sum(isinstance(each, RequestResponseCycle) for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()

    gc.collect()
    gc.disable()
    yield look
    gc.enable()


def test_what_a_request_held_is_given_back_at_its_end(requests_left, api, ali):
    for method, path, options, status in (
        ("POST", "/api/contacts", {"json": {"phone_number": "+998901234567"}, "headers": ali.headers}, 201),
        ("POST", "/api/sms", {"json": {}, "headers": ali.headers}, 422),
        ("POST", "/api/sms", {"json": {}}, 401),
        ("POST", "/api/sms", {"content": b"x" * 20_000}, 401),
        ("POST", HOOK, {"content": b"{}"}, 401),
        ("POST", "/api/login", {"content": b"{"}, 422),
        ("POST", "/api/login", {"content": b"x" * 20_000}, 413),
        ("POST", "/api/contacts", {"json": {}, "headers": ali.headers}, 422),
        ("GET", "/api/nothing", {}, 404),
    ):
        assert api.request(method, path, **options).status_code == status, (method, path)
        assert api.get("/health/live").status_code == 200  # the connection holds its last request
        assert requests_left() == 0, (method, path, status)


def test_a_little_is_read_of_anybody(api):
    assert api.post("/api/login", json={"email": "a@b.c", "password": "secret", "x": "y" * 15000}).status_code == 401
    body = json.dumps({"email": "a@b.c", "password": "x" * 20000}).encode()
    assert api.post("/api/login", content=body, headers={"Content-Type": "application/json"}).status_code == 413


def test_strangers_hear_the_same_whatever_they_send(api, ali):
    large = b'{"message": "' + b"x" * 100_000 + b'"}'
    for headers in ({}, {"Authorization": "Bearer 1|wrong"}):
        for method, path, status in (
            ("POST", "/api/sms", 401),
            ("POST", "/api/sms/bulk", 401),
            ("PUT", "/api/settings", 401),
            ("PATCH", "/api/mobile/v1/messages", 401),
            ("POST", "/hooks/nobody", 401),
            ("POST", "/api/nothing", 404),
            ("DELETE", "/api/login", 405),
        ):
            found = api.request(method, path, content=large, headers=headers)
            assert (found.status_code, found.json()["success"]) == (status, False), (method, path)
    found = api.post("/api/sms", content=large, headers=ali.headers)
    assert list(found.json()["errors"]) == ["message", "recipient_number"]


def test_one_account_has_no_more_than_its_share_of_the_budget(api, gateway, ali, other, send_small):
    full = [opened(gateway.port, "/api/sms/bulk", length=31 * MB, headers=ali.headers) for _ in range(2)]
    beyond = opened(gateway.port, "/api/sms/bulk", length=31 * MB, headers=ali.headers)
    status, text = answer(beyond)
    assert status == 503
    assert b"retry-after: 1" in text.lower()
    # Small calls of the same account, and large ones of others, are as ever.
    assert send_small(ali) == 422
    contacts = [{"phone_number": f"+9989012{number:05d}", "name": "x" * 50} for number in range(5000)]
    assert api.post("/api/contacts/import", json={"contacts": contacts}, headers=other.headers).status_code == 201
    for each in (*full, beyond):
        each.close()


def test_two_accounts_leave_a_third_its_share(api, gateway, ali, other, new_account):
    third = new_account("third@example.com")
    full = []
    for account, most in ((ali, 2), (other, 1)):
        full += [
            opened(gateway.port, "/api/sms/bulk", length=31 * MB, headers=account.headers) for _ in range(most + 1)
        ]
        assert answer(full[-1])[0] == 503
    body = b'{"message": "x", "recipients": []' + b" " * 8 * MB + b"}"
    headers = third.headers | {"Content-Type": "application/json"}
    assert api.post("/api/sms/bulk", content=body, headers=headers).status_code == 422
    for each in full:
        each.close()


@pytest.fixture
def send_small(api):
    def send(user):
        body = {"message": "x", "recipient_number": "+998901234567"}
        return api.post("/api/sms", json=body, headers=user.headers).status_code

    return send


def test_the_process_has_a_budget(api, gateway, new_account):
    accounts = [new_account(f"{number}@example.com") for number in range(5)]
    held = [opened(gateway.port, "/api/sms/bulk", length=31 * MB, headers=each.headers) for each in accounts]
    assert answer(held[-1])[0] == 503
    for each in held:
        each.close()
    # What was held is given back, whatever became of the requests.
    for _ in range(3):
        body = b'{"message": "x", "recipients": []' + b" " * 31 * MB + b"}"
        headers = accounts[0].headers | {"Content-Type": "application/json"}
        assert api.post("/api/sms/bulk", content=body, headers=headers).status_code == 422


@pytest.mark.parametrize("path", ["/api/login", HOOK, "/api/sms", "/api/sms/bulk"])
def test_a_body_that_does_not_come_is_given_up(gateway, database, ali, monkeypatch, path):
    monkeypatch.setattr(reading, "GRACE_SECONDS", 0.3)
    with opened(gateway.port, path, length=100, headers=ali.headers) as connection:
        connection.sendall(b"{")
        status, text = answer(connection)
    assert (status, b"The request body did not arrive in time." in text) == (408, True)


def test_a_body_that_comes_slowly_but_surely_is_taken(gateway, database, monkeypatch):
    monkeypatch.setattr(reading, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(reading, "MIN_BYTES_PER_SECOND", 20)
    body = b'{"email": "a@b.c", "password": "secret"}'
    with opened(gateway.port, "/api/login", length=len(body)) as connection:
        for place in range(0, len(body), 10):
            connection.sendall(body[place : place + 10])
            threading.Event().wait(0.2)
        found = answer(connection)
        assert found[0] == 401, found


def test_no_body_may_take_longer_than_the_whole_time(gateway, database, monkeypatch):
    monkeypatch.setattr(reading, "TIMEOUT_SECONDS", 0.5)
    with opened(gateway.port, "/api/login", length=10_000) as connection:
        stop = threading.Event()

        def trickle():
            while not stop.wait(0.05):
                connection.sendall(b"x" * 100)

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert answer(connection)[0] == 408
        finally:
            stop.set()
            thread.join()


def test_an_innocent_phone_is_heard_while_strangers_pour(api_process, new_account):
    with api_process() as running, httpx.Client(base_url=running.url, timeout=20) as client:
        ali = new_account()
        private = client.post("/api/devices/enrollment", headers=ali.headers).json()["data"]["private_token"]
        enrolled = client.post(
            "/api/mobile/v1/device", json={"name": "x"}, headers={"Authorization": f"Bearer {private}"}
        ).json()
        headers = {"Authorization": f"Bearer {enrolled['token']}"}
        held = [opened(running.port, HOOK, length=31 * MB) for _ in range(40)]
        threads = [threading.Thread(target=pour, args=(each, 8 * MB), kwargs={"chunked": False}) for each in held]
        for thread in threads:
            thread.start()
        taken = [client.get("/api/mobile/v1/message", headers=headers) for _ in range(50)]
        for thread in threads:
            thread.join(60)
        assert {each.status_code for each in taken} == {200}
        for each in held:
            each.close()
