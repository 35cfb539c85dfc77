"""Webhook deliveries per second of one worker process, beside what its HTTP client can do at most.

Figures from one run, against receivers on loopback that answer `200` at once, in a process of their own:

- `httpx`, `aiohttp`: bare clients on the worker's kind of connections, 64 requests at a time, nothing else, in a
  process that shares its interpreter as the worker does. The worker posts by aiohttp without httpx (decision 11);
- `worker`: a real Celery worker process with the task `webhooks.deliver`, from rows in Postgres to recorded rows, from
  the moment it may begin until the last row is recorded; and two such processes;
- `one task each`: the design not taken, a Celery task per delivery that reads, posts and records one row.

What was timed is checked: each delivery is recorded as delivered, and came to its receiver once.
"""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal
from uuid import uuid4

import uvloop
from aiohttp import ClientSession
from celery import Celery
from httpx_aiohttp import AiohttpTransport
from sqlalchemy import text

from app.core.database import transaction
from app.core.gc_tuning import share_the_interpreter
from app.core.http_client import AsyncClient
from app.core.lanes import Lane
from app.core.queue import celery_app
from app.local.servers import EmbeddedPostgres, EmbeddedValkey
from app.migrations.config import migrate
from app.webhooks import history, outbox
from app.webhooks.claims import Call
from app.webhooks.client import guarded_session
from app.webhooks.records import record
from app.webhooks.sender import post
from app.webhooks.signing import ensure_secrets
from benchmarks.gateway import CheckFailedError, Figure, check, inside
from benchmarks.receiver import Receivers, receivers

AT_ONCE = 64
TIMEOUT_SECONDS = 30.0
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


@contextmanager
def _servers() -> Iterator[None]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres, valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
        stack.callback(postgres.home.remove)
        stack.callback(valkey.home.remove)
        stack.enter_context(postgres)
        stack.enter_context(valkey)
        environment = {
            "SMSFLEET_DATABASE_URL": postgres.url,
            "SMSFLEET_REDIS_URL": valkey.url,
            "SMSFLEET_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "SMSFLEET_LOG_LEVEL": "warning",
        }
        stack.enter_context(inside(environment))
        migrate()
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


