"""Answers that are not strict HTTP, connections that end when they please, and URLs as they were registered."""

import asyncio
import struct
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET

import pytest

from app.webhooks import exchange, sender
from tests.integration.webhooks.conftest import callback, make_user, rows, states, value, write
from tests.support.waiting import until
from tests.support.webhooks_receiver import answer

CSP = b"Content-Security-Policy: " + b"default-src 'self' https://a.example; " * 250 + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


def say(*parts: bytes, reset: bool = False):
    """The parts in writes of their own, then the end of the connection: cleanly, or by a reset."""

    async def behave(_, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
        if reset:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        writer.close()

    return behave


def attempt():
    return until(lambda: rows("SELECT status_code, answer, error FROM webhook_attempts"))[0]


ODD = {
    "204 with a body": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",),
    "204 with a body in a second write": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", b"ok"),
    "204 with a body nobody announced": (b"HTTP/1.1 204 No Content\r\n\r\nok",),
    "204 with a chunked end": (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
    "204 with a chunked end in a second write": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\n\r\n",
    ),
    "shorter length than body": (OK + b"Content-Length: 2\r\n\r\nokay, thank you",),
    "shorter length than body, in two writes": (OK + b"Content-Length: 2\r\n\r\n", b"okay, thank you"),
    "longer length than body": (OK + b"Content-Length: 200\r\n\r\nok",),
    "length that is no number": (OK + b"Content-Length: many\r\n\r\nok",),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",),
    "length and chunks": (OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",),
    "long header": (OK + CSP + b"Content-Length: 2\r\n\r\nok",),
    "long header in small writes": (OK, CSP[:5000], CSP[5000:], b"Content-Length: 2\r\n\r\nok"),
    "header beyond our limit": (OK + b"X-Big: " + b"x" * 200_000 + b"\r\n\r\nok",),
    "many headers": (OK + b"".join(b"X-%d: 1\r\n" % n for n in range(300)) + b"Content-Length: 2\r\n\r\nok",),
    "headers beyond our limit": (OK + b"".join(b"X-%d: 1\r\n" % n for n in range(3000)) + b"\r\nok",),
    "folded header": (OK + b"X-Folded: one\r\n  two\r\nContent-Length: 2\r\n\r\nok",),
    "header without colon": (OK + b"nonsense\r\nContent-Length: 2\r\n\r\nok",),
    "header with a NUL": (OK + b"X-Nul: a\0b\r\nContent-Length: 2\r\n\r\nok",),
    "bad chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",),
    "bad chunk in a second write": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
    "chunks that do not end": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",),
    "data after Connection: close": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nokokok",),
    "no reason and bare line feeds": (b"HTTP/1.1 200\nContent-Length: 2\n\nok",),
    "informational answers first": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nok",
    ),
    "informational answer before a bad one": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    ),
    "nothing behind the status line": (OK,),
    "end within a header": (OK + b"Content-Le",),
    "HTTP/1.0 without headers": (b"HTTP/1.0 200 OK\r\n\r\nok",),
}


@pytest.mark.parametrize("said", ODD.values(), ids=ODD.keys())
def test_a_status_that_was_read_decides_whatever_follows(receiver, deliverer, said) -> None:
    receiver.behaviour = say(*said)
    write(callback(make_user(), receiver.url(), 1))
    status, _, error = attempt()
    assert (status, error) == (204 if b" 204 " in b"".join(said) else 200, None)
    until(lambda: states()["delivered"] == 1)
    assert value("SELECT fail_count FROM webhook_targets") == 0
    # What was spoiled is not used again, and does no harm to the next call.
    receiver.behaviour = answer(200)
    write(callback(1, receiver.url(), 2))
    until(lambda: states()["delivered"] == 2)
    assert value("SELECT count(*) FROM webhook_attempts") == 2


