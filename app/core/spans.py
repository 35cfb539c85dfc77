"""What `app.core.tracing` needs of OpenTelemetry's packages: makes spans, and sends them to the collector in batches.

Sampling, headers, certificates and the batches' sizes are set by OpenTelemetry's own variables (`OTEL_…`).
"""

import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.core import outages

Kind = Literal["server", "client", "producer", "consumer", "internal"]
# Numbers of rows, words and states; never a text, a number of a phone, an address or a secret.
Attributes = Mapping[str, str | int]

EXPORT_SECONDS = 2.0
# A process that ends begins to send what it has for so long.
MAX_FINISH_SECONDS = 2.0

_propagator = TraceContextTextMapPropagator()


class Span:
    """One that has begun."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        self._span.end()


class _Exporter(OTLPSpanExporter):
    """Says when a collector that was away is back; that it is away its own lines say (`core.outages`)."""

    _ends_at = math.inf

    def finish(self) -> None:
        self._ends_at = time.monotonic() + MAX_FINISH_SECONDS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if time.monotonic() > self._ends_at:
            return SpanExportResult.FAILURE
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            outages.over("collector")
        return result


class Spans:
    """Those of this process."""

    def __init__(self, endpoint: str) -> None:
        resource = Resource.create(
            {
                "service.name": "smsfleet",
                "service.version": version("smsfleet"),
                "service.instance.id": f"{os.getpid()}@{socket.gethostname()}",
            }
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporter = _Exporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("smsfleet")

    def finish(self) -> None:
        """Send what is there. What ends later is lost."""
        self._exporter.finish()
        self._provider.shutdown()

    def start(self, name: str, kind: Kind, parent: str | None, link: str | None, attributes: Attributes) -> Span:
        linked = trace.get_current_span(_read(link)).get_span_context()
        return Span(
            self._tracer.start_span(
                name,
                context=_read(parent),
                kind=trace.SpanKind[kind.upper()],
                attributes=dict(attributes),
                links=[trace.Link(linked)] if linked.is_valid else [],
            )
        )


def _read(traceparent: str | None) -> Context:
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, context=Context())
