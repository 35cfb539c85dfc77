"""An update as `docs/operating/hardening.md` describes it: two API processes behind the proxy, replaced one by one.

The earlier version is taken from the history and runs with today's packages. It serves while this one migrates its
database; then each of its processes is asked to end, and this version's takes its place.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from app.core.task_names import QueueName
from app.local.servers import EmbeddedPostgres, EmbeddedValkey, _free_port
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from tests.support.versions import CHECKOUT, PREVIOUS, unpack
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver

MAX_REFUSED_SECONDS = 2.0
START_SECONDS = 90.0
PROXY_FORGETS_SECONDS = 1.5  # that a process could not be reached; an operator takes longer between two of them
PATIENCE_SECONDS = 60.0  # of a sender with one message
_PERSON = {"name": "Ali", "email": "ali@example.com", "password": "secret-1", "password_confirmation": "secret-1"}
_COMMANDS = """
import json
from app.local import commands
print(json.dumps({
    "migrate": commands.MIGRATE, "beat": commands.BEAT, "api": commands.api("--host", "127.0.0.1", "--port", "PORT"),
    **{f"worker-{queue}": commands.worker(queue, f"{queue}-1") for queue in ("dispatch", "webhooks", "upkeep")},
}))
"""


@dataclass(frozen=True)
class Options:
    version: str = PREVIOUS
    seconds: float = 2.0  # of load before the update, and after it
    senders: int = 2


@dataclass
class Result:
    """What was seen from outside."""

    accepted: int = 0
    lost: int = 0
    twice: int = 0
    untold: int = 0  # messages of whose end the receiver was not called
    wrong: Counter[str] = field(default_factory=Counter)  # answers other than 201, and 503 with Retry-After
    # Connections that ended without an answer while an API process of the earlier version ended: up to 0.1.0 it closes
    # idle ones at once, one of which the proxy may be using again at that moment.
    cut_off: int = 0
    refused: int = 0
    refused_seconds: float = 0.0  # the longest time for which one sender was refused
    schema: tuple[str, str] = ("", "")

    @property
    def is_good(self) -> bool:
        bad = self.lost or self.twice or self.untold or self.wrong
        return bool(self.accepted) and not bad and self.refused_seconds < MAX_REFUSED_SECONDS

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} times {what}" for what, count in self.wrong.items()) or "none"
        return (
            f"{self.accepted} accepted, {self.lost} lost, {self.twice} twice, {self.untold} not called back;"
            f" {self.refused} refused with 503, for {self.refused_seconds:.2f} s at most;"
            f" {self.cut_off} cut off by the earlier version;"
            f" other refusals: {wrong};"
            f" schema {self.schema[0]} to {self.schema[1]}"
        )


class Code:
    """A version's code, and the commands of its processes."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, {**env, "PYTHONPATH": str(folder)}
        command = [sys.executable, "-c", _COMMANDS]
        self.commands: dict[str, list[str]] = json.loads(
            subprocess.run(command, env=self.env, cwd=folder, check=True, capture_output=True).stdout
        )

    def start(self, kind: str, log: Path, port: int = 0) -> "subprocess.Popen[bytes]":
        command = [str(port) if word == "PORT" else word for word in self.commands[kind]]
        with log.open("ab") as output:
            return subprocess.Popen(command, env=self.env, cwd=self.folder, stdout=output, stderr=output)


class Senders:
    """People who send single messages, each with a key, again until it is accepted, and note every answer."""

    def __init__(self, url: str, token: str, callback: str, count: int, is_ending: threading.Event) -> None:
        """`is_ending`: set while an API process of the earlier version ends."""
        self._url, self._token, self._callback, self._is_ending = url, token, callback, is_ending
        self.cut_off = 0
        self.accepted: set[str] = set()
        self.wrong: Counter[str] = Counter()
        self.refused, self.refused_seconds = 0, 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        with httpx.Client(base_url=self._url, timeout=30, headers={"Authorization": f"Bearer {self._token}"}) as client:
            for number in range(1_000_000):
                if self._stop.is_set():
                    return
                self._until_accepted(client, f"+99890{sender}{number:06d}")
                time.sleep(0.02)

    def _until_accepted(self, client: httpx.Client, number: str) -> None:
        body = {"recipient_number": number, "message": "Hello", "device_id": "active", "callback_url": self._callback}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        began = time.monotonic()
        while time.monotonic() < began + PATIENCE_SECONDS:
            try:
                answer = client.post("/api/sms", json=body, headers=headers)
                what = f"{answer.status_code} {answer.text[:80]}"
            except httpx.TransportError as error:
                answer, what = None, repr(error)
            is_cut_off = answer is None or answer.status_code == 502
            with self._lock:
                if answer is not None and answer.status_code == 201:
                    self.accepted.add(answer.json()["data"]["message_id"])
                    return
                if answer is not None and answer.status_code == 503 and "retry-after" in answer.headers:
                    self.refused += 1
                    self.refused_seconds = max(self.refused_seconds, time.monotonic() - began)
                elif is_cut_off and self._is_ending.is_set():
                    self.cut_off += 1
                else:
                    self.wrong[what] += 1
            time.sleep(0.1)


