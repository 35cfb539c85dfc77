"""What leaves a process after a commit: nudges for Celery workers, events for the phones' streams, and news for pages.

Both are disposable. The row that made them necessary is committed, so a lost nudge costs one sweep interval and a lost
wake one resubscription check; a request never waits for the broker and never fails because of it.

During a transaction `nudge` and `signal` only note on the session; `publish` hands the notes to the process's one
publisher thread, which drains them in batches.
"""

import atexit
import json
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import redis
import redis.asyncio
import structlog
from sqlalchemy.orm import Session

from app.core import metrics, outages, tracing
from app.core.once import once
from app.core.queue import celery_app
from app.core.settings import get_settings
from app.core.task_names import PAGES_CHANNEL, PHONES_CHANNEL, TaskName
from app.core.trace_notes import Cause, Notes, Nudge, notes_of

NUDGE_TTL_MS = 2000
SWEEP_SECONDS = 5.0
# By so much the clocks of two machines may differ, or a worker takes all that another one sends for out of date: what
# expires is judged by them. The doctor warns from half of it on.
CLOCKS_DIFFER_SECONDS = 10.0
# A process publishes the same nudge at most this often: the first leaves at once, and what a stream of requests adds
# while its task runs is gathered, or every transaction would cost a task.
SAME_NUDGE_SECONDS = 0.05
PAUSE_AFTER_FAILURE_SECONDS = 1.0
MAX_WAITING = 10_000
# A process that ends sends what waits for so long, which no request of the client takes.
MAX_FINISH_SECONDS = 5.0
# A process tells at most this often that the same has changed: pages that are told rest as long (`web.live`).
SAME_NEWS_SECONDS = 2.0

# Nobody waits for the answer to a subscription's pings: that they do not arrive is for the kernel to notice.
_KEEPALIVE = {
    socket.TCP_KEEPIDLE: 5,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 10_000,
}

log = structlog.get_logger(__name__)

Signal = tuple[int, str, str]
News = tuple[int, str]


@once
def get_redis() -> redis.Redis:
    """The process's client for the Redis-protocol server, with limits on every wait."""
    return redis.Redis.from_url(
        get_settings().redis_dsn, socket_timeout=2, socket_connect_timeout=1, health_check_interval=10
    )


def subscriber() -> redis.asyncio.Redis:
    """A client for one subscription, which notices a server that is gone without a word."""
    return redis.asyncio.Redis.from_url(
        get_settings().redis_dsn,
        socket_connect_timeout=1,
        socket_keepalive=True,
        socket_keepalive_options=_KEEPALIVE,
        health_check_interval=10,
    )


def nudge_key(task: TaskName, x: int | None) -> str:
    return f"nudge:{task}:{'' if x is None else x}"


def nudge(session: Session, task: TaskName, x: int | None = None, *, about: int | None = None) -> None:
    """Say "there is work at `x`" to the workers of `task`, once this transaction is committed.

    `about`: a message, in whose trace that is, if it has one, rather than in that of what happens here.
    """
    session.info.setdefault("nudges", set()).add((task, x))
    if tracing.is_on():
        notes_of(session).causes.setdefault((task, x), Cause(tracing.current(), about))


def remind(session: Session, task: TaskName, x: int | None = None) -> None:
    """A sweep's nudge: published whatever its key says, and worth nothing any more when the next sweep is due."""
    session.info.setdefault("reminders", set()).add((task, x))


def signal(session: Session, device: int, event: str, **data: object) -> None:
    """Send `event` to whichever API process holds a stream of `device`, once this transaction is committed."""
    session.info.setdefault("signals", {})[(device, event, json.dumps(data, sort_keys=True))] = None


def announce(session: Session, users: Iterable[int], topic: str) -> None:
    """Tell the open pages of these users that what they show of `topic` has changed, once this is committed."""
    session.info.setdefault("news", set()).update((user, topic) for user in users)


def publish(session: Session) -> None:
    """Hand what the session collected to the publisher thread."""
    collected = [session.info.pop(kind, ()) for kind in ("nudges", "reminders", "signals", "news")]
    traces: Notes | None = session.info.pop("traces", None)
    if any(collected) or traces:
        nudges, reminders, signals, news = collected
        publisher().put(nudges, reminders, signals, news, traces)


