"""The warm parent of smsfleet's own processes: it imports what they all need once, and each is forked from it.

A process by itself takes seconds of a processor to import and holds some 100 MB; one that is forked starts at once and
shares what its parent imported. The parent has one thread and does nothing but fork and wait.

Run as `python -m app.local.forkserver SOCKET MODULE…`, it says `READY`. `Forked` is the other side: over the socket it
sends a request with an answering socket, the output and what the process inherits. It is answered the process's id with
a handle of it, and at the end its status. When the supervisor is gone, however it died, its end of the socket closes,
and the parent ends what it has forked; when the parent dies, the kernel ends them.
"""

import ctypes
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

READY = b"ready"  # sent when it has imported everything
START_SECONDS = 10.0
_STATUS_SECONDS = 5.0
_MAX_REQUEST = 1 << 20
_MAX_FILES = 16
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


class Forked:
    """A process forked from the warm parent; what `subprocess.Popen` is for one that is started."""

    def __init__(
        self, control: socket.socket, name: str, command: tuple[str, ...], env: Mapping[str, str], *,
        grace: float, pass_fds: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        """`command`: `python -m MODULE …`, of which the interpreter is the parent's own.

        `pass_fds` is one file at most: that whose number follows `--fd`, in the process another one.
        """
        request = json.dumps({"name": name, "arguments": command[2:], "env": dict(env), "grace": grace}).encode()
        self._lock = threading.Lock()
        self._status: int | None = None
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, errors="replace")
        try:
            with theirs:  # closed at once, or the end of who has the other copy would go unnoticed
                socket.send_fds(control, [request], [theirs.fileno(), writing, *pass_fds])
            self.pid, self._handle = self._read_start()
        except BaseException:
            self._answers.close()
            self.stdout.close()
            raise
        finally:
            os.close(writing)

    def _read_start(self) -> tuple[int, int]:
        self._answers.settimeout(START_SECONDS)
        answer, handles, _, _ = socket.recv_fds(self._answers, 64, 1)
        if not handles:
            raise OSError("the parent of smsfleet's processes ended before it forked another one")
        self._answers.settimeout(_STATUS_SECONDS)
        return int(answer), handles[0]

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self._status is None and _has_ended(self._handle, 0):
                with self._answers:
                    self._status = self._read_status()
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        if not _has_ended(self._handle, timeout):
            raise subprocess.TimeoutExpired("", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read_status(self) -> int:
        try:
            return int(self._answers.recv(64))
        except (ValueError, OSError):  # the parent is gone too, or stopped
            return -signal.SIGKILL


def _has_ended(handle: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(0, timeout) * 1000))


@dataclass
class _Request:
    name: str
    arguments: list[str]
    env: dict[str, str]
    grace: float


@dataclass
class _Child:
    pid: int
    answers: socket.socket
    grace: float


def _serve(control: socket.socket) -> list[str] | None:
    """Fork what is asked for until the supervisor is gone. Returns, with its arguments, in each process forked."""
    children: dict[int, _Child] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in children:
                poll.unregister(ready)
                _bury(ready, children.pop(ready))
                continue
            request, files, _, _ = socket.recv_fds(control, _MAX_REQUEST, _MAX_FILES)
            if not request:
                _end(children)
                return None
            asked = _Request(**json.loads(request))
            answers, output, *inherited = files
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                control.close()
                os.close(answers)
                for handle, child in children.items():
                    os.close(handle)
                    child.answers.close()
                _become(asked, parent, output, inherited)
                return asked.arguments
            for number in (output, *inherited):
                os.close(number)
            handle = os.pidfd_open(pid)
            children[handle] = child = _Child(pid, socket.socket(fileno=answers), asked.grace)
            poll.register(handle, select.POLLIN)
            try:
                socket.send_fds(child.answers, [str(pid).encode()], [handle])
            except OSError:  # nobody waits for it any more
                signal.pidfd_send_signal(handle, signal.SIGKILL)


def _become(asked: _Request, parent: int, output: int, inherited: list[int]) -> None:
    """In the process that was forked: be what `python -m` would have made of it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)
    libc.prctl(_PR_SET_NAME, asked.name.encode())
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    if inherited:  # under a number of this process
        place = asked.arguments.index("--fd") + 1
        (listener,) = inherited
        asked.arguments[place] = str(listener)
    os.environ.clear()
    os.environ.update(asked.env)
    _read_settings_again()


def _read_settings_again() -> None:
    """What was read from the environment when the modules were imported, which was another process's."""
    if settings := sys.modules.get("app.core.settings"):
        settings.get_settings.cache_clear()
    if (queue := sys.modules.get("app.core.queue")) and queue.celery_app.made:
        queue.use_broker(queue.celery_app.made, queue.get_settings().broker_dsn)


def _bury(handle: int, child: _Child) -> None:
    _, status = os.waitpid(child.pid, 0)
    os.close(handle)
    with child.answers:
        try:
            child.answers.send(str(os.waitstatus_to_exitcode(status)).encode())
        except OSError:  # the supervisor is gone
            return


def _end(children: dict[int, _Child]) -> None:
    for handle in children:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    asked = time.monotonic()
    for handle, child in children.items():
        if not _has_ended(handle, asked + child.grace - time.monotonic()):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        _bury(handle, child)


def main(control: int, modules: list[str]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when the supervisor closes its end
    for module in modules:
        import_module(module)
    gc.collect()
    gc.freeze()  # or the first collection of each process would write to, and so copy, all of it
    requests = socket.socket(fileno=control)
    requests.send(READY)
    arguments = _serve(requests)
    if arguments is not None:
        module, *sys.argv[1:] = arguments
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
