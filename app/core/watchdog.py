"""Ends a process that stands still, so that whoever started it (`up`, Docker, systemd) starts it again.

A process that is stopped, or whose threads wait for each other, keeps its connections and what it has taken, and nobody
notices. `start` leaves a fork behind that waits for signs of life: it ends the process when it was stopped for
seconds, or gave no sign for longer than anything it does can take. The fork counts only the time in which it was
itself running, so that a machine that sleeps, or is very busy, is not taken for a process that stands still.
"""

import contextlib
import gc
import json
import os
import select
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

STOPPED_SECONDS = 5.0
SILENT_SECONDS = 30.0
_LOOK_SECONDS = 0.5
# Between two looks of a fork that was itself held up no more than this is counted.
_MAX_COUNTED_SECONDS = 1.0


class _Signs:
    """The end of the pipe that this process writes to."""

    pipe: int | None = None


def start() -> None:
    """Have this process watched from now on: `alive` has to follow, again and again. There may be no threads yet."""
    program = os.pidfd_open(os.getpid())
    reading, writing = os.pipe()
    pid = os.getpid()
    if os.fork() == 0:
        with contextlib.suppress(BaseException):
            _prepare(reading, program)
            _watch(pid, reading, program)
        os._exit(0)
    os.close(program)
    os.close(reading)
    os.set_blocking(writing, False)
    _Signs.pipe = writing


def alive() -> None:
    """A sign of life; cheap, and of no consequence where nobody watches."""
    if _Signs.pipe is not None:
        with contextlib.suppress(OSError):  # the watchdog is gone, or does not read
            os.write(_Signs.pipe, b".")


def _prepare(reading: int, program: int) -> None:
    gc.disable()  # it would write to every page that is shared with the process
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # it ends with the process
    keep = sorted((2, reading, program))
    for first, last in zip([0, *(one + 1 for one in keep)], [*keep, os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(first, last)


def _watch(pid: int, reading: int, program: int) -> None:
    silent = stopped = 0.0
    before = time.monotonic()
    while True:
        ready, _, _ = select.select([reading, program], [], [], _LOOK_SECONDS)
        if program in ready:
            return
        passed, before = min(time.monotonic() - before, _MAX_COUNTED_SECONDS), time.monotonic()
        silent = 0.0 if reading in ready and os.read(reading, 4096) else silent + passed
        stopped = stopped + passed if _is_stopped(pid) else 0.0
        if stopped >= STOPPED_SECONDS or silent >= SILENT_SECONDS:
            _tell(pid, "was stopped" if stopped >= STOPPED_SECONDS else "gave no sign of life")
            signal.pidfd_send_signal(program, signal.SIGKILL)
            return


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _tell(pid: int, what: str) -> None:
    line = {
        "event": f"a process that {what} is ended, to be started again",
        "process": pid,
        "level": "error",
        "logger": __name__,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