def _bare(kind: Literal["httpx", "aiohttp"], urls: list[str], n: int) -> float:
    """Requests a second of a client alone, in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_bare_here, (kind, urls, n))


def _bare_here(kind: Literal["httpx", "aiohttp"], urls: list[str], n: int) -> float:
    share_the_interpreter()
    return uvloop.run(_by_httpx(urls, n) if kind == "httpx" else _by_aiohttp(urls, n))


_BODY = outbox.body_of("status", DATA, "2026-06-08T10:00:05.000000Z").encode()
_HEADERS = {"content-type": "application/json", "webhook-id": "x" * 36, "webhook-signature": "v1," + "y" * 44}


async def _by_httpx(urls: list[str], n: int) -> float:
    async with AsyncClient(transport=AiohttpTransport(client=guarded_session), trust_env=False) as client:

        async def call(url: str) -> int:
            return (await client.post(url, content=_BODY, headers=_HEADERS)).status_code

        return await _rate(call, urls, n)


async def _by_aiohttp(urls: list[str], n: int) -> float:
    async with guarded_session() as session:

        async def call(url: str) -> int:
            async with session.post(url, data=_BODY, headers=_HEADERS, allow_redirects=False) as answer:
                await answer.read()
                return answer.status

        return await _rate(call, urls, n)


async def _rate(call: Callable[[str], Awaitable[int]], urls: list[str], n: int) -> float:
    """Calls a second, once the connections are there."""

    async def lane(numbers: Iterator[int]) -> None:
        for number in numbers:
            check("status", await call(urls[number % len(urls)]), 200)

    for _ in range(2):
        started, numbers = time.perf_counter(), iter(range(n))
        await asyncio.gather(*(lane(numbers) for _ in range(AT_ONCE)))
    return n / (time.perf_counter() - started)


def _write(urls: list[str], n: int) -> None:
    """Deliveries of as many users as there are receivers, as a campaign of each would leave them."""
    for start in range(0, n, 5000):
        with transaction() as session:
            outbox.write(
                session,
                [
                    outbox.WebhookEvent(
                        1 + i % len(urls), "callback", "status", DATA, i + 1, urls[i % len(urls)], Lane.BULK
                    )
                    for i in range(start, min(start + 5000, n))
                ],
            )
    with transaction() as session:
        session.execute(text("ANALYZE webhook_queue, webhook_deliveries"))


def _left() -> int:
    with transaction() as session:
        return session.scalar(text("SELECT count(*) FROM webhook_queue")) or 0


def _emptied(n: int) -> float:
    """Deliveries a second, of `n` that may begin now, until all are recorded."""
    started, last = time.perf_counter(), n
    moved = started
    while left := _left():
        now = time.perf_counter()
        if left < last:
            last, moved = left, now
        elif now - moved > TIMEOUT_SECONDS:
            raise CheckFailedError(f"no delivery was recorded for {TIMEOUT_SECONDS:.0f} s, {left} left")
        time.sleep(0.02)
    return n / (time.perf_counter() - started)


@contextmanager
def _held(workers: Iterable[subprocess.Popen[bytes]]) -> Iterator[None]:
    """With the workers stopped, so that they begin when all is there."""
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    yield
    for worker in workers:
        worker.send_signal(signal.SIGCONT)


def _ready(app: Celery, name: str) -> None:
    for _ in range(60):
        if app.control.inspect([name], timeout=1).ping():
            return
    raise CheckFailedError(f"{name} did not start")


def _by_workers(count: int, to: Receivers, n: int) -> float:
    """Deliveries a second of so many worker processes, which are held while the rows are written."""
    with ExitStack() as stack:
        workers = []
        for number in range(count):
            name = f"webhooks-{number}@bench"
            workers.append(stack.enter_context(_worker("workers.app", "-Q", "webhooks", "-c", "1", "-n", name)))
            _ready(celery_app(), name)
        _write(to.urls, 500 * count)
        _emptied(500 * count)
        to.came()
        before = _delivered()
        with _held(workers):
            _write(to.urls, n)
        rate = _emptied(n)
        check("delivered", _delivered() - before, n)
        check("came, and as different ones", to.came(), (n, n))
        return rate


def _delivered() -> int:
    with transaction() as session:
        counted = f"SELECT count(*) FROM {history.DELIVERIES} WHERE {history.STATE} = 'delivered'"
        return session.scalar(text(counted)) or 0


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


def _by_single_tasks(to: Receivers, n: int) -> float:
    single.conf.broker_url = os.environ["SMSFLEET_REDIS_URL"]
    _write(to.urls, n)
    with transaction() as session:
        ids = session.scalars(text("SELECT delivery_id FROM webhook_queue ORDER BY delivery_id")).all()
    with _worker("benchmarks.webhooks:single", "-Q", "single", "-c", "32", "-n", "single@bench") as worker:
        _ready(single, "single@bench")
        with _held([worker]), single.producer_or_acquire() as producer, producer.batch(max_size=500):
            for number in ids:
                one.apply_async((number,), producer=producer)
        rate = _emptied(n)
    check("came, and as different ones", to.came(), (n, n))
    return rate


def run(*, smoke: bool = False) -> list[Figure]:
    """Measure one after the other, with nothing else running of ours."""
    n = 500 if smoke else 20_000
    with _servers(), receivers() as to:
        httpx, aiohttp = (_bare(kind, to.urls, n) for kind in ("httpx", "aiohttp"))
        worker, two = (_by_workers(count, to, n) for count in (1, 2))
        one_task_each = _by_single_tasks(to, n // 5)
    beside = f"{httpx:,.0f}/s bare httpx, {aiohttp:,.0f}/s bare aiohttp"
    return [
        Figure("webhooks, one worker process", worker, "/s", "1,500/s", beside),
        Figure("share of a bare httpx client on the same transport", worker / httpx, "times", "0.7"),
        Figure("share of a bare aiohttp client", worker / aiohttp, "times"),
        Figure("webhooks, two worker processes", two, "/s"),
        Figure("one Celery task per delivery instead", one_task_each, "/s"),
    ]


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
