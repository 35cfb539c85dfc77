"""Figures for Prometheus. Labels are bounded: routes by template, never by raw path, which anybody can make up.

Each process counts what it does itself; `exposition` shows what all processes of a machine counted where they share
`PROMETHEUS_MULTIPROC_DIR`. What stands in the database or the broker is looked up when it is asked for
(`app/messages/measuring.py`).
"""

import os
import time
from collections import Counter as Count
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from app.core import figure_files

figure_files.use()

_QUICK = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)

_REQUESTS = Counter("smsfleet_http_requests", "Requests answered", ["method", "route", "status"])
_SECONDS = Histogram("smsfleet_http_request_duration_seconds", "Time to the answer's end", ["route"], buckets=_QUICK)
_MESSAGES = Counter("smsfleet_messages", "Messages that were accepted, routed, released, sent …, by event", ["event"])
_FAILURES = Counter("smsfleet_message_failures", "Tries that failed at a phone, by the code of the reason", ["reason"])
_TASKS = Histogram("smsfleet_task_duration_seconds", "Time that tasks took", ["task", "outcome"], buckets=_QUICK)
_STATEMENTS = Histogram(
    "smsfleet_statement_duration_seconds", "Time that statements took, of hot or other transactions", ["kind"],
    buckets=(0.0005, 0.001, *_QUICK),
)  # fmt: skip
_POOL = Gauge(
    "smsfleet_database_pool_in_use", "Connections to the database in use", ["kind"], multiprocess_mode="livesum"
)
_BATCHES = Histogram("smsfleet_batch_items", "Calls that shared a transaction", ["call"], buckets=_SIZES)
_DROPPED = Counter("smsfleet_nudges_dropped", "Nudges that the broker could not be given; the sweep repeats them")
_TICKS = Counter("smsfleet_ticks", "Tasks that beat has sent", ["task"])
_CALLS = Histogram(
    "smsfleet_webhook_call_duration_seconds", "Time that calls of receivers took", ["outcome"], buckets=_QUICK
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_COUNTED = "counted"

log = structlog.get_logger(__name__)


def route_of(scope: Mapping[str, Any]) -> str:
    """The route's template; a call without FastAPI may set `route_template` in the scope."""
    if template := scope.get("route_template"):
        return str(template)
    return str(getattr(scope.get("route"), "path", "unmatched"))


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count one request; status 0 is one whose client left before the answer."""
    requests, time_taken = _series(method if method in _METHODS else "other", route, status)
    requests.inc()
    time_taken.observe(seconds)


@lru_cache(maxsize=4096)
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(method, route, str(status)), _SECONDS.labels(route)


def count(session: Session, what: str, n: int, reason: str = "") -> None:
    """Note that something happened to `n` messages; counted once the session's transaction is committed."""
    if n > 0:
        session.info.setdefault(_COUNTED, Count())[what, reason] += n


def add(session: Session) -> None:
    """The transaction is committed: count what was noted."""
    for (what, reason), n in session.info.pop(_COUNTED, {}).items():
        _MESSAGES.labels(what).inc(n)
        if reason:
            _FAILURES.labels(reason).inc(n)


def observe_task(task: str, outcome: str, seconds: float) -> None:
    _TASKS.labels(task, outcome).observe(seconds)


def observe_call(outcome: str, seconds: float) -> None:
    _calls(outcome).observe(seconds)


@lru_cache(maxsize=8)
def _calls(outcome: str) -> Histogram:
    return _CALLS.labels(outcome)


def observe_batch(call: str, items: int) -> None:
    _BATCHES.labels(call).observe(items)


def count_dropped(nudges: int) -> None:
    _DROPPED.inc(nudges)


def count_tick(task: str) -> None:
    _TICKS.labels(task).inc()


def watch_engine(engine: Engine, kind: str) -> None:
    """Measure its statements, and how many of its connections are in use."""
    statements, in_use = _STATEMENTS.labels(kind), _POOL.labels(kind)

    def begin(_connection: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: Any) -> None:
        context.began = time.perf_counter()

    def end(_connection: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: Any) -> None:
        statements.observe(time.perf_counter() - context.began)

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "checkout", lambda *_: in_use.inc())
    event.listen(engine, "checkin", lambda *_: in_use.dec())


def exposition(measured: Iterable[Metric] = ()) -> bytes:
    """Prometheus' text format: what was `measured` now, and what this process has counted.

    With `PROMETHEUS_MULTIPROC_DIR`, what all processes have that share it.
    """
    looked_up = CollectorRegistry()
    looked_up.register(_Measured(measured))
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest() + generate_latest(looked_up)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry) + generate_latest(looked_up)


class _Measured:
    """Figures that are there already."""

    def __init__(self, figures: Iterable[Metric]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        return self._figures


def serve(host: str, port: int | None) -> None:
    """Show the figures of a process that serves no HTTP otherwise, at a port of its own; not without one."""
    if port is None:
        return
    try:
        start_http_server(port, host)
    except OSError as error:  # no reason to stop working
        log.warning("figures are not shown, because the port is taken", port=port, error=error)
