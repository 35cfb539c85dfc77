"""Receivers, names and certificates that do what they should not."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.core.settings import get_settings
from app.webhooks import client, sender
from app.webhooks.guard import check_address
from tests.integration.webhooks.conftest import callback, hasten, make_user, rows, states, value, write
from tests.support.waiting import until
from tests.support.webhooks_receiver import (
    Receiver,
    answer,
    drip_body,
    drip_headers,
    endless_body,
    hang,
    in_turn,
    reset,
)


def attempt():
    """The one attempt there is, once it is recorded."""
    return until(lambda: rows("SELECT status_code, answer, error, duration_ms, url FROM webhook_attempts"), 30)[0]


@pytest.fixture
def short_limits(monkeypatch) -> None:
    """The same limits, sooner: what is tested is that they hold, not how long they are."""
    monkeypatch.setattr(sender, "TOTAL_SECONDS", 1.0)
    monkeypatch.setattr(sender, "READING_SECONDS", 0.5)


def test_the_limits_are_the_promised_ones() -> None:
    assert (client.CONNECT_SECONDS, client.TOTAL_SECONDS, sender.MAX_RESPONSE_BYTES) == (3, 15, 64 * 1024)


@pytest.mark.parametrize("behaviour", [hang, drip_headers])
def test_no_answer_in_time(receiver, deliverer, short_limits, behaviour) -> None:
    receiver.behaviour = behaviour
    user = make_user()
    write(callback(user, receiver.url(), 1))
    status, _, error, duration, _ = attempt()
    assert (status, error) == (None, "The receiver did not answer in time.")
    assert 900 <= duration < 3000
    assert value("SELECT max_in_flight FROM webhook_targets WHERE user_id = :user", user=user) == 1
    receiver.behaviour = answer(200)
    hasten()
    until(lambda: states()["delivered"] == 1)
    assert value("SELECT max_in_flight FROM webhook_targets WHERE user_id = :user", user=user) == 2


def test_a_cut_connection_is_told_from_a_slow_one(receiver, deliverer) -> None:
    receiver.behaviour = in_turn(reset, answer(200))
    write(callback(make_user(), receiver.url(), 1))
    status, _, error, _, _ = attempt()
    assert status is None
    assert error.startswith("The receiver broke the connection")
    hasten()
    until(lambda: states()["delivered"] == 1)


def raw(text: bytes):
    async def behave(_, writer) -> None:
        writer.write(text)
        await writer.drain()
        writer.close()

    return behave


def test_an_answer_that_is_no_http_is_told_to_the_owner_and_shows_no_url_in_the_log(
    receiver, deliverer, caplog, capfd
) -> None:
    receiver.behaviour = raw(b"garbage\r\n\r\n")
    write(callback(make_user(), receiver.url("/hook?key=hunter2"), 1))
    status, _, error, _, _ = attempt()
    assert status is None
    assert error.startswith("The receiver's answer is not valid HTTP: ")
    logged = error + caplog.text + "".join(capfd.readouterr())
    assert "hunter2" not in logged
    assert "Traceback" not in logged


def test_nobody_listens(deliverer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        write(callback(make_user(), f"http://127.0.0.1:{taken.getsockname()[1]}/", 1))
        assert attempt().error.startswith("The receiver cannot be connected to")


def test_a_slow_body_after_a_good_status_is_a_success_and_holds_nothing(receiver, deliverer, short_limits) -> None:
    receiver.behaviour = drip_body
    write(callback(make_user(), receiver.url(), 1))
    status, said, error, duration, _ = attempt()
    assert (status, error) == (200, None)
    assert 0 < len(said) < 100
    assert duration < 3000
    until(lambda: states()["delivered"] == 1)


def test_a_huge_body_is_read_no_further_than_allowed(receiver, deliverer) -> None:
    receiver.behaviour = endless_body
    write(callback(make_user(), receiver.url(), 1))
    status, said, error, duration, _ = attempt()
    assert (status, error, said) == (200, None, "y" * 1024)
    assert duration < 2000
    receiver.behaviour = answer(200)
    write(callback(1, receiver.url(), 2))
    receiver.wait_for(2)
    assert receiver.connections == 2


def test_an_answer_that_is_no_text_is_kept_as_text(receiver, deliverer) -> None:
    receiver.behaviour = answer(200, b"\x00\xff\xfeok")
    write(callback(make_user(), receiver.url(), 1))
    assert attempt().answer == "\ufffd\ufffd\ufffdok"


def test_redirects_are_not_followed(receiver, deliverer) -> None:
    with Receiver() as inner:
        receiver.behaviour = answer(302, headers=f"Location: {inner.url('/internal')}\r\n")
        write(callback(make_user(), receiver.url(), 1))
        assert attempt().status_code == 302
        assert inner.received == []
    assert value("SELECT state FROM webhook_deliveries") == "pending"


def test_connections_are_kept_and_cookies_are_not(receiver, deliverer) -> None:
    receiver.behaviour = answer(200, headers="Set-Cookie: a=b; Path=/\r\n")
    user = make_user()
    for n in range(1, 4):
        write(callback(user, receiver.url(), n))
        receiver.wait_for(n)
        until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    assert receiver.connections == 1
    assert not any("cookie" in request.headers for request in receiver.received)


def test_retry_after_is_honoured_for_all_that_wait(receiver, deliverer) -> None:
    receiver.behaviour = answer(429, headers="Retry-After: 120\r\n")
    user = make_user()
    write(callback(user, receiver.url(), 1))
    attempt()
    waits = "SELECT extract(epoch FROM {} - clock_timestamp())::float FROM {}"
    assert 100 < until(lambda: value(waits.format("next_try_at", "webhook_targets"))) <= 120
    assert 100 < value(waits.format("next_attempt_at", "webhook_queue")) <= 120
    write(callback(user, receiver.url(), 2))
    with Receiver() as elsewhere:
        write(callback(user, elsewhere.url(), 3))
        elsewhere.wait_for(1)
    assert len(receiver.received) == 1


def test_a_certificate_nobody_vouches_for(deliverer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    with Receiver(tls=context) as secured:
        write(callback(make_user(), secured.url(), 1))
        status, _, error, _, _ = attempt()
        assert status is None
        assert error.startswith("The receiver's certificate is not valid")
        assert secured.received == []


class Names:
    """A name server of the test's own: each name's answers in turn, the last one for ever; None fails."""

    def __init__(self, **answers) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int):
        self.asked.append(host)
        given = self.answers[host]
        addresses = given.pop(0) if len(given) > 1 else given[0]
        if addresses is None:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


def test_a_name_that_does_not_resolve_for_a_while(receiver, start_deliverer) -> None:
    names = Names(receiver_test=[None, None, ["127.0.0.1"]])
    start_deliverer(lookup=names)
    write(callback(make_user(), f"http://receiver.test:{receiver.port}/x", 1))
    for n in (1, 2):
        until(lambda n=n: value("SELECT count(*) FROM webhook_attempts WHERE error LIKE '%name resolution%'") == n)
        hasten()
    [request] = receiver.wait_for(1)
    assert request.headers["host"] == f"receiver.test:{receiver.port}"
    until(lambda: states()["delivered"] == 1)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """For lookups of the test's own; named before a deliverer it outlives it."""
    with ThreadPoolExecutor(2 * client.LOOKUPS_OF_USER) as pool:
        yield pool


