"""HAProxy itself, with the published file on other addresses, before two machines that are stood in for."""

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from pathlib import Path

import httpx
import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.needs_haproxy
FILE = Path("deploy/haproxy/haproxy.cfg")
CERTIFICATE = "/etc/haproxy/sms.example.com.pem"


class Application:
    """Answers as a machine with smsfleet does, and notes what it was asked."""

    def __init__(self) -> None:
        self.ready = 200
        self.seen: list[Message] = []
        self.released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_check = self.path == "/health/ready"
                self.send_response(outer.ready if is_check else 200)
                self.end_headers()
                if not is_check:
                    outer.seen.append(self.headers)
                    self.wfile.write(b"event: one\n\n")
                    self.wfile.flush()
                    if self.path == "/stream":
                        outer.released.wait(60)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def proxied(folder: Path, port: int, *applications: Application) -> Iterator[httpx.Client]:
    config = FILE.read_text().replace(f":443 ssl crt {CERTIFICATE}", f"127.0.0.1:{port}")
    for number, application in enumerate(applications, 11):
        config = config.replace(f"10.0.0.{number}:8000", application.place)
    (folder / "haproxy.cfg").write_text(config)
    process = subprocess.Popen(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-Forwarded-For": "198.51.100.7"}) as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)
        for application in applications:
            application.released.set()
            application.server.shutdown()
            application.server.server_close()


def _get(client: httpx.Client, path: str = "/") -> httpx.Response | None:
    with suppress(httpx.TransportError):  # it has not begun to listen
        return client.get(path)
    return None


def _takers(client: httpx.Client, *applications: Application) -> set[Application]:
    """Those that get some of ten requests."""
    before = [len(one.seen) for one in applications]
    for _ in range(10):
        client.get("/")
    return {one for one, n in zip(applications, before, strict=True) if len(one.seen) > n}


def test_requests_go_to_machines_that_are_ready(free_port, tmp_path):
    a, b = Application(), Application()
    b.ready = 503
    with proxied(tmp_path, free_port(), a, b) as client:
        until(lambda: (answer := _get(client)) and answer.status_code == 200)
        with client.stream("GET", "/stream") as answer:
            assert next(answer.iter_lines()) == "event: one", "it arrives while the answer goes on"
            a.released.set()
        assert a.seen[0]["X-Forwarded-For"] == "127.0.0.1", "nothing that the client claims"
        assert a.seen[0]["X-Forwarded-Proto"] == "https"
        assert client.get("/metrics").status_code == 403
        until(lambda: _takers(client, a, b) == {a})
        a.ready, b.ready = 503, 200
        until(lambda: _takers(client, a, b) == {b})
        b.ready = 503
        refused = until(lambda: (answer := client.get("/")).status_code == 503 and answer)
        assert refused.headers["Retry-After"] == "1"
        assert refused.json() == {"success": False, "message": "The server is busy, try again shortly."}


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_the_file_is_valid(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=sms.example.com"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (tmp_path / "both.pem").write_text(certificate.read_text() + key.read_text())
    path = tmp_path / "haproxy.cfg"
    path.write_text(FILE.read_text().replace(CERTIFICATE, str(tmp_path / "both.pem")))
    done = subprocess.run(["haproxy", "-c", "-f", str(path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
