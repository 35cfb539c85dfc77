"""`smsfleet phones simulate` as a process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from phones.control import Receive, RefusedCommandError, command
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


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a path that is too long for a socket's address."""
    return tmp_path / ("deep" * 30) / "simulated"


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Run a command of the phones, in the folder."""
    started = []

    def start(*words: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "phones.simulate", *words, "--state", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


@pytest.fixture
def simulate(start: Start) -> Start:
    """Run two simulated phones."""

    def simulate(url: str, *options: str) -> "subprocess.Popen[str]":
        return start("simulate", "--server", url, "--token", TOKEN, "--phones", "2", *options)

    return simulate


async def connected(server: ReferenceServer, phones: int = 2) -> None:
    while sum(bool(device.streams) for device in server.devices.values()) < phones:  # noqa: ASYNC110  (another process)
        await anyio.sleep(0.01)


async def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    output, errors = await anyio.to_thread.run_sync(process.communicate)
    return process.returncode, output, errors


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
async def test_sends_writes_its_ledger_and_ends_on_a_signal(
    server: ReferenceServer, simulate: Start, tmp_path: Path, end: signal.Signals
) -> None:
    file = tmp_path / "ledger.jsonl"
    options = ("--send-time", "0-0.01", "--delivery-delay", "0", "--ledger", str(file), "--duplicates", "1")
    process = simulate(server.url, *options)
    with anyio.fail_after(30):
        await connected(server)
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


async def test_ends_by_itself_after_its_duration(server: ReferenceServer, simulate: Start) -> None:
    began = time.monotonic()
    code, output, _ = await ended(simulate(server.url, "--duration", "0.5"))
    assert code == 0
    assert "received 0" in output
    assert time.monotonic() - began < 20


async def test_its_output_holds_figures_once_where_it_is_no_terminal(server: ReferenceServer, simulate: Start) -> None:
    _, output, _ = await ended(simulate(server.url, "--duration", "1.5"))
    first, figures, last = output.splitlines()
    assert first.startswith("2 phones are connected")
    assert figures.startswith("connected 2  received 0")
    assert last.startswith("sent twice: 0")


async def test_a_ledger_that_cannot_be_written(server: ReferenceServer, simulate: Start) -> None:
    code, _, errors = await ended(simulate(server.url, "--ledger", "/nonexistent/x"))
    assert (code, errors) == (
        1, "smsfleet: the ledger /nonexistent/x cannot be written (No such file or directory)\n"
    )  # fmt: skip


async def test_a_signal_ends_it_before_its_phones_are_connected(simulate: Start) -> None:
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
        (("--app-version", "new"), "give it as 1.68.0"),
    ],
)
async def test_wrong_options_are_named(
    server: ReferenceServer, simulate: Start, options: tuple[str, str], complaint: str
) -> None:
    code, _, errors = await ended(simulate(server.url, *options))
    assert code == 2
    assert complaint in errors


@pytest.mark.parametrize("version", ["1.68.0", "1.75.0"])
async def test_a_command_beside_it_lets_a_phone_receive(
    server: ReferenceServer, simulate: Start, start: Start, folder: Path, version: str
) -> None:
    with anyio.fail_after(60):
        simulate(server.url, "--app-version", version)
        await connected(server)
        code, output, errors = await ended(
            start("receive", "Код 1234 € дунё", "--from", "+12025550148", "--phone", "1")
        )
        assert (code, errors) == (0, "")
        assert output == "virtual/phone-0001 has received it, and the gateway has taken it\n"
        ((post,),) = server.posts.values()
        assert server.devices[post["deviceId"]].name == "virtual/phone-0001"
        assert post["payload"]["message"] == "Код 1234 € дунё"
        assert post["payload"]["sender"] == "+12025550148"
        for phone, sim, complaint in [(2, 1, "no phone 2: they are 0 to 1"), (0, 2, "virtual/phone-0000 has no SIM 2")]:
            with pytest.raises(RefusedCommandError, match=complaint):
                await anyio.to_thread.run_sync(command, folder, Receive("Bank", "x", phone, sim))


async def test_without_running_phones_none_receives(start: Start, folder: Path) -> None:
    code, _, errors = await ended(start("receive", "x", "--from", "Bank"))
    assert (code, errors) == (1, f"smsfleet: no phones are simulated from {folder}\n")
    code, _, errors = await ended(start("simulate"))
    assert code == 2
    assert "phones that are new need a private token" in errors


async def test_killed_it_comes_back_as_the_same_phones_with_their_messages(
    server: ReferenceServer, simulate: Start, start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "ledger.jsonl"
    brisk = ("--send-time", "0", "--delivery-delay", "0", "--ledger", str(file))
    server.settings["messages"] |= {"send_interval_min": 3600, "send_interval_max": 3600}
    with anyio.fail_after(60):
        process = simulate(server.url, *brisk)
        await connected(server)
        device = next(iter(server.devices.values()))
        first = await server.send(device)
        while "Delivered" not in device.states(first):  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)
        waiting = await server.send(device)
        while device.woken or waiting not in device.handed_out:  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)
        device.waiting.clear()  # it is the phone's now
        pulls = server.calls["GET /message"]
        await server.tell(device, "MessageEnqueued")
        while server.calls["GET /message"] == pulls:  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)
        process.kill()
        await ended(process)

        server.settings["messages"] |= {"send_interval_min": 0, "send_interval_max": 0}
        start("simulate", "--server", server.url, *brisk)
        while "Delivered" not in device.states(waiting):  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)
        await connected(server)
        assert server.calls["POST /device"] == len(server.devices) == 2
        assert [entry.message_id for entry in Ledger.read(file)] == [first, waiting]


async def test_a_delivery_that_comes_after_the_restart_is_reported(
    server: ReferenceServer, simulate: Start, start: Start
) -> None:
    with anyio.fail_after(60):
        process = simulate(server.url, "--send-time", "0", "--delivery-delay", "3600")
        await connected(server)
        device = next(iter(server.devices.values()))
        message = await server.send(device)
        while "Sent" not in device.states(message):  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        await ended(process)
        start("simulate", "--server", server.url, "--delivery-delay", "0")
        while "Delivered" not in device.states(message):  # noqa: ASYNC110  (another process)
            await anyio.sleep(0.01)


async def test_one_folder_is_of_one_process_and_one_gateway(
    server: ReferenceServer, simulate: Start, start: Start, folder: Path
) -> None:
    with anyio.fail_after(60):
        process = simulate(server.url)
        await connected(server)
        code, _, errors = await ended(simulate(server.url))
        assert (code, errors) == (
            1,
            f"smsfleet: phones are already simulated from {folder}; --state names another folder\n",
        )
        process.send_signal(signal.SIGINT)
        await ended(process)
        async with ReferenceServer() as other:
            code, _, errors = await ended(simulate(other.url))
            assert code == 1
            assert f"are enrolled at {server.url}; --state names a folder for others" in errors
            assert other.devices == {}
