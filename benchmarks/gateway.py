"""What the benchmarks share: an installation to measure, an account on it, load from other processes, and figures."""

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import psycopg
import redis

from app.core.database import close_engines
from app.core.http_client import Client
from app.core.settings import get_settings
from app.local.installation import Installation, Shape


@dataclass(frozen=True)
class Figure:
    """One measured number: its unit, what is wanted of it, and the limit from the same run it stands beside."""

    name: str
    value: float
    unit: str
    wanted: str = ""
    beside: str = ""

    def row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "wanted": self.wanted,
            "beside": self.beside,
        }


PROGRAMS = 32

# Clients of the accounts of the installation that runs; closed with it.
_OPEN: list[Client] = []


class CheckFailedError(Exception):
    """A run did not do what it was to be timed for; its figures are worth nothing."""


def check(what: str, found: object, expected: object) -> None:
    """Raise `CheckFailedError` where a count is not what it must be."""
    if found != expected:
        raise CheckFailedError(f"{what}: {found} instead of {expected}")


# What the installations of this run were like: their processes, and how their servers were set.
SETTINGS: dict[str, str] = {}


def note_settings(database_url: str, redis_url: str, processes: str) -> None:
    """What an installation is like that is measured now."""
    with psycopg.connect(database_url) as connection:
        SETTINGS.update(
            connection.execute(
                "SELECT name, current_setting(name) FROM pg_settings"
                " WHERE source = 'command line' AND name !~ 'directories|directory|file|addresses|port'"
                " OR name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes')"
            ).fetchall()
        )
    with redis.Redis.from_url(redis_url) as client:
        for name in ("appendonly", "appendfsync"):
            SETTINGS[name] = client.config_get(name)[name]
    SETTINGS["processes"] = processes


class _Shared:
    """In a smoke run the installation that parts share, which takes longer to start than each of them to run."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._of: tuple[Shape, dict[str, Any]] | None = None
        self._running: Installation

    def get(self, shape: Shape, settings: dict[str, Any]) -> Installation:
        if self._of != (shape, settings):
            self.close()
            self._running = self._stack.enter_context(_started(shape, settings))
            self._of = (shape, settings)
        return self._running

    def close(self) -> None:
        self._of = None
        self._stack.close()


_shared: ContextVar[_Shared | None] = ContextVar("shared", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Within, `installation` gives the one before where it is of the same shape."""
    with closing(_Shared()) as shared:
        before = _shared.set(shared)
        yield
        _shared.reset(before)


@contextmanager
def installation(shape: Shape | None = None, **settings: Any) -> Iterator[Installation]:
    """A durable installation in a temporary folder, its log kept for the case that it fails."""
    shape = shape or Shape(flower=False)
    shared = _shared.get()
    with nullcontext(shared.get(shape, settings)) if shared else _started(shape, settings) as running:
        note_settings(running.database_url, running.redis_url, str(running.shape))
        yield running
        while _OPEN:
            _OPEN.pop().close()


@contextmanager
def _started(shape: Shape, settings: dict[str, Any]) -> Iterator[Installation]:
    tail: deque[str] = deque(maxlen=60)
    with tempfile.TemporaryDirectory(prefix="smsfleet-bench-") as folder:
        running = Installation(
            Path(folder) / "data",
            shape=shape,
            temporary=True,
            output=lambda name, line: tail.append(f"{name}| {line}"),
            port="0",
            **{"max_devices": "10000", "max_enrollments_per_minute": "10000", **settings},
        )
        try:
            with running:
                yield running
        except BaseException:
            print("\n".join(tail), file=sys.stderr)
            raise


@contextmanager
def inside(environment: Mapping[str, str]) -> Iterator[None]:
    """With these settings in this process too; undone at the end, or the next part would take them for its own."""
    with patch.dict(os.environ, environment):
        get_settings.cache_clear()
        close_engines()
        yield
        close_engines()
    get_settings.cache_clear()


def timed(call: Callable[[], object]) -> float:
    """The milliseconds that a call takes."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


class Running(Protocol):
    """An installation, here or in another process."""

    @property
    def url(self) -> str: ...
    @property
    def database_url(self) -> str: ...
    @property
    def broker_url(self) -> str: ...


class Account:
    """A user of the installation, with keys for programs and one for phones."""

    def __init__(self, running: Running) -> None:
        self.url = running.url
        self.database_url = running.database_url
        self.client = Client(base_url=running.url, timeout=120)
        _OPEN.append(self.client)
        password = uuid.uuid4().hex
        person = {"name": "Bench", "email": f"{uuid.uuid4().hex}@example.com"}
        made = self.call("POST", "/api/register", {**person, "password": password, "password_confirmation": password})
        self.user_id = made["user"]["id"]
        self.client.headers["Authorization"] = f"Bearer {made['token']}"
        self.tokens: list[str] = [
            self.call("POST", "/api/tokens", {"name": f"program {number}"})["token"] for number in range(PROGRAMS)
        ]
        self.token = self.tokens[0]
        self.phone_token: str = self.call("POST", "/api/tokens", {"name": "phones", "abilities": ["phone:enroll"]})[
            "token"
        ]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer."""
        answer = self.client.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()["data"]

    def enroll(self, name: str = "bench/phone") -> str:
        """A phone that only exists: the token of its device."""
        headers = {"Authorization": f"Bearer {self.phone_token}"}
        answer = self.client.post("/api/mobile/v1/device", json={"name": name, "simCards": []}, headers=headers)
        answer.raise_for_status()
        token: str = answer.json()["token"]
        return token

    def count(self, condition: str = "true") -> int:
        """How many of the user's messages are stored."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(
                f"SELECT count(*) FROM messages WHERE user_id = %s AND {condition}",
                [self.user_id],
            ).fetchone()
        return row[0] if row else 0


@dataclass(frozen=True)
class Load:
    """What a load generator saw; of each call when it was due and how many milliseconds its answer took."""

    statuses: dict[str, int]
    seconds: float
    calls: list[tuple[float, float]]

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds

    def due_between(self, start: float, end: float) -> list[float]:
        """The latencies, sorted, of the calls that were due then, by `time.perf_counter()`."""
        return sorted(latency for due, latency in self.calls if start <= due <= end)


def percentile(ordered: list[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


SINGLE = '{"message": "Your code is 123456", "recipient_number": "+99890NUMBER", "device_id": "active"}'


def start_load(
    url: str,
    tokens: list[str],
    requests: int,
    *,
    body: str = SINGLE,
    connections: int = 32,
    every: float = 0.0,
    keyed: bool = False,
    sign: str = "",
) -> subprocess.Popen[str]:
    """Begin to send single messages, or what `body` says, from another process."""
    command = [sys.executable, "-m", "benchmarks.load", url, "--body", body, "--tokens", *tokens]
    command += ["--requests", str(requests), "--connections", str(connections), "--every", str(every), "--sign", sign]
    return subprocess.Popen(command + ["--keyed"] * keyed, stdout=subprocess.PIPE, text=True)


def finish_load(process: subprocess.Popen[str]) -> Load:
    """What came of it. Raises where the generator failed, or did not end within ten minutes."""
    output, _ = process.communicate(timeout=600)
    if process.returncode:
        raise CheckFailedError(f"the load generator ended with {process.returncode}")
    return Load(**json.loads(output))


def load(url: str, tokens: list[str], requests: int, **options: Any) -> Load:
    return finish_load(start_load(url, tokens, requests, **options))
