"""One child process: started under a guard, its output read line by line, ended in its own way."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from app.local import guard
from app.local.account import Account
from app.local.errors import LocalError
from app.local.forkserver import Forked

Output = Callable[[str, str], None]
"""Takes the name of a process and one line that it wrote."""


@dataclass(frozen=True)
class Program:
    """What to run, and how it wants to be ended: `grace` seconds after `stop_signal` comes SIGKILL."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stop_signal: signal.Signals = signal.SIGTERM
    grace: float = 10
    account: Account | None = None
    pass_fds: tuple[int, ...] = field(default=())
    # Where the parent that it is forked from takes requests (`app/local/forkserver.py`); none: it is started.
    forkserver: socket.socket | None = None


class Child:
    """A running program."""

    def __init__(self, program: Program, output: Output) -> None:
        self.program = program
        self.tail: deque[str] = deque(maxlen=30)
        self._output = output
        self._death_pipe = -1
        self._popen = self._start(program) if program.forkserver is None else _fork(program, program.forkserver)
        self.started = time.monotonic()
        self._reader = threading.Thread(target=self._read, name=f"output of {program.name}", daemon=True)
        try:
            self._reader.start()
        except BaseException:  # "can't start new thread", say: nobody would know of a process that is left now
            self._popen.kill()
            self._popen.wait()
            self._lines.close()
            self.release()
            raise

    @property
    def _lines(self) -> IO[str]:
        assert self._popen.stdout is not None
        return self._popen.stdout

    def _start(self, program: Program) -> "subprocess.Popen[str]":
        account = program.account
        read_end, self._death_pipe = os.pipe()
        # fmt: off
        command = [
            sys.executable, "-I", "-S", guard.__file__, str(read_end), str(int(program.stop_signal)),
            str(program.grace), f"{account.uid}:{account.gid}" if account else "-", *program.command,
        ]
        # fmt: on
        try:
            return subprocess.Popen(
                command,
                env=dict(program.env),
                cwd=program.cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(read_end, *program.pass_fds),
                start_new_session=True,
                umask=0o077,
                text=True,
                errors="replace",
            )
        except BaseException:
            self.release()
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once it has ended and all its output was read."""
        status = self._popen.wait(timeout)
        self._reader.join(5)
        return status

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def stop(self) -> None:
        """End it the way it wants, then by force; returns when it is gone."""
        self.ask_to_stop()
        self.finish()

    def ask_to_stop(self) -> None:
        self.send(self.program.stop_signal)

    def finish(self) -> None:
        """Wait for one that was asked to stop, by force in the end."""
        try:
            self.wait(self.program.grace)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.wait()
        self.release()

    def release(self) -> None:
        """Let go of a process that has ended."""
        if self._death_pipe >= 0:
            os.close(self._death_pipe)
        self._death_pipe = -1

    def _read(self) -> None:
        with self._lines as lines:
            for line in lines:
                self.tail.append(line.rstrip("\n"))
                self._output(self.program.name, line.rstrip("\n"))


def _fork(program: Program, forkserver: socket.socket) -> Forked:
    return Forked(
        forkserver, program.name, program.command, program.env, grace=program.grace, pass_fds=program.pass_fds
    )


def stop_together(children: list[Child]) -> None:
    """End several at once; returns when all are gone."""
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.finish()


def run(program: Program, output: Output, timeout: float = 300) -> None:
    """Run a program to its end; LocalError with its last lines where it fails."""
    child = Child(program, output)
    try:
        status = child.wait(timeout)
    except subprocess.TimeoutExpired:
        raise LocalError(f"{program.name} did not end within {timeout:.0f} s") from None
    finally:
        if child.status is None:
            child.stop()
        child.release()
    if status:
        raise LocalError("\n".join([f"{program.name} failed (status {status}):", *child.tail]))
