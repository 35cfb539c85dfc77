"""Beat's ticks, whatever lies in its folder and whatever the wall clock does."""

import os
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import redis

from app.core import heartbeat
from app.core.queue import celery_at
from app.local import commands
from tests.support.waiting import until


@pytest.mark.parametrize("content", [b"", b"\x00half of a file", os.urandom(5000)])
def test_a_damaged_file_of_an_earlier_version_is_of_no_consequence(database, tmp_path: Path, content: bytes) -> None:
    for name in ("beat-schedule", "beat-schedule.dat", "beat-schedule.dir", "celerybeat-schedule"):
        (tmp_path / name).write_bytes(content)
    before = set(tmp_path.iterdir())
    with redis.Redis.from_url(database.valkey.url) as broker:
        assert not heartbeat.working(broker, heartbeat.BEAT)[heartbeat.BEAT]
        beat = subprocess.Popen(commands.BEAT, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
        try:
            until(lambda: heartbeat.working(broker, heartbeat.BEAT)[heartbeat.BEAT])
            assert beat.poll() is None
        finally:
            beat.terminate()
            beat.wait(60)
        assert broker.llen("smsfleet:upkeep") >= 8, "not everything was due at the start"
    assert set(tmp_path.iterdir()) == before


def test_the_wall_clock_may_step_forth_and_back(database, monkeypatch) -> None:
    from workers.beat import Scheduler

    app = celery_at(database.valkey.url)
    offset = timedelta()
    real_now, real_time = app.now, time.time
    monkeypatch.setattr(app, "now", lambda: real_now() + offset)
    monkeypatch.setattr(time, "time", lambda: real_time() + offset.total_seconds())
    tick = {"task": "upkeep.sweep", "schedule": timedelta(seconds=0.05), "options": {"queue": "upkeep"}}
    app.conf.beat_schedule = {"sweep": tick}
    scheduler = Scheduler(app=app)
    with redis.Redis.from_url(database.valkey.url) as broker:

        def ticks(count: int) -> None:
            wanted = broker.llen("smsfleet:upkeep") + count
            deadline = time.monotonic() + 20
            while broker.llen("smsfleet:upkeep") < wanted:
                assert time.monotonic() < deadline, "beat stands still"
                pause = scheduler.tick()
                assert 0 <= pause <= 0.05
                time.sleep(pause)

        for offset in (timedelta(), timedelta(hours=1), timedelta(days=-400), timedelta()):  # noqa: B007 - read by the clocks
            ticks(3)
    scheduler.close()


def test_a_worker_whose_clock_is_ahead_takes_all_ticks(database, free_port, monkeypatch) -> None:
    from workers.app import app as of_workers
    from workers.beat import Scheduler

    app = celery_at(database.valkey.url)
    app.conf.beat_schedule = of_workers.conf.beat_schedule
    real_now = app.now
    monkeypatch.setattr(app, "now", lambda: real_now() - timedelta(seconds=8))
    wanted = {name for name, tick in app.conf.beat_schedule.items() if tick["options"]["queue"] == "upkeep"}
    port = free_port()
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "SMSFLEET_METRICS_PORT": str(port)}

    def done() -> set[str]:
        try:
            shown = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            return set()
        return {name for name in wanted if f'_duration_seconds_count{{outcome="done",task="{name}"}}' in shown}

    worker = subprocess.Popen(commands.worker("upkeep", "upkeep-1"), env=env)
    try:
        with redis.Redis.from_url(database.valkey.url) as broker:
            until(lambda: heartbeat.is_working(broker, "upkeep"))
        scheduler = Scheduler(app=app)
        scheduler.tick()
        until(lambda: done() == wanted)
        scheduler.close()
    finally:
        worker.terminate()
        worker.wait(60)
