"""Reading a request's body from its connection: who may send how much, and how slowly.

Anybody may send a little. Of more nothing is read before it is known whose it is, and what is buffered is counted: for
each account, and for the process. A body that does not come at a least pace is given up.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from app.core.bodies import header
from app.core.errors import AppError, Overloaded, TooLarge, TooSlow, Unauthenticated
from app.core.shares import Shares

BODY_LIMIT = 1024 * 1024
LARGE_BODY_LIMIT = 32 * 1024 * 1024
# What is read of anybody. Sends, reports and what phones receive are smaller; they never wait for the budget.
FREE_BYTES = 16 * 1024
# Of all accounts; one has at most half of what the others leave.
MAX_BUFFERED_BYTES = 128 * 1024 * 1024
GRACE_SECONDS = 10.0
MIN_BYTES_PER_SECOND = 4096
TIMEOUT_SECONDS = 300.0
# What is refused is read on for a moment, of so many connections at once and no faster than this: where more pour, what
# is thrown away would take the processor from what is not.
_DRAIN_SECONDS = 5.0
_DRAIN_PAUSE_SECONDS = 0.02
MAX_DRAINED_CONNECTIONS = 16

AccountOf = Callable[[Scope], Awaitable[int | None]]
"""The account that a request's token, or the secret in its path, belongs to; None for a stranger."""


_buffers = Shares(MAX_BUFFERED_BYTES)


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


def is_unread(scope: Scope) -> bool:
    """Whether reading the body was given up, so that the client may still be sending it."""
    return "unread" in scope


async def _read(scope: Scope, receive: Receive, account_of: AccountOf, limit: int) -> bytes:
    declared = header(scope, b"content-length")
    expected = int(declared) if declared is not None and declared.isdigit() else 0
    if expected > limit:
        raise TooLarge
    if expected > FREE_BYTES:
        await _hold(scope, account_of, expected)
    if scope.get("body_is_here", bool)():
        return await _collect(scope, receive, account_of, limit, expected)
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began + GRACE_SECONDS) as deadline:

            def came(size: int) -> None:
                allowed = min(GRACE_SECONDS + size / MIN_BYTES_PER_SECOND, TIMEOUT_SECONDS)
                deadline.reschedule(began + allowed)

            return await _collect(scope, receive, account_of, limit, expected, came)
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


async def _hold(scope: Scope, account_of: AccountOf, size: int) -> None:
    """Count `size` bytes as buffered for this request, in place of what it had."""
    account, held = scope.get("buffered", (None, 0))
    if account is None:
        account = await account_of(scope)
        if account is None:
            raise Unauthenticated
    if not _buffers.take(account, size - held):
        raise Overloaded
    scope["buffered"] = (account, size)


def release(scope: MutableMapping[str, Any]) -> None:
    """The request is over: its body is held no longer."""
    if "buffered" in scope:
        _buffers.give_back(*scope.pop("buffered"))


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


_drained: set[Receive] = set()


async def _drain(receive: Receive) -> None:
    if len(_drained) >= MAX_DRAINED_CONNECTIONS:
        return
    _drained.add(receive)
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):  # noqa: ASYNC110
                await asyncio.sleep(_DRAIN_PAUSE_SECONDS)
    except TimeoutError:
        pass
    finally:
        _drained.discard(receive)