def test_names_that_are_never_answered_take_few_of_the_threads(receiver, threads, start_deliverer) -> None:
    """The stub is the system's lookup with names that never resolve: each takes a thread and keeps it."""
    back, asked = threading.Event(), []

    def resolve(host: str, port: int):
        asked.append(host)
        if host != "quick.test":
            back.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def lookup(host: str, port: int):
        return await asyncio.get_running_loop().run_in_executor(threads, resolve, host, port)

    start_deliverer(lookup=lookup)
    loud, quiet = make_user("loud@example.com"), make_user("quiet@example.com")
    try:
        write(*(callback(loud, f"http://never{n}.test/", n) for n in range(1, 301)))
        # More calls were given up than there are threads, and their threads are not back.
        until(lambda: value("SELECT count(*) FROM webhook_attempts") > 2 * client.LOOKUPS_OF_USER)
        written = time.monotonic()
        write(callback(quiet, f"http://quick.test:{receiver.port}/", 1000))
        assert receiver.wait_for(1)[0].at - written < 2
        assert len(asked) == client.LOOKUPS_OF_USER + 1
    finally:
        back.set()
    # Once they are back, others of the user's names are looked up.
    until(lambda: hasten() or len(asked) > 100)


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1", "192.168.1.1"], ["169.254.169.254", "127.0.0.1"]])
def test_a_name_with_any_internal_address_is_not_connected_to(receiver, start_deliverer, addresses) -> None:
    start_deliverer(lookup=Names(receiver_test=[addresses]))
    write(callback(make_user(), f"http://receiver.test:{receiver.port}/x", 1))
    assert "not on the public internet" in attempt().error
    assert receiver.connections == 0


def test_a_name_that_changes_is_judged_at_every_connect(receiver, start_deliverer, monkeypatch) -> None:
    monkeypatch.setattr(client, "DNS_TTL", 0)
    receiver.behaviour = answer(200, headers="Connection: close\r\n")
    start_deliverer(lookup=Names(receiver_test=[["127.0.0.1"], ["10.0.0.1"]]))
    user = make_user()
    write(callback(user, f"http://receiver.test:{receiver.port}/x", 1))
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    write(callback(user, f"http://receiver.test:{receiver.port}/x", 2))
    error = until(lambda: value("SELECT error FROM webhook_attempts WHERE status_code IS NULL"))
    assert "not on the public internet" in error
    assert len(receiver.received) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
def test_loopback_is_not_connected_to_where_it_is_not_allowed(receiver, start_deliverer, monkeypatch, host) -> None:
    monkeypatch.setenv("SMSFLEET_WEBHOOK_ALLOWED_NETWORKS", "")
    get_settings.cache_clear()
    check_address.cache_clear()
    start_deliverer()  # one that ran could keep what it was just reading
    write(callback(make_user(), f"http://{host}:{receiver.port}/x", 1))
    assert attempt().status_code is None
    assert receiver.connections == 0


def test_the_environments_proxy_is_not_used(receiver, start_deliverer, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    start_deliverer()
    write(callback(make_user(), receiver.url(), 1))
    assert receiver.wait_for(1)[0].path == "/hook"


def test_no_connection_to_the_database_is_held_while_receivers_are_waited_for(receiver, deliverer) -> None:
    receiver.behaviour = hang
    user = make_user()
    write(callback(user, receiver.url("/a"), 1), callback(user, receiver.url("/b"), 2))
    receiver.wait_for(2)
    until(
        lambda: value(
            "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
        )
    )
