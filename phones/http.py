"""A small HTTP/1.1 client for a process that is a thousand phones.

It keeps connections, sends a call in one write, and knows no redirects, cookies, compression or proxies, as the phones
need none. A call costs a quarter of what it does with a general client, and the benchmarks' phones share the machine
with the gateway.

    HttpError
     └── StaleError   a kept connection was closed before the first byte of the answer
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import httptools

_CONNECT_WITHIN = 10.0
_KEPT_FOR = 4.0
"""Usual servers drop an idle connection after 5 s; one that is about to be dropped is better not used."""


class HttpError(Exception):
    """There was no answer, or one that is no HTTP."""


class StaleError(HttpError):
    """The kept connection was gone; on a new one the call may work."""


class Url(NamedTuple):
    """The parts of an address that a call needs. `target` is path and query, `host` is as the header wants it."""

    secure: bool
    name: str
    port: int
    host: str
    target: str

    @classmethod
    @cache
    def parse(cls, text: str) -> "Url":
        """Take an http or https address apart. Raises ValueError where it is none."""
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not an http address: {text!r}")
        secure = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(secure, parts.hostname, parts.port or (443 if secure else 80), parts.netloc, target)


class Headers:
    """Headers rendered once for many calls."""

    def __init__(self, headers: dict[str, str]) -> None:
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if text.count("\n") != len(headers) or text.count("\r") != len(headers):
            raise ValueError("a header has a line break in it")
        self.block = text.encode("latin-1")


class Answer(NamedTuple):
    """Status and whole body of an answer."""

    status: int
    body: bytes


class _Connection(asyncio.Protocol):
    """One socket: it writes a request, and its parser calls the `on_…` methods as the answer comes."""

    def __init__(self, open_ones: "set[_Connection]", pool: "list[_Connection]") -> None:
        self.pool = pool
        self.closed = asyncio.get_running_loop().create_future()  # done when the socket is closed
        self._open_ones = open_ones
        self.idle_since = 0.0
        self.used = False
        self.unwanted = False
        self.transport: asyncio.Transport | None = None
        self.content_type = ""
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._answered = False
        self._begun = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: HttpError | None = None
        self._ended = False
        self._keeps_alive = False
        self._streams = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._open_ones.add(self)
        if self.unwanted:
            self.abandon()

    def gone(self) -> bool:
        """Tell whether the socket is closed or closing."""
        return self.transport is None or self.transport.is_closing()

    def abandon(self) -> None:
        """Close the socket, though it may be just about to open: who waited for it has gone."""
        self.unwanted = True
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        self.closed.set_result(None)
        if self in self.pool:
            self.pool.remove(self)
        if self._error is None:
            kind = StaleError if self.used and not self._answered else HttpError
            self._error = kind(f"the connection was lost: {exc!r}" if exc else "the connection was closed")
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = HttpError(f"not HTTP: {error}")
            self.abandon()
            self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value.partition(b";")[0].strip().decode("latin-1").lower()

    def on_headers_complete(self) -> None:
        self._begun = True
        if self._streams:
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        if self._streams:
            self._wake()

    def on_message_complete(self) -> None:
        self._ended = True
        self._keeps_alive = self._parser.should_keep_alive()  # known only now, not any more after
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def write(self, method: str, url: Url, headers: Headers, body: bytes | None) -> None:
        """Send a request; what was left of the answer before is forgotten."""
        self._answered = self._begun = self._ended = False
        self._body.clear()
        length = b"" if body is None else b"Content-Length: %d\r\n" % len(body)
        head = f"{method} {url.target} HTTP/1.1\r\nHost: {url.host}\r\n".encode("latin-1")
        assert self.transport is not None
        self.transport.write(b"".join((head, headers.block, length, b"\r\n", body or b"")))

    async def answer(self) -> Answer:
        """Wait for the whole answer; then the connection serves the next call, if both sides agree."""
        while not self._ended:
            if self._error is not None:
                raise self._error
            await self._wait()
        answer = Answer(self._parser.get_status_code(), b"".join(self._body))
        if self._keeps_alive and not self.gone():
            self.idle_since = self._loop.time()
            self.used = True
            self.pool.append(self)
        else:
            self.abandon()
        return answer

    async def head(self) -> int:
        """Wait for the head of an answer whose body is a stream; give its status."""
        self._streams = True
        while not self._begun:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self._parser.get_status_code()

    async def lines(self, within: float) -> AsyncIterator[bytes]:
        """Give the lines of a streamed body as they come, until it ends. TimeoutError: none came for so long."""
        rest = b""
        while True:
            *lines, rest = b"".join((rest, *self._body)).split(b"\n")
            self._body.clear()
            for line in lines:
                yield line
            if self._ended or self._error is not None:
                return
            if not self._body:
                async with asyncio.timeout(within):
                    await self._wait()


class HttpClient:
    """Calls to any number of servers, over connections that are shared and kept. Close it in the end."""

    def __init__(self) -> None:
        self._pools: defaultdict[tuple[bool, str, int], list[_Connection]] = defaultdict(list)
        self._open: set[_Connection] = set()

    async def call(self, method: str, url: Url, headers: Headers, body: bytes | None, within: float) -> Answer:
        """Make a call and give the answer, whatever its status. HttpError: there was none within so many seconds."""
        try:
            async with asyncio.timeout(within):
                try:
                    return await self._try(self._kept(url) or await self._connect(url), method, url, headers, body)
                except StaleError:
                    return await self._try(await self._connect(url), method, url, headers, body)
        except TimeoutError as error:
            raise HttpError(f"no answer within {within:g} s") from error

    async def _try(
        self, connection: _Connection, method: str, url: Url, headers: Headers, body: bytes | None
    ) -> Answer:
        try:
            connection.write(method, url, headers, body)
            return await connection.answer()
        except BaseException:
            connection.abandon()
            raise

    @asynccontextmanager
    async def stream(
        self, url: Url, headers: Headers, within: float
    ) -> AsyncIterator[tuple[int, str, AsyncIterator[bytes]]]:
        """GET a body without end: status, content type, and its lines. HttpError as for a call."""
        connection = await self._connect(url)
        try:
            connection.write("GET", url, headers, None)
            async with asyncio.timeout(_CONNECT_WITHIN):
                status = await connection.head()
            yield status, connection.content_type, connection.lines(within)
        except TimeoutError as error:
            raise HttpError("the stream is silent") from error
        finally:
            connection.abandon()

    def _kept(self, url: Url) -> _Connection | None:
        pool = self._pools[url.secure, url.name, url.port]
        while pool:
            connection = pool.pop()
            if connection.gone():
                continue
            if asyncio.get_running_loop().time() - connection.idle_since < _KEPT_FOR:
                return connection
            connection.abandon()
        return None

    async def _connect(self, url: Url) -> _Connection:
        connection = _Connection(self._open, self._pools[url.secure, url.name, url.port])
        opened = False
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, url.name, url.port, ssl=_trust() if url.secure else None
                )
                opened = True
        except OSError as error:
            raise HttpError(f"cannot connect to {url.host}: {error}") from error
        finally:
            if not opened:
                # Given up while it was opening, uvloop closes a socket without telling that it was lost.
                connection.abandon()
                self._open.discard(connection)
        return connection

    async def close(self) -> None:
        """Close all connections."""
        while self._open:
            connection = next(iter(self._open))
            connection.abandon()
            await connection.closed


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context()