def run(options: Options, say: Callable[[str], None]) -> Result:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smsfleet-update-")))
        folder.chmod(0o755)
        postgres = stack.enter_context(EmbeddedPostgres(folder / "data", durable=False))
        valkey = stack.enter_context(EmbeddedValkey(folder / "data", durable=False))
        env = {name: value for name, value in os.environ.items() if not name.startswith("SMSFLEET_")} | {
            "SMSFLEET_DATABASE_URL": postgres.url,
            "SMSFLEET_REDIS_URL": valkey.url,
            "SMSFLEET_DATA_DIR": str(folder / "data"),
            "SMSFLEET_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
            "SMSFLEET_TRUSTED_PROXIES": "127.0.0.1",
            "SMSFLEET_REGISTRATION": "open",
        }
        unpack(options.version, folder / "old")
        old, new = Code(folder / "old", env), Code(CHECKOUT, env)
        site = _Site(folder)
        stack.callback(site.end)
        result = Result()
        _migrate(old)
        before = _schema(postgres.url)
        site.start(old)
        say(f"{options.version} serves at {site.url}")
        receiver = stack.enter_context(Receiver())
        with httpx.Client(base_url=f"{site.url}/api", timeout=30) as client:
            token = client.post("/register", json=_PERSON).json()["data"]["token"]
            client.headers["Authorization"] = f"Bearer {token}"
            key = client.post("/tokens", json={"name": "Phones", "abilities": ["phone:enroll"]}).json()["data"]["token"]
        behaviour = Behaviour(send_time=0.01, delivery_delay=0.1, triggers="join", time_factor=0.1)
        fleet = stack.enter_context(FleetThread(site.url, key, count=4, behaviour=behaviour))
        senders = Senders(site.url, token, receiver.url("/callback"), options.senders, site.is_ending)
        try:
            time.sleep(options.seconds)
            _migrate(new)
            say(f"migrated while it serves, after {len(senders.accepted)} messages")
            for name in site.names:
                site.replace(name, new)
                say(f"{name} is replaced, after {len(senders.accepted)} messages")
            time.sleep(options.seconds)
        finally:
            senders.end()
        result.accepted, result.wrong = len(senders.accepted), senders.wrong
        result.cut_off = senders.cut_off
        result.refused, result.refused_seconds = senders.refused, senders.refused_seconds
        result.schema = before, _schema(postgres.url)
        _settle(lambda: not fleet.do(lambda: fleet.ledger.missing(senders.accepted)))
        result.lost = len(fleet.do(lambda: fleet.ledger.missing(senders.accepted)))
        result.twice = len(fleet.ledger.sent_twice())
        _settle(lambda: not senders.accepted - _told(receiver))
        result.untold = len(senders.accepted - _told(receiver))
        return result


def _settle(condition: Callable[[], bool]) -> None:
    """Wait for it, for a while: what is missing then is the result."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def _told(receiver: Receiver) -> set[str]:
    return {request.json["data"]["message_id"] for request in list(receiver.received)}


def _schema(url: str) -> str:
    with psycopg.connect(url) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchall()[0][0])


def _migrate(code: Code) -> None:
    done = subprocess.run(
        code.commands["migrate"], env=code.env, cwd=code.folder, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


class _Site:
    """The processes, by name, and the proxy in front of the two of the API."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {"api-1": _free_port(), "api-2": _free_port()}
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.names = [*self._ports, *(f"worker-{queue}" for queue in QueueName), "beat"]
        self.is_ending = threading.Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, code: Code) -> None:
        for name in self.names:
            self._start(name, code)
        for name in self._ports:
            self._wait(name)
        self._running["proxy"] = self._start_proxy()
        until(lambda: _answers(f"{self.url}/health/ready"))

    def replace(self, name: str, code: Code) -> None:
        process = self._running[name]
        if name in self._ports:
            self.is_ending.set()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        self._start(name, code)
        if name in self._ports:
            self._wait(name)
            time.sleep(PROXY_FORGETS_SECONDS)
            self.is_ending.clear()

    def end(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            process.wait(60)

    def _start(self, name: str, code: Code) -> None:
        kind = "api" if name in self._ports else name
        self._running[name] = code.start(kind, self._folder / f"{name}.log", self._ports.get(name, 0))

    def _wait(self, name: str) -> None:
        """Until a process of the API answers. AssertionError with its log where it does not."""
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{self._ports[name]}/health/ready"):
            is_alive = self._running[name].poll() is None and time.monotonic() < deadline
            assert is_alive, (self._folder / f"{name}.log").read_text()
            time.sleep(0.1)

    def _start_proxy(self) -> "subprocess.Popen[bytes]":
        """As `deploy/haproxy/haproxy.cfg` says, with these addresses and without TLS."""
        config = (CHECKOUT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
        config = re.sub(r"bind .*", f"bind {self.url.removeprefix('http://')}", config)
        for server, port in zip("ab", self._ports.values(), strict=True):
            config = re.sub(rf"server {server} .*", f"server {server} 127.0.0.1:{port}", config)
        path = self._folder / "haproxy.cfg"
        path.write_text(config)
        with (self._folder / "proxy.log").open("wb") as log:
            return subprocess.Popen(["haproxy", "-db", "-f", str(path)], stdout=log, stderr=log)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
