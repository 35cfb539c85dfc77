"""A collector of traces that is away is told of like a database or a broker: once, whatever its library says."""

import logging

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