@pytest.mark.parametrize(
    "said", [(OK,), (OK + b"Content-Length: 50\r\n\r\nok",), (OK + b"Transfer-Encoding: chunked\r\n\r\n",)]
)
def test_a_reset_after_the_status_changes_nothing(receiver, deliverer, said) -> None:
    receiver.behaviour = say(*said, reset=True)
    write(callback(make_user(), receiver.url(), 1))
    assert attempt().status_code == 200


@pytest.mark.parametrize("code", [302, 404, 429, 500, 503])
@pytest.mark.parametrize("end", [b"Content-Length: 1\r\n\r\nsorry", b"nonsense\r\n\r\n", CSP * 10 + b"\r\n"])
def test_a_refusal_with_bad_bytes_is_the_refusal_it_says(receiver, deliverer, code, end) -> None:
    receiver.behaviour = say(b"HTTP/1.1 %d Status\r\nRetry-After: 90\r\n" % code + end)
    write(callback(make_user(), receiver.url(), 1))
    status, _, error = attempt()
    assert (status, error) == (code, None)
    assert value("SELECT state FROM webhook_deliveries") == "pending"
    wait = "SELECT extract(epoch FROM next_attempt_at - clock_timestamp())::float FROM webhook_queue"
    assert 60 < until(lambda: value(wait)) <= 90


def test_a_410_with_bad_bytes_ends_it(receiver, deliverer) -> None:
    receiver.behaviour = say(b"HTTP/1.1 410 Gone\r\nContent-Length: 1\r\n\r\ngone for good")
    write(callback(make_user(), receiver.url(), 1))
    until(lambda: value("SELECT state FROM webhook_deliveries") == "failed")
    assert attempt().answer == "gone for good"


