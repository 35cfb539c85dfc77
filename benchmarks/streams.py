"""Open event streams on one API process: the memory that each takes, and how soon a send wakes its phone."""

import asyncio
import random
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import psutil
import uvloop

from app.local.installation import Installation, Shape
from benchmarks.gateway import Account, Figure, check, installation, percentile
from phones.http import Headers, HttpClient, Url

_OPENED_AT_ONCE = 50


def run(*, smoke: bool = False) -> list[Figure]:
    streams, wakes = (50, 20) if smoke else (2000, 500)
    _allow_files(2 * streams + 500)
    with installation(Shape(api=1, flower=False)) as running:
        account = Account(running)
        tokens = [account.enroll(f"bench/{number}") for number in range(streams)]
        devices = [device["id"] for device in account.call("GET", "/api/devices")]
        before = _memory(running)
        taken, waits, after, share = uvloop.run(
            _measure(running, account, dict(zip(devices, tokens, strict=True)), wakes, 1.0 if smoke else 30.0)
        )
    return [
        Figure(f"{streams:,} streams opened in", taken, "s"),
        Figure(
            "memory of a stream",
            (after - before) * 1000 / streams,
            "KB",
            "",
            f"{after:.0f} MB in all",
        ),
        Figure("processor of 1,000 open streams", share * 100 * 1000 / streams, "% of a core", "", "of all processes"),
        Figure("send to wake, median", percentile(waits, 50), "ms", "< 50 ms"),
        Figure("send to wake, p99", percentile(waits, 99), "ms"),
    ]


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


class Stream:
    """One phone's open stream. `wakes` counts the events that ask it to pull."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.wakes = 0
        self.woken = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while line := await self._reader.readline():
            if line.startswith(b"event: MessageEnqueued"):
                self.wakes += 1
                self.woken.set()

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()


async def _open(url: str, token: str) -> Stream:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    request = f"GET /api/mobile/v1/events HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(request.encode())
    check("status", (await reader.readline()).split()[1], b"200")
    return Stream(reader, writer)


@asynccontextmanager
async def _opened(url: str, tokens: dict[int, str]) -> AsyncIterator[dict[int, Stream]]:
    streams: dict[int, Stream] = {}
    try:
        pairs = list(tokens.items())
        for start in range(0, len(pairs), _OPENED_AT_ONCE):
            some = pairs[start : start + _OPENED_AT_ONCE]
            opened = await asyncio.gather(*(_open(url, token) for _, token in some))
            streams |= {device: stream for (device, _), stream in zip(some, opened, strict=True)}
        yield streams
    finally:
        for stream in streams.values():
            await stream.close()


def _memory(running: Installation) -> float:
    """Megabytes that the API process holds alone."""
    return float(psutil.Process(running.processes["api-1"].pid).memory_full_info().uss / 1e6)


def _busy(running: Installation) -> float:
    """Seconds of a processor that the installation has taken."""
    started = [psutil.Process(child.pid) for child in running.processes.values()]
    seconds = 0.0
    for process in {*started, *(one for parent in started for one in parent.children(recursive=True))}:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


async def _measure(
    running: Installation, account: Account, tokens: dict[int, str], wakes: int, rest: float
) -> tuple[float, list[float], float, float]:
    began = time.perf_counter()
    async with _opened(account.url, tokens) as streams:
        taken = time.perf_counter() - began
        await asyncio.sleep(1)
        after = _memory(running)
        began = _busy(running)
        await asyncio.sleep(rest)
        share = (_busy(running) - began) / rest
        client = HttpClient()
        headers = Headers({"Authorization": f"Bearer {account.token}", "Content-Type": "application/json"})
        waits = []
        for device in random.sample(sorted(streams), min(wakes, len(streams))):
            body = f'{{"message": "x", "recipient_number": "+998901112233", "device_id": {device}}}'.encode()
            sent = time.perf_counter()
            await client.call("POST", Url.parse(f"{account.url}/api/sms"), headers, body, 10)
            await asyncio.wait_for(streams[device].woken.wait(), 5)
            waits.append((time.perf_counter() - sent) * 1000)
        check("phones woken", sum(stream.wakes > 0 for stream in streams.values()), len(waits))
        await client.close()
    return taken, sorted(waits), after, share


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
