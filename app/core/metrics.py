"""Figures for Prometheus: requests by route template, never by raw path, which anybody can make up."""

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_REQUESTS = Counter("smsfleet_http_requests", "Requests answered", ["method", "route", "status"])
_SECONDS = Histogram(
    "smsfleet_http_request_seconds",
    "Time to the end of the answer",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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


def exposition() -> bytes:
    """All figures in Prometheus' text format; of every API process where they share `PROMETHEUS_MULTIPROC_DIR`."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
