"""`smsfleet phones simulate` as a process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from phones.ledger import Ledger
from tests.support.phones_server import TOKEN, ReferenceServer

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[ReferenceServer]:
    async with ReferenceServer() as server:
        yield server
        assert server.violations == []


def simulate(url: str, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "phones.simulate",
            "simulate",
            "--server",
            url,
            "--token",
            TOKEN,
            "--phones",
            "2",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1"},
    )


async def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = await anyio.to_thread.run_sync(process.communicate)
    return process.returncode, output, errors


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
async def test_sends_writes_its_ledger_and_ends_on_a_signal(
    server: ReferenceServer, tmp_path: Path, end: signal.Signals
) -> None:
    file = tmp_path / "ledger.jsonl"
    options = ("--send-time", "0-0.01", "--delivery-delay", "0", "--ledger", str(file), "--duplicates", "1")
    process = simulate(server.url, *options)
    with anyio.fail_after(30):
        while not all(device.streams for device in server.devices.values()) or len(server.devices) < 2:  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)
        sent = {await server.send(device) for device in server.devices.values() for _ in range(5)}
        while not file.exists() or Ledger.read(file).message_ids() != sent:  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)
        process.send_signal(end)
        code, output, errors = await ended(process)
    assert (code, errors) == (0, "")
    assert "2 phones are connected" in output
    assert "sent 10" in output
    assert "sent twice: 0" in output
    assert len(Ledger.read(file)) == 10


async def test_ends_by_itself_after_its_duration(server: ReferenceServer) -> None:
    began = time.monotonic()
    code, output, _ = await ended(simulate(server.url, "--duration", "0.5"))
    assert code == 0
    assert "received 0" in output
    assert time.monotonic() - began < 20


async def test_a_signal_ends_it_before_its_phones_are_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, anyio.fail_after(30):
        process = simulate(f"http://127.0.0.1:{silent.getsockname()[1]}")
        connection, _ = await anyio.to_thread.run_sync(silent.accept)
        with connection:
            process.send_signal(signal.SIGINT)
            code, _, errors = await ended(process)
    assert (code, errors) == (1, "smsfleet: ended before the phones were connected\n")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--send-time", "fast"), "give seconds as"),
        (("--failure-rate", "2"), "a share from 0 to 1"),
        (("--server", "foo"), "not an http address"),
    ],
)
async def test_wrong_options_are_named(server: ReferenceServer, options: tuple[str, str], complaint: str) -> None:
    code, _, errors = await ended(simulate(server.url, *options))
    assert code == 2
    assert complaint in errors
