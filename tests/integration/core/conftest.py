"""An API process of its own, whose memory and files are nobody else's."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.local import commands


@dataclass(frozen=True)
class ApiProcess:
    """A running one, its output in a file."""

    pid: int
    port: int
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def megabytes(self) -> float:
        """What it occupies, without what it shares."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("RssAnon:")[2].split()[0]) / 1024

    def connect(self, *, address: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10, source_address=(address, 0))


@pytest.fixture
def api_process(database, tmp_path) -> Callable[..., Iterator[ApiProcess]]:
    """Start one as `smsfleet up` does: `with api_process(CONNECTIONS_PER_ADDRESS="10", files=400) as running:`."""

    @contextmanager
    def start(*, files: int | None = None, **settings: str) -> Iterator[ApiProcess]:
        output = tmp_path / "api.log"
        env = {**os.environ, **{f"SMSFLEET_{name}": value for name, value in settings.items()}}
        with socket.socket() as listener, output.open("w") as log:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1024)
            command = commands.api("--fd", str(listener.fileno()))
            if files:  # so many if it asks for them, half of that if not
                command = ("sh", "-c", f'ulimit -S -n {files // 2}; ulimit -H -n {files}; exec "$@"', "sh", *command)
            process = subprocess.Popen(command, env=env, pass_fds=[listener.fileno()], stdout=log, stderr=log)
            running = ApiProcess(process.pid, listener.getsockname()[1], output)
        try:
            deadline = time.monotonic() + 60
            while not _answers(running.url):
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield running
        finally:
            process.terminate()
            process.wait(60)

    return start


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready", timeout=20).status_code == 200
    except httpx.TransportError:
        return False
