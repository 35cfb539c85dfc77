"""What is logged while database, broker or collector are away: that they are, once and once a minute, and when back.

Every process meets an outage many times a second, in many places, each of which repairs itself when it is over.
"""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import amqp.exceptions
import kombu.exceptions
import redis
import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.core.errors import as_app_error, loses_connection

Part = Literal["database", "broker", "collector"]

AGAIN_SECONDS = 60.0
# How Celery's own lines about its broker begin, which carry no exception.
_OF_CELERY = (
    "consumer: Cannot connect to",
    "consumer: Connection to broker lost",
    "Connection to broker lost",
    "beat: Connection error",
    "Failed to capture events",  # Flower
)
# And how they begin where a process ends by an error, which is told whole whatever else is away.
_OF_AN_END = ("Unrecoverable error", "beat raised exception")
_BROKER_ERRORS = (
    redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError,
    kombu.exceptions.OperationalError, amqp.exceptions.ConnectionError,
)  # fmt: skip
_PASSING = 503

log = structlog.get_logger(__name__)


class _Outages:
    """What is away for this process, and when that was said."""

    def __init__(self) -> None:
        self._said: dict[Part, float] = {}
        self._lock = threading.Lock()

    def is_news(self, part: Part) -> bool:
        now = time.monotonic()
        with self._lock:
            if now - self._said.get(part, -AGAIN_SECONDS) < AGAIN_SECONDS:
                return False
            self._said[part] = now
            return True

    def end(self, part: Part) -> bool:
        with self._lock:
            return self._said.pop(part, None) is not None


_outages = _Outages()


def over(part: Part) -> None:
    """It answers. Says so where its absence was said; costs nothing otherwise."""
    if _outages.end(part):
        log.info("what was away is back", back=part)


def part_of(error: BaseException | None) -> Part | None:
    """What is away if this error happens; None for one that has another reason."""
    for one in _with_causes(error):
        if isinstance(one, _BROKER_ERRORS):
            return "broker"
        if isinstance(one, PoolTimeout | InterfaceError) or loses_connection(one):
            return "database"
        if isinstance(one, DBAPIError) and (one.connection_invalidated or _never_answered(one)):
            return "database"
    return None


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _never_answered(error: DBAPIError) -> bool:
    """Whether no server said what is wrong, which is so where none could be reached."""
    return type(error).__name__ == "OperationalError" and getattr(error.orig, "sqlstate", None) is None


def brief(error: BaseException) -> str:
    """An error in one line."""
    first = str(getattr(error, "orig", error)).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def fold(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """For structlog: an `error` in one line; one of an outage says what is away, or nothing if that was just said."""
    error = event.get("error")
    if not isinstance(error, BaseException):
        return event
    event["error"] = brief(error)
    if part := part_of(error):
        if not _outages.is_news(part):
            raise structlog.DropEvent
        event["meanwhile"], event["event"], event["away"] = event["event"], _sentence(part), part
    return event


class OutageFilter(logging.Filter):
    """The same for lines of libraries; and no trace of what is tried again, an aborted transaction, say."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict) or record.getMessage().startswith(_OF_AN_END):  # a dict is structlog's
            return True
        error = record.exc_info[1] if record.exc_info else None
        part = _part_of_line(record) or part_of(error)
        if part:
            if not _outages.is_news(part):
                return False
            record.msg, record.args, record.away = _sentence(part), (), part
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        elif isinstance(error, Exception) and as_app_error(error).status == _PASSING:
            record.exc_info = record.exc_text = None
        return True


def _part_of_line(record: logging.LogRecord) -> Part | None:
    if record.name.startswith("opentelemetry."):
        return "collector"
    return "broker" if record.getMessage().startswith(_OF_CELERY) else None


def _sentence(part: Part) -> str:
    return f"the {part} cannot be reached; everything goes on when it is back"
