"""Processes that stand still: stopped, or alive and taking nothing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from app.core import heartbeat
from app.core.queue import celery_at
from app.core.task_names import QueueName
from app.local import commands
from tests.support.waiting import until

# As `celery worker …`, in less patient hands.
IMPATIENT = """
import sys
from celery.__main__ import main
from workers import pulse
pulse.EVERY_SECONDS, pulse.IDLE_SECONDS, pulse.BUSY_SECONDS = 0.2, 3.0, 6.0
sys.exit(main())
"""


@contextmanager
def running(command: tuple[str, ...], output: Path, **kept) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with output.open("w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, text=True, **kept)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def broker(database) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(database.valkey.url) as client:
        yield client


@pytest.fixture
def worker(database, tmp_path: Path) -> Callable[[], Iterator[subprocess.Popen[str]]]:
    """A dispatch worker whose pulses come several times a second; its output is in `worker.log`."""
    command = commands.worker("dispatch", "dispatch-1")
    return lambda: running((sys.executable, "-c", IMPATIENT, *command[3:]), tmp_path / "worker.log")


def works(broker: redis.Redis, kind: str) -> bool:
    return heartbeat.working(broker, kind)[kind]


def children(process: subprocess.Popen[str]) -> list[str]:
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def test_a_stopped_process_is_ended_by_its_watchdog(broker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        api = commands.api("--fd", str(listener.fileno()))
        with (
            running(api, tmp_path / "api", pass_fds=[listener.fileno()]) as api,
            running(commands.worker("upkeep", "upkeep-1"), tmp_path / "worker") as worker,
            running(commands.BEAT, tmp_path / "beat") as beat,
        ):
            for kind in (heartbeat.API, QueueName.UPKEEP, heartbeat.BEAT):
                until(lambda kind=kind: works(broker, kind))
            for process in (api, worker, beat):
                until(lambda process=process: children(process))  # another API may have given the sign of life
                process.send_signal(signal.SIGSTOP)
            for process in (api, worker, beat):
                assert process.wait(60) == -signal.SIGKILL
    for name in ("api", "worker", "beat"):
        assert "a process that was stopped is ended" in (tmp_path / name).read_text()


def test_a_process_that_is_ended_takes_its_watchdog_along(broker, worker) -> None:
    with worker() as process:
        until(lambda: works(broker, "dispatch"))
        [watchdog] = children(process)
    until(lambda: not Path(f"/proc/{watchdog}").exists())


def test_a_worker_that_takes_nothing_any_more_ends(database, broker, worker, tmp_path: Path) -> None:
    """It answers pings all the while."""
    with worker() as process:
        until(lambda: works(broker, "dispatch"))
        app = celery_at(database.valkey.url)
        [pulse] = [name for name in _consumed(app) if name.startswith("pulse.")]
        for queue in ("dispatch", pulse):
            app.control.cancel_consumer(queue)
        until(lambda: _consumed(app) == [])
        assert process.wait(60) == 1
    assert "this worker takes no tasks any more" in (tmp_path / "worker.log").read_text()


def _consumed(app) -> list[str]:
    [queues] = (app.control.inspect(timeout=5).active_queues() or {"nobody": []}).values()
    return [queue["name"] for queue in queues]


def test_a_broker_that_is_away_ends_no_worker(database, broker, worker, tmp_path: Path) -> None:
    with worker() as process:
        until(lambda: works(broker, "dispatch"))
        database.valkey.kill()
        until(lambda: "connection" in (tmp_path / "worker.log").read_text().lower())
        database.valkey.start()
        until(lambda: works(broker, "dispatch"))
        assert process.poll() is None, (tmp_path / "worker.log").read_text()


def test_readiness_says_who_does_not_work(gateway, broker, worker) -> None:
    def state() -> dict:
        return httpx.get(f"{gateway.url}/health/ready").json()

    broker.delete(*[f"alive:{kind}" for kind in heartbeat.NEEDED])
    assert state()["workers"] == {"dispatch": "down", "webhooks": "down", "upkeep": "down"}
    assert (state()["status"], state()["beat"]) == ("degraded", "down")
    with worker():
        until(lambda: state()["workers"]["dispatch"] == "up")
        for kind in ("webhooks", "upkeep", heartbeat.BEAT):
            heartbeat.note(broker, kind, "one")
        assert state()["status"] == "ok"
