"""One send is one trace, from the request to the webhook, in a collector that hears of it over OTLP."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.local import commands
from tests.support.strict_phone import StrictPhone
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(ThreadingHTTPServer):
    """Takes spans as a collector does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.spans: list[Span] = []
        self.raw: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


class Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["content-length"]))
        told = ExportTraceServiceRequest.FromString(body)
        self.server.raw.append(body)
        self.server.spans += [
            span for resource in told.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def api_url(collector, database, configured, free_port, tmp_path: Path) -> Iterator[str]:
    """An API process and a worker of all queues, which send their spans at once."""
    configured(OTLP_ENDPOINT=collector.url, SIZE="small", WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8")
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OTEL_BSP_SCHEDULE_DELAY": "100"}
    port = free_port()
    programs = [
        commands.api("--host", "127.0.0.1", "--port", str(port)),
        commands.worker(commands.ALL_QUEUES, "all-1"),
    ]
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "log").open("w"))
        processes = [subprocess.Popen(program, env=env, stdout=log, stderr=log) for program in programs]
        url = f"http://127.0.0.1:{port}"
        try:
            until(lambda: ready(url))
            yield url
        finally:
            for process in processes:
                process.terminate()
            codes = [process.wait(60) for process in processes]
    assert codes == [-signal.SIGTERM, 0], (tmp_path / "log").read_text()


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=20).json()["status"] == "ok"
    except httpx.TransportError:
        return False


@pytest.mark.timeout(180)
def test_a_send_is_one_trace_from_the_request_to_the_webhook(api_url: str, collector: Collector, ali) -> None:
    phone = StrictPhone(api_url)
    phone.register(ali.token("phone:enroll")["Authorization"].removeprefix("Bearer "))
    with Receiver() as receiver:
        draft = {"message": "Secret words", "recipient_number": "+998901112233", "callback_url": receiver.url()}
        headers = {**ali.headers, "traceparent": f"00-{TRACE}-{CALLER}-01"}
        sent = httpx.post(f"{api_url}/api/sms", json=draft, headers=headers, timeout=30)
        assert sent.status_code == 201
        [pulled] = until(phone.pull)
        phone.send(pulled["id"])
        until(lambda: receiver.received)
        until(lambda: collector.named("webhook"))
        until(lambda: collector.named("webhooks.deliver"))
    phone.close()

    [request] = collector.named("POST /api/sms")
    [nudge] = [span for span in collector.named("nudge webhooks.deliver") if span.parent_span_id == request.span_id]
    [task] = [span for span in collector.named("webhooks.deliver") if span.parent_span_id == nudge.span_id]
    [webhook] = collector.named("webhook")
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == CALLER
    assert nudge.trace_id == task.trace_id == webhook.trace_id == request.trace_id
    assert webhook.parent_span_id == task.span_id
    kinds = [Span.SPAN_KIND_SERVER, Span.SPAN_KIND_PRODUCER, Span.SPAN_KIND_CONSUMER, Span.SPAN_KIND_CLIENT]
    assert [span.kind for span in (request, nudge, task, webhook)] == kinds
    # What the phone did stands in it too, and points to the phone's own requests.
    pull, report = (
        collector.named("GET /api/mobile/v1/message")[-1],
        collector.named("PATCH /api/mobile/v1/message")[-1],
    )
    for name, by in (("handed to a phone", pull), ("sent", report)):
        [moment] = collector.named(name)
        assert (moment.trace_id, moment.parent_span_id) == (request.trace_id, request.span_id)
        assert by.trace_id != request.trace_id
        assert moment.links[0].trace_id in {span.trace_id for span in collector.named(by.name)}
    everything = b"".join(collector.raw)
    for private in (b"Secret words", b"998901112233", phone.token.encode(), receiver.url().encode()):
        assert private not in everything


def test_a_request_that_is_not_to_be_sampled_leaves_nothing(api_url: str, collector: Collector, ali) -> None:
    headers = {**ali.headers, "traceparent": f"00-{TRACE}-{CALLER}-00"}
    assert httpx.get(f"{api_url}/api/account", headers=headers).status_code == 200
    assert httpx.get(f"{api_url}/api/devices", headers=ali.headers).status_code == 200
    until(lambda: collector.named("GET /api/devices"))
    assert not collector.named("GET /api/account")


def test_without_a_collector_nothing_of_it_is_imported(database) -> None:
    code = (
        "import sys, app.main, workers.app; app.main.create_app(); workers.app.app.loader.import_default_modules();"
        " print([name for name in sys.modules if name.startswith(('opentelemetry.exporter', 'app.core.spans'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
