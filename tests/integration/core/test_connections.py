"""Many connections: half-sent heads, one address with too many, and the last tenth of what there may be."""

import socket
import threading
import time
from contextlib import ExitStack
from http.client import HTTPResponse

import httpx
import pytest

from app.core import connections

HALF = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: "


def is_closed(connection: socket.socket, seconds: float = 0) -> bool:
    """Whether the other side ends it within the time."""
    connection.settimeout(seconds or 0.001)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def connect(gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), 10)


def alive(connection: socket.socket) -> HTTPResponse:
    """The whole answer: its head may come before its body."""
    connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    return answer_on(connection)


def answer_on(connection: socket.socket) -> HTTPResponse:
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer


def test_half_sent_heads_are_given_up(api, gateway, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(gateway)) for _ in range(400)]
        for connection in slow:
            connection.sendall(HALF)
        assert api.get("/health/live").status_code == 200
        assert all(is_closed(connection, 10) for connection in slow)
    assert api.get("/health/live").status_code == 200


@pytest.mark.parametrize("byte", [b"x", b"\r\n"])
def test_a_head_that_trickles_is_given_up(gateway, database, monkeypatch, byte):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    with connect(gateway) as connection:
        # The second time it is a connection that has been answered once.
        assert alive(connection).status == 200
        connection.sendall(b"" if byte == b"\r\n" else HALF)
        deadline = time.monotonic() + 15
        while not is_closed(connection, 0.05):
            assert time.monotonic() < deadline
            try:
                connection.settimeout(5)
                connection.sendall(byte)
            except OSError:
                break


def test_a_connection_that_says_nothing_is_given_up(gateway, database, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    with connect(gateway) as connection:
        assert is_closed(connection, 10)


def test_a_stream_is_no_slow_head(api, gateway, ali, monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    private = api.post("/api/devices/enrollment", headers=ali.headers).json()["data"]["private_token"]
    body = {"name": "x"}
    phone = api.post("/api/mobile/v1/device", json=body, headers={"Authorization": f"Bearer {private}"}).json()
    with connect(gateway) as connection:
        head = f"GET /api/mobile/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {phone['token']}\r\n\r\n"
        connection.sendall(head.encode())
        assert not is_closed(connection, 4)


def test_a_huge_head_is_given_up(gateway, database):
    with connect(gateway) as connection:
        connection.settimeout(10)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000)
        assert is_closed(connection, 10)


def test_what_is_left_of_a_refused_body_is_no_head(gateway, database):
    with connect(gateway) as connection:
        connection.settimeout(10)
        connection.sendall(b"PATCH /api/mobile/v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
        assert answer_on(connection).status == 401
        for _ in range(20):
            connection.sendall(b"x" * 10_000)
        assert alive(connection).status == 200


def test_a_head_as_large_as_some_send_is_read(api):
    assert api.get("/health/live", headers={"Cookie": "x" * 30_000}).status_code == 200


def test_pipelined_requests_are_few(gateway, database):
    get = b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(gateway) as connection:
        connection.sendall(get * 10)
        connection.settimeout(10)
        received = b""
        while received.count(b"HTTP/1.1 200") < 10:
            received += connection.recv(65536)
    with connect(gateway) as connection:
        connection.sendall(get * 1000)
        assert is_closed(connection, 10)


def figure(url: str, name: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_one_address_has_its_share(api_process):
    with api_process(CONNECTIONS_PER_ADDRESS="50") as running, ExitStack() as stack:
        held = [stack.enter_context(running.connect(address="127.0.0.2")) for _ in range(60)]
        deadline = time.monotonic() + 10
        while figure(running.url, "smsfleet_connections_refused_total") < 10:
            assert time.monotonic() < deadline
        assert sum(is_closed(connection) for connection in held) == 10
        assert running.output.read_text().count("connections are refused") == 1
        for connection in held:
            connection.close()
        while is_closed(stack.enter_context(running.connect(address="127.0.0.2")), 0.2):
            assert time.monotonic() < deadline


def test_a_named_proxy_has_the_connections_of_many_clients_and_a_stranger_has_not(api_process):
    limits = {"CONNECTIONS_PER_ADDRESS": "20", "TRUSTED_PROXIES": "127.0.0.2"}
    with api_process(**limits) as running, ExitStack() as stack:
        proxy = [stack.enter_context(running.connect(address="127.0.0.2")) for _ in range(60)]
        stranger = [stack.enter_context(running.connect(address="127.0.0.3")) for _ in range(30)]
        deadline = time.monotonic() + 10
        while sum(is_closed(connection) for connection in stranger) < 10:
            assert time.monotonic() < deadline
        assert not any(is_closed(connection) for connection in proxy)


@pytest.mark.parametrize(
    ("peer", "is_proxy"),
    [("10.1.2.3", True), ("11.1.2.3", False), ("2001:db8::1", True), ("2001:db8::2", False), ("", False)],
)
def test_who_counts_as_a_proxy(configured, peer, is_proxy):
    configured(TRUSTED_PROXIES="10.0.0.0/8, 2001:db8::1")
    assert connections._is_proxy(peer) is is_proxy


def test_the_limit_of_open_files_is_raised_and_its_end_is_told_and_kept_free(api_process):
    """Of 800 files 600 are for connections; nobody has more than half of these."""
    with api_process(files=800) as running, ExitStack() as stack:
        assert figure(running.url, "smsfleet_connections_max") == 600
        held = [stack.enter_context(running.connect(address="127.0.0.2")) for _ in range(320)]
        deadline = time.monotonic() + 10
        while figure(running.url, "smsfleet_connections_refused_total") < 20:
            assert time.monotonic() < deadline
        held += [stack.enter_context(running.connect(address="127.0.0.3")) for _ in range(250)]
        deadline = time.monotonic() + 10
        while "nine tenths of all connections are open" not in running.output.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert figure(running.url, "smsfleet_connections_nearly_full_seconds_total") > 0
        held += [stack.enter_context(running.connect(address="127.0.0.4")) for _ in range(100)]
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 20
        while True:
            try:
                assert httpx.get(f"{running.url}/health/ready").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline


def _end_the_process(gateway) -> None:
    """As uvicorn tells the connections when it is asked to stop."""
    for crowd in connections._crowds.values():
        for connection in list(crowd._open):
            crowd.loop.call_soon_threadsafe(connection.shutdown)
        told = threading.Event()
        crowd.loop.call_soon_threadsafe(told.set)
        assert told.wait(60)


def test_a_request_that_comes_as_the_process_ends_is_answered(gateway, database, monkeypatch):
    monkeypatch.setattr(connections, "PARTING_SECONDS", 60.0)
    with connect(gateway) as connection:
        for is_last in (False, True):
            answer = alive(connection)
            assert (answer.status, answer.will_close) == (200, is_last)
            _end_the_process(gateway)
        assert is_closed(connection, 10)


def test_an_idle_connection_is_closed_a_moment_after_the_process_is_asked_to_end(gateway, database, monkeypatch):
    monkeypatch.setattr(connections, "PARTING_SECONDS", 0.1)
    with connect(gateway) as connection:
        assert alive(connection).status == 200
        _end_the_process(gateway)
        assert is_closed(connection, 10)


def test_a_connection_on_which_nothing_comes_any_more_ends(gateway, monkeypatch):
    monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.1)
    with connect(gateway) as connection:
        assert alive(connection).status == 200
        assert is_closed(connection, connections.HEAD_SECONDS - 5)
