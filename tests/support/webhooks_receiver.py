"""A receiver of webhooks on a real socket, which can be told to misbehave."""

import asyncio
import json
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


Behaviour = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, body: bytes = b"", headers: str = "") -> Behaviour:
    async def behave(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} Status\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Each request of one webhook meets the next behaviour, the last one for ever."""
    counts: dict[str, int] = defaultdict(int)

    async def behave(request: Received, writer: asyncio.StreamWriter) -> None:
        n = counts[request.webhook_id]
        counts[request.webhook_id] += 1
        await behaviours[min(n, len(behaviours) - 1)](request, writer)

    return behave


async def hang(_: Received, writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()


async def reset(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def drip_headers(_: Received, writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
        writer.write(bytes((byte,)))
        await writer.drain()
        await asyncio.sleep(0.2)


async def drip_body(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    for _number in range(10_000):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.2)


async def endless_body(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        writer.write(b"y" * 65_536)
        await writer.drain()


@dataclass
class Receiver:
    """Listens on loopback in a thread of its own until closed."""

    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    behaviour: Behaviour = field(default_factory=lambda: answer(200, b"ok"))
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    port: int = 0

    def __enter__(self) -> Self:
        self._changed = threading.Condition()
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        assert started.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(5)

    def url(self, path: str = "/hook") -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}{path}"

    def wait(self, condition: Callable[[list[Received]], bool], seconds: float = 20) -> list[Received]:
        """What was received, once `condition` holds for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.received), seconds), (
                f"not received in {seconds} s; have {len(self.received)} requests"
            )
            return list(self.received)

    def wait_for(self, n: int, seconds: float = 20) -> list[Received]:
        return self.wait(lambda received: len(received) >= n, seconds)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, self.host, self.port, ssl=self.tls, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stopped.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while await self._one(reader, writer, number):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (item.partition(":") for item in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Received(line.split(" ")[1], headers, body, time.monotonic(), number)
        with self._changed:
            self.received.append(request)
            self._changed.notify_all()
        await self.behaviour(request, writer)
        return not writer.is_closing()
