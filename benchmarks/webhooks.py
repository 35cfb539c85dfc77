"""Webhook deliveries per second of one worker process, beside what its HTTP client can do at most.

Three figures from one run, against receivers on loopback that answer `200` at once, in a process of their own:

- `client`: a bare `httpx.AsyncClient` on the worker's connections, 64 requests at a time, nothing else;
- `worker`: a real Celery worker process with the task `webhooks.deliver`, from rows in Postgres to recorded rows;
- `one task each`: the design not taken, a Celery task per delivery that reads, posts and records one row.

Run with `python -m benchmarks.webhooks`; `--smoke` makes it short.
"""

import argparse
import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

import uvloop
from aiohttp import ClientSession
from celery import Celery
from httpx_aiohttp import AiohttpTransport
from sqlalchemy import text

from app.core.database import close_engines, transaction
from app.core.http_client import AsyncClient
from app.core.names import TaskName
from app.core.queue import celery_app
from app.core.settings import get_settings
from app.local.servers import EmbeddedPostgres, EmbeddedValkey
from app.migrations.config import migrate
from app.webhooks import outbox
from app.webhooks.claims import Call
from app.webhooks.client import guarded_session
from app.webhooks.records import record
from app.webhooks.sender import post
from app.webhooks.signing import ensure_secrets
from benchmarks.gateway import Figure

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
AT_ONCE = 64
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DATA = {
    "id": 101,
    "message_id": "7b0a3f0e-52a5-4b7c-9a3c-3f3d6a1b2c4d",
    "my_id": "order-1001",
    "device_id": 5,
    "recipient_number": "+998901234567",
    "sender_number": None,
    "message": "Your order 1001 has left our warehouse and arrives tomorrow.",
    "direction": "outbound",
    "status": "delivered",
    "price": 100,
    "is_charged": False,
    "sim_slot": 0,
    "segments": 1,
    "encoding": "gsm7",
    "uncertain": False,
    "callback_url": "https://example.com/sms/callback",
    "error_message": None,
    "sent_at": "2026-06-08T10:00:03.000000Z",
    "delivered_at": "2026-06-08T10:00:05.000000Z",
    "created_at": "2026-06-08T10:00:00.000000Z",
    "updated_at": "2026-06-08T10:00:05.000000Z",
}


@dataclass(frozen=True)
class Rates:
    """Deliveries per second, and how many Celery tasks the worker needed."""

    deliveries: int
    client: float
    worker: float
    tasks: int
    one_task_each: float

    @property
    def share(self) -> float:
        return self.worker / self.client


class _Receiver(asyncio.Protocol):
    """Answers every request whose body has arrived; knows just enough HTTP for that."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport, self._waiting = transport, b""

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while True:
            head, end, rest = self._waiting.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if not end or len(rest) < length:
                return
            self._waiting = rest[length:]
            self._transport.write(ANSWER)


async def _receive(told: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Receiver, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    for host in HOSTS[1:]:
        await asyncio.get_running_loop().create_server(_Receiver, host, port, backlog=1024)
    told.send([f"http://{host}:{port}/hook" for host in HOSTS])
    await asyncio.Event().wait()


def _receiver(told: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_receive(told))


@contextmanager
def _receivers() -> Iterator[list[str]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_receiver, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


@contextmanager
def _servers() -> Iterator[None]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres, valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
        stack.callback(postgres.home.remove)
        stack.callback(valkey.home.remove)
        stack.enter_context(postgres)
        stack.enter_context(valkey)
        # Undone at the end, or the next part would take these servers for the operator's.
        stack.callback(get_settings.cache_clear)
        stack.enter_context(patch.dict(os.environ))
        os.environ["SMSFLEET_DATABASE_URL"] = postgres.url
        os.environ["SMSFLEET_REDIS_URL"] = valkey.url
        os.environ["SMSFLEET_WEBHOOK_ALLOWED_NETWORKS"] = "127.0.0.0/8"
        os.environ["SMSFLEET_LOG_LEVEL"] = "warning"
        get_settings.cache_clear()
        migrate()
        stack.callback(close_engines)
        yield


@contextmanager
def _worker(app: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "celery", "--quiet", "-A", app, "worker", "-P", "threads", *options]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    quiet = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
    with subprocess.Popen(command, env={**os.environ, **quiet}) as process:
        try:
            yield process
        finally:
            process.terminate()


async def _bare(urls: list[str], n: int) -> float:
    """Requests a second of the client alone, each with the worker's headers and read to its end."""
    body = outbox.body_of("status", DATA, "2026-06-08T10:00:05.000000Z").encode()
    headers = {"content-type": "application/json", "webhook-id": "x" * 36, "webhook-signature": "v1," + "y" * 44}
    left = iter(range(n))

    async def lane() -> None:
        for number in left:
            answer = await client.post(urls[number % len(urls)], content=body, headers=headers)
            assert answer.status_code == 200

    async with AsyncClient(transport=AiohttpTransport(client=guarded_session), trust_env=False) as client:
        await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
        left = iter(range(n))
        started = time.perf_counter()
        await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
        return n / (time.perf_counter() - started)


