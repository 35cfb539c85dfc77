"""Ends a process that stands still, so that whoever started it (`up`, Docker, systemd) starts it again.

A process that is stopped, or whose threads wait for each other, keeps its connections and what it has taken, and nobody
notices. `start` leaves a program behind, this file, that waits for signs of life: it ends the process when it was
stopped for seconds, or gave no sign for longer than anything it does can take. It counts only the time in which it
was itself running, so that a machine that sleeps, or is very busy, is not taken for a process that stands still. It is
a program and no fork, which would hold on to every page that the process writes to later; it imports next to nothing.
"""

import os
import select
import signal
import sys
import time
from contextlib import suppress

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
    command = [sys.executable, "-S", "-P", __file__, str(os.getpid()), str(reading), str(program)]
    if os.fork() == 0:
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)  # it ends with the process
            for inherited in (reading, program):
                os.set_inheritable(inherited, True)  # noqa: FBT003 - takes no keyword
            os.execv(sys.executable, command)  # noqa: S606 - no shell is wanted
        finally:
            os._exit(1)
    os.close(program)
    os.close(reading)
    os.set_blocking(writing, False)
    _Signs.pipe = writing


def alive() -> None:
    """A sign of life; cheap, and of no consequence where nobody watches."""
    if _Signs.pipe is not None:
        with suppress(OSError):  # the watchdog is gone, or does not read
            os.write(_Signs.pipe, b".")


def _let_go_of_all_but(*kept: int) -> None:
    """Close what the process had opened for those it starts."""
    keep = sorted(kept)
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
    with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - see above
        return stat.read().rpartition(")")[2].split()[0] == "T"


def _tell(pid: int, what: str) -> None:
    """A line as `logs` writes them."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = f'{{"event": "a process that {what} is ended, to be started again", "process_id": {pid}'
    sys.stderr.write(f'{line}, "level": "error", "logger": "app.core.watchdog", "timestamp": "{now}"}}\n')
    sys.stderr.flush()


if __name__ == "__main__":
    watched, signs, handle = (int(given) for given in sys.argv[1:4])
    _let_go_of_all_but(2, signs, handle)
    with suppress(OSError):  # the process has ended meanwhile
        _watch(watched, signs, handle)
