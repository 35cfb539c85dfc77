"""What an installation of each size holds in memory, idle and after 100,000 messages, and how fast it is.

Everything is counted that `smsfleet up` starts, itself, guards and watchdogs too, by what the kernel says that each
process holds: what it has alone, and its share of what it has with others (PSS), so that nothing counts twice.
PostgreSQL's cache is included.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.local.folder import find_running
from benchmarks.campaign import campaign
from benchmarks.gateway import CheckFailedError, Figure, note_settings

WANTED = {"small": (350, 500), "default": (500, None)}
_PR_SET_CHILD_SUBREAPER = 36


def run(*, smoke: bool = False) -> list[Figure]:
    if smoke:
        return _measure("small", 200, 1.0)[0]
    figures, rates = [], {}
    for size in WANTED:
        rows, rates[size] = _measure(size, 100_000, 30.0)
        figures += rows
    return [*figures, Figure("throughput of small", rates["small"] / rates["default"], "times default", "≥ 0.5")]


def _measure(size: str, messages: int, rest: float) -> tuple[list[Figure], float]:
    with _up(size) as running:
        time.sleep(rest)
        before, worked = held(), busy()
        time.sleep(rest)
        share = (busy() - worked) / rest
        rate, _ = campaign(running, messages, "array")
        time.sleep(rest)
        after = held()
    idle, most = WANTED[size]
    wanted = f"≤ {most} MB" if most else ""
    return [
        Figure(f"memory, {size}, idle", sum(before.values()), "MB", f"≤ {idle} MB", _told(before)),
        Figure(f"memory, {size}, after {messages:,} messages", sum(after.values()), "MB", wanted, _told(after)),
        Figure(f"processor, {size}, idle", share * 100, "% of a core"),
        Figure(f"campaign of {messages:,}, {size}", rate, "messages/s"),
    ], rate


def _told(held: dict[str, float]) -> str:
    return ", ".join(f"{name} {held[name]:.0f}" for name in sorted(held, key=lambda name: -held[name]))


@dataclass(frozen=True)
class _Elsewhere:
    url: str
    database_url: str
    broker_url: str


@contextmanager
def _up(size: str) -> Iterator[_Elsewhere]:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the guards of processes let go of their parents
    settings = {"SIZE": size, "PORT": "0", "FLOWER_PORT": "0", "MAX_DEVICES": "10000", "METRICS_PORT": ""}
    settings |= {"MAX_ENROLLMENTS_PER_MINUTE": "10000"}
    with tempfile.TemporaryDirectory(prefix="smsfleet-bench-") as folder:
        data = Path(folder) / "data"
        env = {**os.environ, **{f"SMSFLEET_{name}": value for name, value in settings.items()}}
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.up", str(data)], env=env, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout
            if not any(line == "ready\n" for line in process.stdout):
                raise CheckFailedError("it did not start")
            found = find_running(data)
            assert found
            note_settings(found.database_url, found.redis_url, size)
            yield _Elsewhere(found.url, found.database_url, found.redis_url)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def held() -> dict[str, float]:
    """Megabytes by kind of process, of everything that descends from this one."""
    found: dict[str, float] = defaultdict(float)
    for process in psutil.Process().children(recursive=True):
        try:
            found[_kind(process)] += process.memory_full_info().pss / 2**20
        except psutil.NoSuchProcess:  # an autovacuum worker that has just ended
            continue
    return dict(found)


def busy() -> float:
    """Seconds of a processor that everything that descends from this one has taken and is still there."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def _kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    if re.search(r"guard\.py|watchdog\.py", command):
        return "guards"
    if "benchmarks.up" in command:
        return "supervisor"
    name = Path(f"/proc/{process.pid}/comm").read_text().strip()
    return "forkserver" if name.startswith("python") else name


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