def _write(urls: list[str], n: int) -> None:
    """Deliveries of as many users as there are receivers, as a campaign of each would leave them."""
    for start in range(0, n, 5000):
        with transaction() as session:
            outbox.write(
                session,
                [
                    outbox.Event(1 + i % len(urls), "callback", "status", DATA, i + 1, urls[i % len(urls)], outbox.BULK)
                    for i in range(start, min(start + 5000, n))
                ],
            )
    with transaction() as session:
        session.execute(text("ANALYZE webhook_queue, webhook_deliveries"))


def _left() -> int:
    with transaction() as session:
        return session.scalar(text("SELECT count(*) FROM webhook_queue")) or 0


def _emptied(n: int) -> float:
    """Deliveries a second, from the first one done until the queue is empty."""
    while (first := _left()) == n:
        time.sleep(0.002)
    started = time.perf_counter()
    while _left():
        time.sleep(0.02)
    return first / (time.perf_counter() - started)


def _ready(name: str) -> None:
    while not celery_app().control.inspect([name], timeout=1).ping():
        pass


def _by_worker(urls: list[str], n: int) -> tuple[float, int]:
    name = "webhooks@bench"
    with _worker("workers.app", "-Q", "webhooks", "-c", "1", "-n", name):
        _ready(name)
        _write(urls, 500)
        while _left():
            time.sleep(0.02)
        before = _tasks(name)
        _write(urls, n)
        rate = _emptied(n)
        return rate, _tasks(name) - before


def _tasks(name: str) -> int:
    stats = celery_app().control.inspect([name], timeout=2).stats() or {}
    return int(stats[name]["total"].get(TaskName.DELIVER.value, 0))


# The design not taken: what it would cost to have a task for each delivery.
single = Celery("single", broker=os.environ.get("SMSFLEET_REDIS_URL", "redis://"))
single.conf.update(task_default_queue="single", task_ignore_result=True, worker_prefetch_multiplier=16)


_starting = threading.Lock()


@lru_cache
def _single_sender() -> tuple[asyncio.AbstractEventLoop, ClientSession]:
    loop = uvloop.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def session() -> ClientSession:
        return guarded_session()

    return loop, asyncio.run_coroutine_threadsafe(session(), loop).result()


@single.task(name="one")
def one(delivery_id: int) -> None:
    """Post one delivery."""
    lease = uuid4()
    with transaction() as session:
        row = session.execute(_ONE, {"id": delivery_id, "lease": lease}).one()
        secrets = ensure_secrets(session, [row.user_id])[row.user_id]
    call = Call(delivery_id, lease, row.webhook_id, row.user_id, row.hook, row.url, row.origin, row.body, 0, secrets)
    with _starting:
        loop, client = _single_sender()
    result = asyncio.run_coroutine_threadsafe(post(client, call), loop).result()
    with transaction() as session:
        record(session, [result])


_ONE = text("""
    UPDATE webhook_queue q
    SET lease_id = :lease, lease_until = clock_timestamp() + interval '30 s',
        next_attempt_at = clock_timestamp() + interval '30 s'
    FROM webhook_deliveries d WHERE d.id = q.delivery_id AND q.delivery_id = :id
    RETURNING q.user_id, q.hook, q.url, q.origin, d.webhook_id, d.body
""")


def _by_single_tasks(urls: list[str], n: int) -> float:
    single.conf.broker_url = os.environ["SMSFLEET_REDIS_URL"]
    _write(urls, n)
    with transaction() as session:
        ids = session.scalars(text("SELECT delivery_id FROM webhook_queue ORDER BY delivery_id")).all()
    with single.producer_or_acquire() as producer, producer.batch(max_size=500):
        for number in ids:
            one.apply_async((number,), producer=producer)
    with _worker("benchmarks.webhooks:single", "-Q", "single", "-c", "32", "-n", "single@bench"):
        return _emptied(n)


def run(*, smoke: bool = False) -> Rates:
    """Measure all three, one after the other, with nothing else running of ours."""
    n = 500 if smoke else 20_000
    with _servers(), _receivers() as urls:
        client = uvloop.run(_bare(urls, n))
        worker, tasks = _by_worker(urls, n)
        one_task_each = _by_single_tasks(urls, n // 5)
    return Rates(n, client, worker, tasks, one_task_each)


def figures(*, smoke: bool = False) -> list[Figure]:
    """The same for the suite's table."""
    rates = run(smoke=smoke)
    return [
        Figure("webhooks, one worker process", rates.worker, "/s", "1,500/s", f"{rates.client:,.0f}/s bare client"),
        Figure("of the bare client on the same transport", rates.share, "times", "0.7"),
        Figure("one Celery task per delivery instead", rates.one_task_each, "/s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="webhook deliveries per second of one worker process")
    parser.add_argument("--smoke", action="store_true", help="a short run that shows only that it works")
    rates = run(smoke=parser.parse_args().smoke)
    print(f"deliveries: {rates.deliveries}")
    print(f"httpx.AsyncClient alone, {AT_ONCE} connections: {rates.client:.0f} requests per second")
    print(f"worker process: {rates.worker:.0f} deliveries per second, {rates.share:.0%} of that, {rates.tasks} tasks")
    print(f"one Celery task per delivery: {rates.one_task_each:.0f} deliveries per second")


if __name__ == "__main__":
    main()
