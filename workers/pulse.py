"""Proof that a worker works: a task that it sends to itself, through the broker and its own pool.

A worker can look alive, answer pings even, and take no task any more: after the broker was away, or when all threads of
its pool wait for something that never comes. So each has a queue of its own beside the one it works for, sends a task
there every few seconds, and ends itself when none comes back while the broker takes what is sent.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery import Celery
from celery.signals import celeryd_after_setup, celeryd_init, worker_ready, worker_shutting_down
from celery.worker import state
from kombu import Queue

from app.core import broker, heartbeat, metrics, outages, watchdog
from app.core.once import once
from app.core.outbound import get_redis
from app.core.queue import EXCHANGE, celery_app
from app.core.settings import get_settings
from app.core.task_names import PULSE, QueueName
from workers import beat

EVERY_SECONDS = 5.0
# An idle worker takes what comes at once, or never. A busy one has to finish a task first, none of which lives long.
IDLE_SECONDS, BUSY_SECONDS = 20.0, 60.0
_LOOK_SECONDS = 1.0

log = structlog.get_logger("workers")


class Pulse:
    """Sends the worker's pulses, and judges by what comes back."""

    def __init__(self, app: Celery, worker: str, kinds: list[str]) -> None:
        self._app = app
        self._worker = worker
        self._kinds = kinds
        self._ending = threading.Event()
        self._sent_at: float | None = None  # since when one is under way
        self._tell(heartbeat.begin)
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def came_back(self) -> None:
        """Called by the task, in a thread of the pool."""
        self._sent_at = None
        outages.over("broker")
        if beat.stands_still():
            log.error("beat in this worker stands still: it ends, to be started again")
            os._exit(1)
        if not self._ending.is_set():
            self._tell(heartbeat.note)

    def end(self) -> None:
        """The worker is being stopped: it takes nothing more, and that is right."""
        self._ending.set()
        self._tell(heartbeat.end)

    def _tell(self, what: Callable[[redis.Redis, str, str], None]) -> None:
        try:
            for kind in self._kinds:
                what(get_redis(), kind, self._worker)
        except redis.RedisError as error:
            log.warning("the worker's heartbeat was not written", error=error)

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due and not self._ending.is_set():
                due = now + EVERY_SECONDS
                self._send(now)
            if self._is_stuck() and not self._ending.is_set():
                log.error("this worker takes no tasks any more: it ends, to be started again")
                os._exit(1)
            watchdog.alive()
            time.sleep(_LOOK_SECONDS)

    def _send(self, now: float) -> None:
        """One more pulse: the one before may be lost with all that the broker had."""
        try:
            self._app.send_task(PULSE, queue=_queue_of(self._worker), expires=BUSY_SECONDS)
        except broker.ERRORS:
            self._sent_at = None  # nothing can be taken from a broker that is away
        else:
            self._sent_at = self._sent_at or now

    def _is_stuck(self) -> bool:
        limit = BUSY_SECONDS if state.active_requests else IDLE_SECONDS
        sent_at = self._sent_at
        return sent_at is not None and time.monotonic() - sent_at > limit


class _Worker:
    """What of this process takes tasks; known once it is set up."""

    pulse: Pulse | None = None


def _queue_of(worker: str) -> Queue:
    name = f"pulse.{worker}"
    # Of a worker that is gone the broker keeps nothing for long, if it can.
    return Queue(name, EXCHANGE, routing_key=name, expires=BUSY_SECONDS)


@once
def register() -> object:
    """Declare the task. It is no work of the gateway's, and so tells Flower nothing."""

    def pulse() -> None:
        if _Worker.pulse:
            _Worker.pulse.came_back()

    return celery_app().task(name=PULSE, send_events=False)(pulse)


@celeryd_init.connect
def _watch(**_: Any) -> None:
    watchdog.start()


@worker_ready.connect
def _serve(**_: Any) -> None:
    metrics.serve(get_settings().host, get_settings().metrics_port)


@celeryd_after_setup.connect
def _add_queue(sender: str, instance: Any, **_: Any) -> None:
    instance.app.amqp.queues.select_add(_queue_of(sender))


@worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    consumed = sender.app.amqp.queues.consume_from
    _Worker.pulse = Pulse(sender.app, sender.hostname, [name.value for name in QueueName if name.value in consumed])


@worker_shutting_down.connect
def _end(**_: Any) -> None:
    if _Worker.pulse:
        _Worker.pulse.end()
