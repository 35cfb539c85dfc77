"""Beat's schedule, kept in memory: every task is due at the start and then by a clock that no one can set.

It is short and fixed, and each tick may come early or twice, so nothing is gained by remembering over a restart when
something was last done; a file that remembers can be damaged, and a wall clock that once ran ahead would stop it all.
"""

import threading
import time
from contextlib import suppress
from typing import Any

import celery.beat
import redis
import structlog
from celery import Celery
from celery.signals import beat_init, worker_ready, worker_shutting_down

from app.core import heartbeat, metrics, outages, watchdog
from app.core.outbound import get_redis
from app.core.settings import get_settings
from app.core.task_names import QueueName

# Pulses of a worker that come back while its beat does not tick: some 40 seconds, longer than it waits to try a broker
# that was away again.
PULSES_WITHOUT_TICK = 8

log = structlog.get_logger("workers")


class Scheduler(celery.beat.Scheduler):
    """Celery's scheduler with due times by the monotonic clock of this process."""

    def setup_schedule(self) -> None:
        super().setup_schedule()
        self._due = dict.fromkeys(self.schedule, time.monotonic())

    def tick(self) -> float:
        """Send what is due; how many seconds from now something is due again."""
        now = time.monotonic()
        due = [name for name, moment in self._due.items() if moment <= now]
        for name in due:
            entry = self.schedule[name]
            self._due[name] = now + entry.schedule.run_every.total_seconds()
            self.apply_entry(entry, producer=self.producer)
            metrics.count_tick(name)
            watchdog.alive()
        if due:
            _say_it_runs()
        watchdog.alive()
        return max(0.0, min(self._due.values()) - time.monotonic())

    def close(self) -> None:
        """Called at the end that was asked for."""
        super().close()
        with suppress(redis.RedisError):
            heartbeat.end(get_redis(), heartbeat.BEAT, heartbeat.this_process())


def _say_it_runs() -> None:
    try:
        heartbeat.note(get_redis(), heartbeat.BEAT, heartbeat.this_process())
        outages.over("broker")
    except redis.RedisError as error:
        log.warning("writing beat's heartbeat failed", error=error)


class Inside(threading.Thread):
    """Beat in a worker that takes all queues, where the installation is small."""

    def __init__(self, app: Celery) -> None:
        super().__init__(name="beat", daemon=True)
        self.ending = threading.Event()
        self._app = app
        self._pulses = 0  # since the last tick

    def run(self) -> None:
        scheduler = Scheduler(app=self._app)
        while not self.ending.wait(scheduler.tick()):
            self._pulses = 0
        scheduler.close()

    def stands_still(self) -> bool:
        """Asked with each pulse of the worker, which proves that the broker takes what it is sent."""
        self._pulses += 1
        return self._pulses > PULSES_WITHOUT_TICK and not self.ending.is_set()


class _Process:
    inside: Inside | None = None


def stands_still() -> bool:
    """Whether this process has beat inside, and it does not tick any more."""
    return _Process.inside is not None and _Process.inside.stands_still()


@worker_ready.connect
def _begin_inside(sender: Any, **_: Any) -> None:
    consumed = sender.app.amqp.queues.consume_from
    if get_settings().size == "small" and all(name.value in consumed for name in QueueName):
        _Process.inside = Inside(sender.app)
        _Process.inside.start()


@worker_shutting_down.connect
def _end_inside(**_: Any) -> None:
    if _Process.inside:
        _Process.inside.ending.set()


@beat_init.connect
def _watch(**_: Any) -> None:
    watchdog.start()
    metrics.serve(get_settings().host, get_settings().metrics_port)