class Publisher:
    """The thread of a process that talks to the broker."""

    def __init__(self) -> None:
        self._waiting = threading.Condition()
        self._nudges: set[Nudge] = set()
        self._reminders: set[Nudge] = set()
        self._signals: dict[Signal, None] = {}
        self._news: set[News] = set()
        self._traces = Notes()
        self._published: dict[Nudge, float] = {}
        self._told: dict[News, float] = {}
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()
        atexit.register(self.finish)

    def finish(self) -> None:
        """Send what waits, and end.

        A daemon thread stands still where it is when the interpreter ends: in the middle of a call it would keep the
        lock of the client's pool, for which the client's own end waits.
        """
        with self._waiting:
            self._ends = True
            self._waiting.notify()
        self._thread.join(MAX_FINISH_SECONDS)

    def put(
        self,
        nudges: Iterable[Nudge],
        reminders: Iterable[Nudge],
        signals: Iterable[Signal],
        news: Iterable[News] = (),
        traces: Notes | None = None,
    ) -> None:
        with self._waiting:
            if traces:
                self._traces.add(traces)
            if len(self._news) < MAX_WAITING:
                self._news.update(news)
            self._nudges.update(nudges)
            self._reminders.update(reminders)
            if len(self._signals) < MAX_WAITING:
                self._signals.update(dict.fromkeys(signals))
            self._waiting.notify()

    def _run(self) -> None:
        while taken := self._take():
            nudges, reminders, signals, news, traces = taken
            try:
                _send(nudges, reminders, signals, news, traces)
                if nudges or reminders:  # one that is full still passes on the others
                    outages.over("broker")
            except Exception as error:  # noqa: BLE001 - a broker is down in many ways; the sweep repairs what is dropped
                dropped = len(nudges) + len(reminders) + len(signals) + len(news)
                metrics.count_dropped(dropped)
                log.warning("broker unreachable, nudges dropped", dropped=dropped, error=error)
                get_redis().connection_pool.disconnect()  # a replica refuses for as long as it is talked to
                if self._ends:
                    return
                time.sleep(PAUSE_AFTER_FAILURE_SECONDS)

    def _take(self) -> tuple[set[Nudge], set[Nudge], dict[Signal, None], set[News], Notes] | None:
        """Wait for something that may leave now; None at the end."""
        with self._waiting:
            while True:
                now = time.monotonic()
                self._published = _since(self._published, now - SAME_NUDGE_SECONDS)
                self._told = _since(self._told, now - SAME_NEWS_SECONDS)
                ready, news = self._nudges - self._published.keys(), self._news - self._told.keys()
                if self._ends:
                    ready, news = set(self._nudges), set(self._news)
                if ready or news or self._reminders or self._signals or self._traces.waiting:
                    break
                if self._ends:
                    return None
                self._waiting.wait(self._pause(now))
            taken = ready, self._reminders, self._signals, news, self._traces.take(ready)
            self._nudges -= ready
            self._news -= news
            self._reminders, self._signals = set(), {}
            self._published |= dict.fromkeys(ready, now)
            self._told |= dict.fromkeys(news, now)
            return taken

    def _pause(self, now: float) -> float | None:
        """How long nothing of what waits may leave; None where nothing waits."""
        ends = []
        if self._nudges:
            ends.append(min(self._published.values()) + SAME_NUDGE_SECONDS)
        if self._news:
            ends.append(min(self._told.values()) + SAME_NEWS_SECONDS)
        return min(ends) - now if ends else None


def _since(times: dict[tuple[Any, Any], float], earliest: float) -> dict[tuple[Any, Any], float]:
    return {key: at for key, at in times.items() if at > earliest}


@once
def publisher() -> Publisher:
    return Publisher()


def _send(
    nudges: set[Nudge], reminders: set[Nudge], signals: Iterable[Signal], news: Iterable[News], traces: Notes
) -> None:
    pipeline = get_redis().pipeline(transaction=False)
    traces.write(pipeline)
    for user, topic in news:
        pipeline.publish(f"{PAGES_CHANNEL}{user}", topic)
    for device, event, data in signals:
        pipeline.publish(PHONES_CHANNEL, f"{device} {event} {data}")
    ordered = sorted(nudges, key=str)
    for task, x in ordered:
        pipeline.set(nudge_key(task, x), 1, nx=True, px=NUDGE_TTL_MS)
    answers = pipeline.execute()
    fresh = [item for item, first in zip(ordered, answers[len(answers) - len(ordered) :], strict=True) if first]
    try:
        parents = traces.use(get_redis())
        _publish_tasks(
            [(task, x, None) for task, x in fresh]
            + [(task, x, SWEEP_SECONDS + CLOCKS_DIFFER_SECONDS) for task, x in reminders],
            parents,
        )
    except Exception:
        if fresh:
            get_redis().delete(*(nudge_key(task, x) for task, x in fresh))
        raise


def _publish_tasks(tasks: list[tuple[TaskName, int | None, float | None]], parents: Mapping[Nudge, str]) -> None:
    if not tasks:
        return
    app = celery_app()
    with app.producer_or_acquire() as producer, producer.batch(max_size=500) if len(tasks) > 1 else nullcontext():
        for task, x, expires in tasks:
            arguments = () if x is None else (x,)
            headers = {"traceparent": parent} if (parent := parents.get((task, x))) else None
            app.send_task(
                task.value, args=arguments, queue=task.queue.value, producer=producer, expires=expires, headers=headers
            )


def begin(task: TaskName, x: int | None = None) -> None:
    """A task's first act: from here on a new nudge for the same work is published again."""
    try:
        get_redis().delete(nudge_key(task, x))
    except redis.RedisError as error:
        log.warning("nudge key not deleted, it will expire", task=task.value, error=error)
