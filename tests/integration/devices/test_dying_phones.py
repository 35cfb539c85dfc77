"""Three of six phones die, each in its own way, before real processes: what they had is on air elsewhere in time."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest

from app.local.commands import BEAT, worker
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from phones.ledger import Ledger
from tests.integration.devices.test_streams import api_process
from tests.support.waiting import until

ON_AIR_WITHIN = 20.0

pytestmark = pytest.mark.timeout(180)


class Cable:
    """A network between a phone and the gateway. Cut, it carries nothing more and closes nothing."""

    def __init__(self, port: int) -> None:
        self._gateway = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self.cut = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut.set()
        self._thread.join()
        self._selector.close()
        for one in self._sockets:
            one.close()

    def _carry(self) -> None:
        while not self.cut.is_set():
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    near, far = self._listener.accept()[0], socket.create_connection(self._gateway)
                    self._sockets += near, far
                    self._selector.register(near, selectors.EVENT_READ, far)
                    self._selector.register(far, selectors.EVENT_READ, near)
                elif data := key.fileobj.recv(65536):
                    key.data.sendall(data)
                else:
                    key.data.shutdown(socket.SHUT_WR)
                    self._selector.unregister(key.fileobj)


@contextmanager
def process(command: tuple[str, ...], **env: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def phone_process(server: str, token: str, ledger: Path) -> tuple[str, ...]:
    # fmt: off
    return (
        sys.executable, "-m", "app.cli", "phones", "simulate", "--server", server, "--token", token, "--phones", "1",
        "--ledger", str(ledger), "--state", f"{ledger} state",
    )
    # fmt: on


def test_what_dead_phones_had_is_on_air_elsewhere_within_20_seconds(client, ali, tmp_path, sql):
    token = ali.token("phone:enroll")["Authorization"].removeprefix("Bearer ")
    ledgers = [tmp_path / name for name in ("killed", "cut off", "frozen")]
    with ExitStack() as stack:
        url, _ = stack.enter_context(api_process())
        stack.enter_context(process(worker("dispatch", "dispatch-dying")))
        stack.enter_context(process(worker("upkeep", "upkeep-dying")))
        stack.enter_context(process(BEAT))
        cable = stack.enter_context(Cable(int(url.rpartition(":")[2])))
        living = stack.enter_context(FleetThread(url, token, count=3, behaviour=Behaviour(send_time=0.05)))
        servers = (url, cable.url, url)
        killed, _, frozen = [
            stack.enter_context(process(phone_process(server, token, ledger)))
            for server, ledger in zip(servers, ledgers, strict=True)
        ]
        until(lambda: sum(device["online"] for device in client.get("/api/devices").json()["data"]) == 6, 60)
        send(client, "all six", 12)
        until(lambda: on_air("all six", living, ledgers) == 12, 30)

        killed.send_signal(signal.SIGKILL)
        cable.cut.set()
        frozen.send_signal(signal.SIGSTOP)
        sent = {}
        for turn in range(8):  # the first at the moment they die, in every phone's turn
            sent |= send(client, f"code {turn}", 6 if turn == 0 else 2)
            time.sleep(1)
        until(lambda: len(at_of(living, sent)) == len(sent), 60)
        took = {text: at - sent[text] for text, at in at_of(living, sent).items()}
        assert max(took.values()) < ON_AIR_WITHIN, took
        assert not any(on_air("code", None, [ledger]) for ledger in ledgers), "the dead sent something"
        states = sorted(device["online"] for device in client.get("/api/devices").json()["data"])
        assert states == [False] * 3 + [True] * 3
        moved = sql.execute("SELECT count(DISTINCT message_id) FROM message_steps WHERE step = 'moved'").fetchone()[0]
        assert moved >= 3, "each of the dead had its turn"


def send(client, text: str, count: int) -> dict[str, float]:
    """Send so many single messages, and say when."""
    sent = {}
    for number in range(count):
        message = f"{text} no. {number}"
        sent[message] = time.monotonic()
        body = {"message": message, "recipient_number": f"+15550100{number:02d}", "device_id": "active"}
        assert client.post("/api/sms", json=body).status_code == 201
    return sent


def at_of(fleet: FleetThread, sent: dict[str, float]) -> dict[str, float]:
    return {entry.text: entry.monotonic for entry in fleet.ledger if entry.text in sent}


def on_air(text: str, fleet: FleetThread | None, ledgers: list[Path]) -> int:
    entries = list(fleet.ledger) if fleet else []
    for ledger in ledgers:
        if ledger.exists():
            entries += list(Ledger.read(ledger))
    return sum(text in entry.text for entry in entries)
