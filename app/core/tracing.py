"""Traces by OpenTelemetry, where `SMSFLEET_OTLP_ENDPOINT` names a collector. Without it nothing of that is imported.

A trace begins with a request, or goes on from the `traceparent` that the request brings. A nudge takes it along to its
task. What happens to a message later is caused by others than its sender, by its phone above all: so the trace in which
a message was sent is remembered for an hour (`core.outbound`), and its way and its webhook calls belong to that one.
"""

import atexit
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from app.core.once import once
from app.core.settings import get_settings

if TYPE_CHECKING:
    from app.core.spans import Attributes, Kind, Span, Spans

# What happens in this context, as a `traceparent`; None where it is in no trace.
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def is_on() -> bool:
    return get_settings().otlp_endpoint is not None


def refuse_without_packages() -> None:
    """End a process that is to trace and lacks what that takes."""
    if is_on() and find_spec("opentelemetry.sdk") is None:
        raise SystemExit("SMSFLEET_OTLP_ENDPOINT needs more packages: pip install 'smsfleet[tracing]'")


def current() -> str | None:
    """The `traceparent` of what happens here, for what it causes elsewhere."""
    return _current.get()


def go_on(traceparent: str | None) -> None:
    """What happens from here on in this context belongs to another trace, or to none."""
    _current.set(traceparent)


@contextmanager
def span(
    name: str, kind: "Kind", parent: str | None, link: str | None = None, attributes: "Attributes | None" = None
) -> Iterator["Span"]:
    """Something that takes time, in the trace of `parent` or in a new one; what it causes meanwhile belongs to it.

    `link` is what else it has to do with, in another trace.
    """
    started = _spans().start(name, kind, parent, link, attributes or {})
    before = _current.set(started.traceparent)
    try:
        yield started
    except BaseException as error:
        started.fail(type(error).__name__)
        raise
    finally:
        _current.reset(before)
        started.end()


def task(name: str, traceparent: str | None) -> AbstractContextManager[object]:
    """A task, where its nudge came from something that is traced."""
    if traceparent is None or not is_on():
        return nullcontext()
    return span(name, "consumer", traceparent)


def moment(
    name: str, kind: "Kind", parent: str, link: str | None = None, attributes: "Attributes | None" = None
) -> str:
    """Something that takes no time worth telling; its `traceparent`."""
    with span(name, kind, parent, link, attributes) as noted:
        return noted.traceparent


def is_sampled(traceparent: str) -> bool:
    return bool(int(traceparent[-2:], 16) & 1)


def is_same(one: str | None, other: str | None) -> bool:
    """Whether two `traceparent`s are of one trace."""
    return one is not None and other is not None and one.split("-")[1] == other.split("-")[1]


def finish() -> None:
    """Before the process ends: send what it has, for some two seconds."""
    if _spans.made is not None:
        _spans.made.finish()


@once
def _spans() -> "Spans":
    spans: Spans = import_module("app.core.spans").Spans(str(get_settings().otlp_endpoint))
    atexit.register(spans.finish)
    return spans
