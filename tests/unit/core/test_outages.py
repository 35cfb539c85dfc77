"""What libraries log of an outage is told once; what ends a process, whole."""

import logging

import kombu.exceptions

from app.core import outages


def record() -> logging.LogRecord:
    name = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    return logging.LogRecord(name, logging.ERROR, __file__, 1, "Failed to export spans batch code: %s", (503,), None)


def test_it_is_said_once_and_again_after_it_was_back() -> None:
    outages.over("collector")
    kept = outages.OutageFilter()
    first = record()
    assert kept.filter(first)
    assert first.getMessage() == "the collector cannot be reached; everything goes on when it is back"
    assert (first.levelno, first.away) == (logging.WARNING, "collector")
    assert not kept.filter(record())
    outages.over("collector")
    assert kept.filter(record())
    outages.over("collector")


def test_a_worker_that_ends_says_why_while_its_broker_is_away() -> None:
    kept = outages.OutageFilter()
    error = kombu.exceptions.OperationalError("connection refused")
    told = logging.LogRecord(
        "celery.worker", logging.CRITICAL, __file__, 1, "Unrecoverable error: %r", (error,), (type(error), error, None)
    )
    assert kept.filter(told)
    assert kept.filter(told)
    assert told.exc_info
    assert told.getMessage() == "Unrecoverable error: OperationalError('connection refused')"
