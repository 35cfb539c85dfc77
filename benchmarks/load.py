"""A load generator in a process of its own: one request over and over on kept connections.

Closed loop (`--connections`): each connection sends its next request when it has its answer; for rates. Open loop
(`--every`): requests leave at fixed times whatever the answers do, until there were as many or the process is asked to
end, and latency counts from the time a request was due, so that a stall is seen by every request that it delays; for
latencies.

Prints one line of JSON: counts by status, seconds, and of each call when it was due (seconds of the clock that all
processes of a machine share) and its latency in milliseconds.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import signal
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools
import uvloop


@dataclass
class Run:
    """What a run is to do, and what came of it."""

    host: str
    port: int
    heads: list[bytes]
    body: str
    keyed: bool = False
    sign: bytes = b""
    statuses: Counter[int] = field(default_factory=Counter)
    calls: list[tuple[float, float]] = field(default_factory=list)
    connections: int = 0
    sent: int = 0

    def head(self) -> bytes:
        """What the requests of the next connection begin with: the tokens go round."""
        self.connections += 1
        return self.heads[self.connections % len(self.heads)]

    def request(self, head: bytes) -> bytes:
        self.sent += 1
        body = self.body.replace("NUMBER", f"{self.sent:07d}").encode()
        key = b"Idempotency-Key: %s\r\n" % uuid.uuid4().hex.encode() if self.keyed else b""
        if self.sign:
            stamp = str(int(time.time())).encode()
            signature = hmac.new(self.sign, body + stamp, hashlib.sha256).hexdigest().encode()
            key += b"X-Timestamp: %s\r\nX-Signature: %s\r\n" % (stamp, signature)
        return b"%s%sContent-Length: %d\r\n\r\n%s" % (head, key, len(body), body)

    def note(self, due: float, status: int) -> None:
        self.statuses[status] += 1
        self.calls.append((round(due, 6), round((time.perf_counter() - due) * 1000, 3)))


class Connection(asyncio.Protocol):
    """One kept connection; `done` is set by the end of each answer."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.status = 0
        self.done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's own class
        self.parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.parser = httptools.HttpResponseParser(self)
        if self.done and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done and not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the connection was closed"))

    async def call(self, request: bytes) -> int:
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self.done
        return self.status


async def _connect(run: Run) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(run.head()), run.host, run.port)
    return connection


async def closed(run: Run, connections: int, requests: int) -> float:
    """Send `requests` requests; the seconds it took."""

    async def client() -> None:
        connection = await _connect(run)
        while run.sent < requests:
            began = time.perf_counter()
            run.note(began, await connection.call(run.request(connection.head)))

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return time.perf_counter() - began


async def opened(run: Run, every: float, requests: int) -> float:
    """Send a request every `every` seconds, each on a connection that is free; the seconds it took."""
    free: list[Connection] = []
    asked_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_end.set)

    async def one(due: float) -> None:
        while free and free[-1].transport.is_closing():  # the server ends what is idle for long
            free.pop()
        connection = free.pop() if free else await _connect(run)
        run.note(due, await connection.call(run.request(connection.head)))
        free.append(connection)

    began = time.perf_counter()
    calls = []
    for number in range(requests):
        due = began + number * every
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if asked_to_end.is_set():
            break
        calls.append(asyncio.create_task(one(due)))
    await asyncio.gather(*calls)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--tokens", required=True, nargs="+")
    parser.add_argument("--body", required=True, help="JSON; NUMBER in it becomes seven digits")
    parser.add_argument("--keyed", action="store_true", help="an Idempotency-Key with each request")
    parser.add_argument("--sign", default="", help="the key by which a phone signs what it posts")
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--every", type=float, default=0.0)
    options = parser.parse_args()
    url = urlsplit(options.url)
    heads = [
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {token}\r\n"
        "Accept: application/json\r\nContent-Type: application/json\r\n"
        for token in options.tokens
    ]
    run = Run(
        url.hostname or "",
        url.port or 80,
        [head.encode() for head in heads],
        options.body,
        options.keyed,
        options.sign.encode(),
    )
    work = (
        opened(run, options.every, options.requests)
        if options.every
        else closed(run, options.connections, options.requests)
    )
    seconds = uvloop.run(work)
    json.dump({"statuses": run.statuses, "seconds": seconds, "calls": run.calls}, sys.stdout)


if __name__ == "__main__":
    main()
