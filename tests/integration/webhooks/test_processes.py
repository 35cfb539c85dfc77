"""Real Celery worker processes: killed in the middle, stopped gently, several at once."""

import asyncio
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app.core.database import transaction
from app.core.queue import celery_at
from app.local.commands import worker
from app.messages.dispatch import sweeping
from tests.integration.webhooks.conftest import callback, execute, make_user, rows, states, value, write
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver, answer, hang


@contextmanager
def webhook_worker(name: str = "webhooks") -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(worker("webhooks", name)) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def sweep() -> None:
    with transaction() as session:
        sweeping.sweep(session)


def swept_until(condition: Callable[[], object]) -> None:
    """Sweep as beat does until something holds."""
    last = 0.0

    def tick() -> object:
        nonlocal last
        if time.monotonic() - last > 1:
            last = time.monotonic()
            sweep()
        return condition()

    until(tick, 60)


@pytest.fixture
def slow(receiver):
    """Answers 200 after a second: calls are caught in mid-flight."""
    quick = answer(200)

    async def behave(request, writer) -> None:
        await asyncio.sleep(1)
        await quick(request, writer)

    receiver.behaviour = behave
    return receiver


def test_killed_between_answer_and_record_repeats_with_the_same_id_and_loses_nothing(slow) -> None:
    user = make_user()
    with webhook_worker("first") as first:
        until(lambda: value("SELECT 1"))
        write(*(callback(user, slow.url(f"/{n}"), n) for n in range(1, 41)))
        slow.wait_for(4, 40)
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert value("SELECT count(*) FROM webhook_queue WHERE lease_until IS NOT NULL") > 0
    slow.behaviour = answer(200)
    # As if the leases' 30 seconds were over.
    execute(
        "UPDATE webhook_queue SET lease_until = clock_timestamp(), next_attempt_at = clock_timestamp() - interval '3 s'"
    )
    with webhook_worker("second"):
        swept_until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    assert states()["delivered"] == 40
    ids = {r.path: r.webhook_id for r in slow.received}
    assert len(ids) == 40
    assert all(r.webhook_id == ids[r.path] for r in slow.received)
    repeated = [path for path, n in Counter(r.path for r in slow.received).items() if n > 1]
    assert 0 < len(repeated) < 40
    bodies = {(r.path, r.body) for r in slow.received}
    assert len(bodies) == 40


def test_stopped_gently_finishes_and_records_the_calls_under_way(slow) -> None:
    user = make_user()
    with webhook_worker() as process:
        write(callback(user, slow.url("/1"), 1), callback(user, slow.url("/2"), 2), callback(user, slow.url("/3"), 3))
        slow.wait_for(2, 40)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert rows("SELECT count(*) FROM webhook_queue WHERE lease_until IS NOT NULL") == [(0,)]
    assert value("SELECT count(*) FROM webhook_attempts WHERE status_code = 200") == len(slow.received)


def test_two_workers_share_a_campaign_with_few_tasks(receiver, servers) -> None:
    app = celery_at(servers.valkey.url)
    user = make_user()
    # A connection of its own: of those in the process's pool another test may have ended the other side.
    with webhook_worker("one"), webhook_worker("two"), app.connection() as connection:
        workers = app.control.inspect(timeout=2, connection=connection)
        until(lambda: len(workers.ping() or {}) == 2, 60)
        began = time.monotonic()
        for start in range(1, 2001, 20):
            write(*(callback(user, receiver.url(), n) for n in range(start, start + 20)))
        received = receiver.wait_for(2000, 100)
        until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
        lasted = time.monotonic() - began
        totals = [w["total"].get("webhooks.deliver", 0) for w in workers.stats().values()]
    assert len({r.webhook_id for r in received}) == len(receiver.received) == 2000
    # A task stays for about a second while there is work, so tasks count seconds and not deliveries.
    assert sum(totals) <= 20 + 4 * lasted


def test_first_delivery_after_a_pause_by_a_worker(receiver) -> None:
    user = make_user()
    with webhook_worker():
        write(callback(user, receiver.url(), 1))
        receiver.wait_for(1, 40)
        waits = []
        for n in range(2, 12):
            until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
            committed = time.monotonic()
            write(callback(user, receiver.url(), n))
            waits.append(receiver.wait_for(n)[n - 1].at - committed)
    assert sorted(waits)[len(waits) // 2] < 0.25


def test_ten_thousand_rows_for_a_receiver_that_hangs_delay_no_other_user_of_a_worker(receiver) -> None:
    receiver.behaviour = hang
    loud, quiet = make_user("loud@example.com"), make_user("quiet@example.com")
    with webhook_worker(), Receiver() as other:
        for start in range(0, 10_000, 2500):
            write(*(callback(loud, receiver.url(), n) for n in range(start + 1, start + 2501)))
        receiver.wait_for(2, 40)
        for n in range(10):
            committed = time.monotonic()
            write(callback(quiet, other.url(), 20_000 + n))
            assert other.wait_for(n + 1)[n].at - committed < 2
            until(lambda: value("SELECT count(*) FROM webhook_queue WHERE user_id = :u", u=quiet) == 0)
    assert len(receiver.received) <= 4
