"""Reading a request's body from its connection: who may send how much, and how slowly.

Anybody may send a little. Of more nothing is read before it is known whose it is, and what is buffered is counted: for
each account, and for the process. A body that does not come at a least pace is given up. A file goes to the disk as it
comes, and is counted there.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, TypeVar, cast

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.core.bodies import OFFLOAD_BYTES, header
from app.core.errors import AppError, Overloaded, TooLarge, TooSlow, Unauthenticated
from app.core.shares import Shares

BODY_LIMIT = 1024 * 1024
LARGE_BODY_LIMIT = 32 * 1024 * 1024
# A million rows of five columns are 60 MB.
FILE_LIMIT = 512 * 1024 * 1024
# What is read of anybody. Sends, reports and what phones receive are smaller; they never wait for the budget.
FREE_BYTES = 16 * 1024
# Of all accounts; one has at most half of what the others leave.
MAX_BUFFERED_BYTES = 128 * 1024 * 1024
# The same of what lies on the disk.
MAX_SPOOLED_BYTES = 4 * 1024 * 1024 * 1024
GRACE_SECONDS = 10.0
MIN_BYTES_PER_SECOND = 4096
TIMEOUT_SECONDS = 300.0
FILE_TIMEOUT_SECONDS = 1800.0
# A file this small stays in memory, and one that is larger is written in pieces of this size.
_SPOOL_BYTES = 256 * 1024
# What is refused is read on for a moment, of so many connections at once, and from all of them together no faster than
# one piece (at most 256 KB) in this time: what is thrown away would take the processor from what is not.
_DRAIN_SECONDS = 5.0
_DRAIN_INTERVAL_SECONDS = 0.004
MAX_DRAINED_CONNECTIONS = 64

Value = TypeVar("Value")

log = structlog.get_logger(__name__)

AccountOf = Callable[[Scope], Awaitable[int | None]]
"""The account that a request's token, or the secret in its path, belongs to; None for a stranger."""


_buffers = Shares(MAX_BUFFERED_BYTES)
_spools = Shares(MAX_SPOOLED_BYTES)
_SHARES = {"buffered": _buffers, "spooled": _spools}


async def offload(read: Callable[[bytes], Value], raw: bytes) -> Value:
    """`read(raw)`, in a thread where the body is so large that reading it would hold up the event loop."""
    return await run_in_threadpool(read, raw) if len(raw) > OFFLOAD_BYTES else read(raw)


async def read_body(scope: Scope, receive: Receive, account_of: AccountOf, limit: int = BODY_LIMIT) -> bytes:
    """The whole body, which counts as buffered until `release`.

    Raises `TooLarge`, `TooSlow`, `Overloaded`, and `Unauthenticated` where a stranger sends more than a little, each
    with the rest of the body unread; and `ClientDisconnect`.
    """
    try:
        return await _read(scope, receive, account_of, limit)
    except AppError:
        scope["unread"] = True
        raise


async def read_file(scope: Scope, receive: Receive, account_of: AccountOf) -> BinaryIO:
    """As `read_body` for a file, which lies in a temporary one until `release`."""
    try:
        async with _in_time(FILE_TIMEOUT_SECONDS) as came:
            return await _spool(scope, receive, account_of, FILE_LIMIT, came)
    except AppError:
        scope["unread"] = True
        raise


def is_unread(scope: Scope) -> bool:
    """Whether reading the body was given up, so that the client may still be sending it."""
    return "unread" in scope


async def _read(scope: Scope, receive: Receive, account_of: AccountOf, limit: int) -> bytes:
    expected = _expected(scope, limit)
    if expected > FREE_BYTES:
        await _hold(scope, account_of, expected)
    if scope.get("body_is_here"):
        return await _collect(scope, receive, account_of, limit, expected)
    async with _in_time(TIMEOUT_SECONDS) as came:
        return await _collect(scope, receive, account_of, limit, expected, came)


def _expected(scope: Scope, limit: int) -> int:
    """How large the request says its body is. Raises `TooLarge`."""
    declared = header(scope, b"content-length")
    expected = int(declared) if declared is not None and declared.isdigit() else 0
    if expected > limit:
        raise TooLarge
    return expected


