"""Logging: one JSON line per event, in every process. Message texts, numbers and secrets are never logged.

`smsfleet up` makes short lines of them for a person at a terminal (`app/local/lines.py`).
"""

import logging
from typing import Any

import structlog

from app.core import outages, tracing
from app.core.settings import get_settings


def _name_trace(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if traceparent := tracing.current():
        event["trace"] = traceparent.split("-")[1]
    return event


def configure_logging() -> None:
    """Send structlog and the standard library's loggers to standard error in one format."""
    level = logging.getLevelNamesMapping()[get_settings().log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_trace,
        structlog.stdlib.ExtraAdder(allow=("away",)),
        outages.fold,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.addFilter(outages.OutageFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in (
        "httpx",
        "alembic",
        "celery.beat",
        "httpcore",
        "celery.worker.strategy",
        "celery.app.trace",
        "celery.worker.request",
        "kombu",
        "amqp",
    ):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
    # What it logs is told to who sent the form, which may be anybody.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