@pytest.mark.parametrize(
    "said",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_without_a_status_line_there_is_no_result(receiver, deliverer, said) -> None:
    receiver.behaviour = say(said)
    write(callback(make_user(), receiver.url(), 1))
    status, _, error = attempt()
    assert status is None
    assert error


def test_a_status_whose_headers_never_end_is_a_result_when_the_time_is_up(receiver, deliverer, monkeypatch) -> None:
    monkeypatch.setattr(sender, "TOTAL_SECONDS", 1.0)

    async def drip(_, writer) -> None:
        writer.write(OK)
        for _number in range(1000):
            writer.write(b"X-Slow: 1\r\n")
            await writer.drain()
            await asyncio.sleep(0.1)

    receiver.behaviour = drip
    write(callback(make_user(), receiver.url(), 1))
    assert attempt().status_code == 200


def test_informational_answers_without_end_are_given_up(receiver, deliverer) -> None:
    async def flood(_, writer) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
            await writer.drain()

    receiver.behaviour = flood
    write(callback(make_user(), receiver.url(), 1))
    assert attempt().error == "The receiver's answer is not valid HTTP: The headers are too large."
    assert exchange.MAX_HEAD == 64 * 1024


@pytest.mark.parametrize("body", [b"", b"ok", b"x" * 20_000])
def test_connections_are_used_again_also_by_many_calls_at_once(receiver, deliverer, body) -> None:
    receiver.behaviour = answer(200, body)
    user = make_user()
    write(*(callback(user, receiver.url(), n) for n in range(1, 301)))
    until(lambda: states()["delivered"] == 300)
    # As many as calls are ever under way at once, or fewer.
    assert receiver.connections <= 128


def closing(after: float, *, reset: bool = False) -> Callable:
    """Answers, and closes the connection a moment later without having said so."""

    async def behave(_, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 2\r\n\r\nok")
        await writer.drain()
        await asyncio.sleep(after)
        if reset:
            writer.transport.abort()
        writer.close()

    return behave


async def close_unless_new(request, writer: asyncio.StreamWriter) -> None:
    """Takes the second request on a connection and closes instead of answering."""
    if request.connection in SERVED:
        writer.close()
        return
    SERVED.add(request.connection)
    await answer(200, b"ok")(request, writer)


SERVED: set[int] = set()


def test_a_reused_connection_that_was_closed_is_replaced_at_once(receiver, deliverer) -> None:
    SERVED.clear()
    receiver.behaviour = close_unless_new
    user = make_user()
    for n in range(1, 6):
        write(callback(user, receiver.url(), n))
        until(lambda n=n: states()["delivered"] == n)
    attempts = rows("SELECT status_code FROM webhook_attempts")
    assert [row.status_code for row in attempts] == [200] * 5
    assert value("SELECT fail_count FROM webhook_targets") == 0
    assert receiver.connections == 5  # a repeated call takes a new one, not the next old one
    assert len({request.webhook_id for request in receiver.received}) == 5


def test_a_receiver_that_closes_a_moment_after_its_answer_never_fails(receiver, deliverer) -> None:
    receiver.behaviour = closing(0.01)
    user = make_user()
    for n in range(1, 61):
        write(callback(user, receiver.url(), n))
    until(lambda: states()["delivered"] == 60)
    assert value("SELECT count(*) FROM webhook_attempts WHERE status_code IS NULL") == 0


def test_a_new_connection_that_is_closed_is_a_failure(receiver, deliverer) -> None:
    receiver.behaviour = say()
    write(callback(make_user(), receiver.url(), 1))
    assert attempt().error.startswith("The receiver broke the connection")
    assert len(receiver.received) == 1


def test_a_reused_connection_that_fails_within_its_answer_is_a_failure(receiver, deliverer) -> None:
    receiver.behaviour = answer(200)
    user = make_user()
    write(callback(user, receiver.url(), 1))
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    receiver.behaviour = say(b"HTTP/1.1 2")
    write(callback(user, receiver.url(), 2))
    until(lambda: value("SELECT count(*) FROM webhook_attempts WHERE status_code IS NULL") == 1)
    assert len(receiver.received) == 2


def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one(receiver, deliverer) -> None:
    async def twice(_, writer) -> None:
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(OK + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    receiver.behaviour = twice
    user = make_user()
    write(callback(user, receiver.url(), 1))
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    until(lambda: receiver.open == 0)
    receiver.behaviour = answer(503)
    write(callback(user, receiver.url(), 2))
    until(lambda: value("SELECT count(*) FROM webhook_attempts WHERE status_code = 503") == 1)


WIRE = [
    "/hook?email=ali%40example.com&at=10%3A00&signature=ab",
    "/%2F%2C%28%27%7E%29?x=%2F%2C%28%27%7E%29",
    "/%2f%c3%bc?%2f=%c3%BC",
    "/a+b?c+d=e+f%20g%2B",
    "/?",
    "/path?",
    "/path?&&=&a&b=",
    "//double//slashes//?a=//",
    "/a/./b/../c/%2e%2E/d",
    "/q?a=1?b=2&c[]=3&d={e}|f^g`h\"<i>'(j),k;l:m@n!o$p*q",
    "/%zz%",
    "/x;y=1,2?redirect=https://user:pw@elsewhere.example/?x",
]


@pytest.mark.parametrize("target", WIRE)
def test_a_url_goes_out_as_it_was_registered(receiver, deliverer, target) -> None:
    write(callback(make_user(), receiver.url(target), 1))
    assert receiver.wait_for(1)[0].path == target
    assert attempt().status_code == 200


@pytest.mark.parametrize(
    ("registered", "sent"),
    [
        ("", "/"),
        ("?", "/?"),
        ("?a=%40", "/?a=%40"),
        ("#top", "/"),
        ("/a?b#c?d", "/a?b"),
        ("/ü?ы=%D1", "/%C3%BC?%D1%8B=%D1"),
    ],
)
def test_what_no_request_line_can_hold_is_the_only_thing_changed(receiver, deliverer, registered, sent) -> None:
    write(callback(make_user(), receiver.url(registered), 1))
    assert receiver.wait_for(1)[0].path == sent
