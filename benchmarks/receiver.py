"""Webhook receivers in a process of their own, which answer 200 at once and count what came."""

import asyncio
import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

import uvloop

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Came(NamedTuple):
    """How many requests came, and how many different `webhook-id`s they had."""

    requests: int
    ids: int


class Receivers:
    """One on each of a few addresses of the machine, as receivers of different users are."""

    def __init__(self, told: Connection) -> None:
        self._told = told
        self.urls: list[str] = told.recv()

    def came(self) -> Came:
        """What came since this was last asked."""
        self._told.send(None)
        return Came(*self._told.recv())


@contextmanager
def receivers() -> Iterator[Receivers]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Receivers(ours)
    finally:
        process.terminate()
        process.join()


def _run(told: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_receive(told))


async def _receive(told: Connection) -> None:
    loop = asyncio.get_running_loop()
    ids: Counter[bytes] = Counter()

    def tell() -> None:
        told.recv()
        told.send((ids.total(), len(ids)))
        ids.clear()

    port = 0
    for host in HOSTS:
        server = await loop.create_server(lambda: _Requests(ids), host, port, backlog=1024)
        port = server.sockets[0].getsockname()[1]
    loop.add_reader(told.fileno(), tell)
    told.send([f"http://{host}:{port}/hook" for host in HOSTS])
    await asyncio.Event().wait()


class _Requests(asyncio.Protocol):
    """Answers every request whose body has arrived; knows just enough HTTP for that."""

    def __init__(self, ids: Counter[bytes]) -> None:
        self._ids = ids
        self._waiting = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while True:
            head, end, rest = self._waiting.partition(b"\r\n\r\n")
            lower = head.lower()
            length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if not end or len(rest) < length:
                return
            self._waiting = rest[length:]
            self._ids[lower.partition(b"webhook-id:")[2].partition(b"\r\n")[0]] += 1
            self._transport.write(_ANSWER)
