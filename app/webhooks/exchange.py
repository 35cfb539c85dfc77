"""One call on the wire: what its answer said, whatever became of the connection afterwards.

aiohttp reads strict HTTP and drops a whole answer for one bad byte in it. A receiver whose status line was read has
said all that counts, so the bytes of an answer are kept until it is accepted as a whole, and read leniently if it
never is.
"""

import asyncio
import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage

# Of the status line and all headers together, informational answers before it included.
MAX_HEAD = 64 * 1024
_SWITCHING_PROTOCOLS = 101
_FINAL = 200
_WITHOUT_BODY = {204, 304}

_STATUS_LINE = re.compile(rb"[\r\n]*HTTP/[0-9](?:\.[0-9])?[ \t]+([0-9]{3})(?:[ \t][^\r\n]*)?\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_RETRY_AFTER = re.compile(rb"\nretry-after:[ \t]*([^\r\n]*)\r?\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer that is not valid HTTP, as far as it can be read."""

    status: int
    retry_after: str | None
    body: bytes


@dataclass(slots=True)
class Exchange:
    """A call under way: whose it is, and what came back on the connection it uses.

    `address` is the one it is made to, or the first that is tried. `fresh` asks for a new connection, `reused` says
    that the connection had carried another call before.
    """

    user_id: int
    address: str | None = None
    fresh: bool = False
    reused: bool = False
    seen: bytearray = field(default_factory=bytearray)

    def may_repeat(self) -> bool:
        """Whether a reused connection ended before any byte of an answer.

        Bytes that begin no answer are the rest of the one before.
        """
        start = bytes(self.seen.lstrip(b"\r\n")[:5])
        return self.reused and (not start or not b"HTTP/".startswith(start))

    def raw_answer(self) -> RawAnswer | None:
        """What was said as far as it came; None if no status line did. Informational answers are skipped."""
        place = 0
        while line := _STATUS_LINE.match(self.seen, place):
            status = int(line[1])
            end = _HEAD_END.search(self.seen, line.end() - 1 - self.seen[: line.end()].endswith(b"\r\n"))
            if status >= _FINAL or status == _SWITCHING_PROTOCOLS:
                head = bytes(self.seen[line.end() - 1 : end.end() if end else None])
                asked = _RETRY_AFTER.search(head)
                body = bytes(self.seen[end.end() :]) if end else b""
                return RawAnswer(status, asked[1].decode("latin-1") if asked else None, body)
            if end is None:
                return None
            place = end.end()
        return None


# The call that the current task makes: connections are made and used for it.
under_way: ContextVar[Exchange] = ContextVar("under_way")


def current_exchange() -> Exchange:
    """The current task's, or a new one that nobody looks at."""
    return under_way.get(None) or Exchange(0)


class AnswerKeeper(ResponseHandler):
    """aiohttp's connection, which leaves what it receives with the call it serves, and never mixes up two answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.address = ""
        self._exchange: Exchange | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where it leads."""
        self.address = transport.get_extra_info("peername")[0]
        super().connection_made(transport)

    @property
    def is_used(self) -> bool:
        """Whether it has carried a call before."""
        return self._exchange is not None

    def serve(self, exchange: Exchange) -> None:
        """Begin a call."""
        exchange.address = self.address
        exchange.reused = self.is_used
        exchange.seen.clear()
        self._exchange, self._answered = exchange, False

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp's own way to have the parser go on
            super().data_received(data)
            return
        exchange = self._exchange
        if exchange is None or (self._answered and (self._payload is None or self._payload.is_eof())):
            self._drop()  # nobody asked: it could only be taken for the next call's answer
            return
        if not self._answered:
            exchange.seen += data if len(data) < MAX_HEAD else data[:MAX_HEAD]
        super().data_received(data)
        if not self._answered and len(exchange.seen) >= MAX_HEAD:
            self.set_exception(BadHttpMessage("The headers are too large."))
            self._drop()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take a message that was read; informational ones are no answer yet."""
        message = data[0]
        code = message.code
        if code >= _FINAL or code == _SWITCHING_PROTOCOLS:
            self._answered = True
        if code in _WITHOUT_BODY and (
            message.headers.get(hdrs.CONTENT_LENGTH, "0") != "0" or hdrs.TRANSFER_ENCODING in message.headers
        ):
            self.force_close()  # a body may follow where there must be none
        super().feed_data(data, size)

    def _drop(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()
