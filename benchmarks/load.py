"""A load generator in a process of its own: one request over and over on kept connections.

Closed loop (`--connections`): each connection sends its next request when it has its answer; for rates. Open loop
(`--every`): requests leave at fixed times whatever the answers do, and latency counts from the time a request was due,
so that a stall is seen by every request that it delays; for latencies.

Prints one line of JSON: counts by status, seconds, and latencies in milliseconds.
"""

import argparse
import asyncio
import json
import sys
import time
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
    head: bytes
    numbers: int
    body: str
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    sent: int = 0

    def request(self) -> bytes:
        self.sent += 1
        body = self.body.replace("NUMBER", f"{self.sent % self.numbers:07d}").encode()
        return self.head + str(len(body)).encode() + b"\r\n\r\n" + body


class Connection(asyncio.Protocol):
    """One kept connection; `done` is set by the end of each answer."""

    def __init__(self) -> None:
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
    _, connection = await asyncio.get_running_loop().create_connection(Connection, run.host, run.port)
    return connection


async def closed(run: Run, connections: int, requests: int) -> float:
    """Send `requests` requests; the seconds it took."""

    async def client() -> None:
        connection = await _connect(run)
        while run.sent < requests:
            began = time.perf_counter()
            run.statuses[await connection.call(run.request())] += 1
            run.latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    return time.perf_counter() - began


async def opened(run: Run, every: float, requests: int) -> float:
    """Send a request every `every` seconds, each on a connection that is free; the seconds it took."""
    free: list[Connection] = []

    async def one(due: float) -> None:
        while free and free[-1].transport.is_closing():  # the server ends what is idle for long
            free.pop()
        connection = free.pop() if free else await _connect(run)
        run.statuses[await connection.call(run.request())] += 1
        run.latencies.append(time.perf_counter() - due)
        free.append(connection)

    began = time.perf_counter()
    calls = []
    for number in range(requests):
        due = began + number * every
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        calls.append(asyncio.create_task(one(due)))
    await asyncio.gather(*calls)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--token", required=True)
    parser.add_argument("--body", required=True, help="JSON; NUMBER in it becomes seven digits")
    parser.add_argument("--numbers", type=int, default=10_000_000)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--every", type=float, default=0.0)
    options = parser.parse_args()
    url = urlsplit(options.url)
    head = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {options.token}\r\n"
        "Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: "
    )
    run = Run(url.hostname or "", url.port or 80, head.encode(), options.numbers, options.body)
    work = (
        opened(run, options.every, options.requests)
        if options.every
        else closed(run, options.connections, options.requests)
    )
    seconds = uvloop.run(work)
    json.dump(
        {
            "statuses": run.statuses,
            "seconds": seconds,
            "latencies_ms": [round(latency * 1000, 3) for latency in sorted(run.latencies)],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
