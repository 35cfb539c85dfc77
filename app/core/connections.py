"""The connections of an API process, under uvicorn: how many, of whom, and how long a request's head may take.

uvicorn has no limit for any of these: `uvicorn --http app.core.connections:Connection`. One look a second over all
connections costs less than a timer for each request.
"""

import asyncio
import resource
from collections import Counter
from ipaddress import ip_address
from typing import Any

import structlog
from prometheus_client import Counter as Count
from prometheus_client import Gauge
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.core.settings import get_settings
from app.core.throttling import network

# From the start of a connection, or the end of the answer before, to the end of a request's head.
HEAD_SECONDS = 15.0
# Of a connection on which nothing comes; uvicorn's five seconds are those after which open pages ask again, and after
# which widely used clients stop to use a connection: perhaps a moment too late.
KEEP_ALIVE_SECONDS = 10
MAX_HEAD_BYTES = 64 * 1024
MAX_PIPELINED = 32
# An answer of which the client takes nothing.
UNTAKEN_SECONDS = 120.0
# Files that are no connections of clients: the database's, Valkey's, the program's own.
RESERVED_FILES = 200
MAX_FILES = 65_536
# How long an idle connection is kept by a process that ends, for a request that may be on its way.
PARTING_SECONDS = 0.5
_LOOK_SECONDS = 1.0
_WARN_AGAIN_SECONDS = 60.0

_OPEN = Gauge("smsfleet_connections", "Connections of clients that are open", multiprocess_mode="livesum")
_MAX = Gauge("smsfleet_connections_max", "Connections of clients that there may be", multiprocess_mode="livesum")
_NEARLY_FULL = Count("smsfleet_connections_nearly_full_seconds", "Seconds with nine tenths of them open")
_REFUSED = Count("smsfleet_connections_refused", "Connections that were closed, by reason", ["reason"])

log = structlog.get_logger(__name__)


def raise_file_limit() -> int:
    """Let the process open as many files as the system allows it; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


class _Crowd:
    """All connections of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        files = raise_file_limit()
        self.loop = loop
        self.max = max(files - RESERVED_FILES, files // 2)
        # Nobody has all of them, whatever the setting says.
        self.max_of_address = min(get_settings().connections_per_address, self.max // 2)
        self._open: set[Connection] = set()
        self._of_address: Counter[str] = Counter()
        self._logged: dict[str, float] = {}
        _MAX.set(self.max)
        loop.call_later(_LOOK_SECONDS, self._look)

    def enter(self, connection: "Connection", address: str, peer: str) -> bool:
        """Whether the connection may stay: one from `peer`, which counts as `address`."""
        if len(self._open) >= self.max:
            return self._refuse("full", address)
        if self._of_address[address] >= self.max_of_address and not _is_proxy(peer):
            return self._refuse("address", address)
        self._open.add(connection)
        self._of_address[address] += 1
        return True

    def leave(self, connection: "Connection", address: str) -> None:
        if connection in self._open:
            self._open.discard(connection)
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def _refuse(self, reason: str, address: str) -> bool:
        _REFUSED.labels(reason).inc()
        self._warn("connections are refused", reason=reason, address=address)
        return False

    def _warn(self, event: str, **what: Any) -> None:
        now = self.loop.time()
        if now - self._logged.get(event, float("-inf")) >= _WARN_AGAIN_SECONDS:
            self._logged[event] = now
            log.warning(event, open=len(self._open), max=self.max, max_of_address=self.max_of_address, **what)

    def _look(self) -> None:
        self.loop.call_later(_LOOK_SECONDS, self._look)
        now = self.loop.time()
        for connection in list(self._open):
            if reason := connection.overdue(now):
                _REFUSED.labels(reason).inc()
                connection.end()
        _OPEN.set(len(self._open))
        if len(self._open) * 10 >= self.max * 9:
            _NEARLY_FULL.inc(_LOOK_SECONDS)
            [(address, most)] = self._of_address.most_common(1)
            self._warn("nine tenths of all connections are open", most_of=address, of_them=most)


def _is_proxy(peer: str) -> bool:
    """Whether the connections of an address are those of many clients."""
    try:
        asked = ip_address(peer)
    except ValueError:  # a socket of another kind
        return False
    return any(asked in each for each in get_settings().trusted_proxies)


_crowds: dict[asyncio.AbstractEventLoop, _Crowd] = {}


def _crowd(loop: asyncio.AbstractEventLoop) -> _Crowd:
    if loop not in _crowds:
        _crowds.clear()  # a process has one loop; one before it has ended
        _crowds[loop] = _Crowd(loop)
    return _crowds[loop]


class Connection(HttpToolsProtocol):
    """uvicorn's own, with limits."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive = KEEP_ALIVE_SECONDS
        self._crowd = _crowd(self.loop)
        peer = self.client[0] if self.client else ""
        self._address = network(peer)
        self._head_bytes = 0
        self._waits_since: float | None = self.loop.time()  # for a request's head
        self._in_body = False  # which may still be coming when its request has its answer
        self._untaken_since: float | None = None
        self._is_parting = False
        if not self._crowd.enter(self, self._address, peer):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._waits_since is not None and not self._in_body:
            self._head_bytes += len(data)
            super().data_received(data)
            if self._waits_since is not None and self._head_bytes > MAX_HEAD_BYTES:
                _REFUSED.labels("head").inc()
                self.end()
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._waits_since, self._in_body = None, True
        if len(self.pipeline) < MAX_PIPELINED:
            super().on_headers_complete()
            if self._is_parting:
                self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            _REFUSED.labels("pipelined").inc()
            self.end()

    def on_message_complete(self) -> None:
        self._in_body = False
        # Most bodies come with their head: who reads one needs no timer then, which costs as much as all the rest.
        self.scope["body_is_here"] = True  # type: ignore[typeddict-unknown-key]
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._waits_since, self._head_bytes = self.loop.time(), 0
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._untaken_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._untaken_since = None
        super().resume_writing()

    def shutdown(self) -> None:
        """The process ends. Closed at once, an idle connection would lose a request that its client is just sending."""
        self._is_parting = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(PARTING_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def overdue(self, now: float) -> str | None:
        """Why the connection is to be ended now, None where it may stay."""
        if self._waits_since is not None and now - self._waits_since > HEAD_SECONDS:
            return "slow"
        if self._untaken_since is not None and now - self._untaken_since > UNTAKEN_SECONDS:
            return "untaken"
        return None

    def end(self) -> None:
        # What the client does not take would be waited for.
        self.transport.abort()