@asynccontextmanager
async def _in_time(most: float) -> AsyncIterator[Callable[[int], None]]:
    """Limits how long what is done within may wait; it tells how many bytes have come. Raises `TooSlow`."""
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began + GRACE_SECONDS) as deadline:

            def came(size: int) -> None:
                deadline.reschedule(began + min(GRACE_SECONDS + size / MIN_BYTES_PER_SECOND, most))

            yield came
    except TimeoutError:
        raise TooSlow from None


async def _collect(
    scope: Scope,
    receive: Receive,
    account_of: AccountOf,
    limit: int,
    expected: int,
    came: Callable[[int], None] | None = None,
) -> bytes:
    """The parts of the body; `came` is told how much there is while more is to come."""
    chunks = bytearray()
    while (message := await receive())["type"] == "http.request":
        part: bytes = message.get("body", b"")
        size = len(chunks) + len(part)
        if size > limit:
            raise TooLarge
        if size > max(FREE_BYTES, expected):
            await _hold(scope, account_of, size)
        if not message.get("more_body"):
            return bytes(chunks + part) if chunks else part
        chunks += part
        if came is not None:
            came(size)
    raise ClientDisconnect


async def _spool(
    scope: Scope, receive: Receive, account_of: AccountOf, limit: int, came: Callable[[int], None]
) -> BinaryIO:
    expected = _expected(scope, limit)
    if expected > FREE_BYTES:
        await _hold(scope, account_of, expected, "spooled")
    file = scope["file"] = SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115 - closed by `release`
    waiting = bytearray()
    size = 0
    while (message := await receive())["type"] == "http.request":
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLarge
        if size > max(FREE_BYTES, expected):
            await _hold(scope, account_of, size, "spooled")
        waiting += part
        ended = not message.get("more_body")
        if ended or len(waiting) >= _SPOOL_BYTES:
            await _write(file, waiting)
            waiting = bytearray()
        if ended:
            file.seek(0)
            return cast("BinaryIO", file)
        came(size)
    raise ClientDisconnect


async def _write(file: "SpooledTemporaryFile[bytes]", part: bytearray) -> None:
    try:
        await run_in_threadpool(file.write, part)
    except OSError as error:  # a full disk
        log.warning("a file that was sent could not be kept", error=error)
        raise Overloaded from None


async def _hold(scope: Scope, account_of: AccountOf, size: int, kind: str = "buffered") -> None:
    """Count `size` bytes as held for this request, in place of what it had."""
    account, held = scope.get(kind, (None, 0))
    if account is None:
        account = await account_of(scope)
        if account is None:
            raise Unauthenticated
    if not _SHARES[kind].take(account, size - held):
        raise Overloaded
    scope[kind] = (account, size)


def release(scope: MutableMapping[str, Any]) -> None:
    """The request is over: its body is held no longer."""
    if "buffered" in scope:
        _buffers.give_back(*scope.pop("buffered"))
    if "file" in scope:
        scope.pop("file").close()
    if "spooled" in scope:
        _spools.give_back(*scope.pop("spooled"))


def closing(receive: Receive, send: Send) -> Send:
    """`send` for an answer to a body that was not read to its end: what the client is still sending is taken first.

    Closing at once would reset the connection, and a client that is busy sending would never see the answer.
    """

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await send({**message, "more_body": True})
            await _drain(receive)
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return answer


@dataclass(slots=True)
class _Draining:
    """How many connections are read on, and when the next of them may be."""

    connections: int = 0
    next_at: float = 0.0

    async def turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self.next_at = max(now, self.next_at) + _DRAIN_INTERVAL_SECONDS
        await asyncio.sleep(self.next_at - now)


_draining = _Draining()


async def _drain(receive: Receive) -> None:
    if _draining.connections >= MAX_DRAINED_CONNECTIONS:
        return
    _draining.connections += 1
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await _is_more(receive):
                await _draining.turn()
    except TimeoutError:
        pass
    finally:
        _draining.connections -= 1


async def _is_more(receive: Receive) -> bool:
    """Take a piece of the body. A function of its own, so that nobody keeps the piece until the next."""
    message = await receive()
    return message["type"] == "http.request" and bool(message.get("more_body"))
