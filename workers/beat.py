"""Beat's schedule, kept in memory: every task is due at the start and then by a clock that no one can set.

It is short and fixed, and each tick may come early or twice, so nothing is gained by remembering over a restart when
something was last done; a file that remembers can be damaged, and a wall clock that once ran ahead would stop it all.
"""

import time
from typing import Any

import celery.beat
import redis
import structlog
from celery.signals import beat_init

from app.core import heartbeat, metrics, outages, watchdog
from app.core.outbound import get_redis
from app.core.settings import get_settings

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


def _say_it_runs() -> None:
    try:
        heartbeat.note(get_redis(), heartbeat.BEAT, heartbeat.this_process())
        outages.over("broker")
    except redis.RedisError as error:
        log.warning("writing beat's heartbeat failed", error=error)


@beat_init.connect
def _watch(**_: Any) -> None:
    watchdog.start()
    metrics.serve(get_settings().host, get_settings().metrics_port)
