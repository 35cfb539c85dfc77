"""Processes that are forked from a warm parent behave as those that are started."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.local.forkserver import READY, Forked
from app.local.process import Child, Program
from tests.support.waiting import until

CHILD = """
import os, signal, socket, sys, time
print(sys.argv[1:], os.environ.get("MARK"), "ready", flush=True)
if "--fd" in sys.argv:
    listener = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
    listener.accept()[0].sendall(b"hello")
if sys.argv[1] == "exit":
    sys.exit(int(sys.argv[2]))
if sys.argv[1] == "stay":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[socket.socket, subprocess.Popen]]:
    (tmp_path / "a_child.py").write_text(CHILD)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "app.local.forkserver", str(theirs.fileno()), "json"]
    env = {**os.environ, "PYTHONPATH": f"{Path.cwd()}:{tmp_path}"}
    process = subprocess.Popen(command, env=env, pass_fds=[theirs.fileno()])
    theirs.close()
    assert ours.recv(16) == READY
    yield ours, process
    ours.close()
    assert process.wait(60) in {0, -signal.SIGKILL}


@pytest.fixture
def start(parent, tmp_path: Path) -> Callable[..., Child]:
    control, _ = parent

    def start(*arguments: str, grace: float = 10, pass_fds: tuple[int, ...] = ()) -> Child:
        command = (sys.executable, "-m", "a_child", *arguments)
        env = {**os.environ, "MARK": "marked"}
        program = Program("a-child", command, env, tmp_path, grace=grace, pass_fds=pass_fds, forkserver=control)
        return Child(program, lambda _name, _line: None)

    return start


def said(child: Child) -> str:
    return until(lambda: " ".join(child.tail))


def test_its_output_environment_and_status_are_its_own(start) -> None:
    child = start("exit", "7")
    assert child.wait(60) == 7
    assert said(child) == "['exit', '7'] marked ready"
    assert "MARK" not in os.environ


def test_it_is_ended_and_by_force_where_it_stays(start) -> None:
    gone, stays = start("sleep"), start("stay", grace=0.2)
    assert said(gone)
    assert said(stays)
    assert Path(f"/proc/{gone.pid}/comm").read_text() == "a-child\n"
    for child in (gone, stays):
        assert child.status is None
        child.stop()
    assert (gone.status, stays.status) == (-signal.SIGTERM, -signal.SIGKILL)


def test_it_inherits_a_listener_and_its_parent_keeps_none(start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = start("exit", "0", "--fd", str(listener.fileno()), pass_fds=(listener.fileno(),))
        address = listener.getsockname()
    with socket.create_connection(address, 20) as connection:
        assert connection.recv(5) == b"hello"
    assert child.wait(60) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 20)


def test_all_end_with_the_supervisor(start, parent) -> None:
    control, process = parent
    gone, stays = start("sleep"), start("stay", grace=0.2)
    assert said(gone)
    assert said(stays)
    control.close()
    assert process.wait(60) == 0
    assert gone.wait(60) == -signal.SIGTERM
    assert stays.wait(60) == -signal.SIGKILL


def test_all_end_with_their_parent(start, parent) -> None:
    child = start("stay")
    assert said(child)
    parent[1].kill()
    assert child.wait(60) == -signal.SIGKILL


def test_a_parent_that_is_gone_is_named(parent) -> None:
    control, process = parent
    process.kill()
    process.wait()
    with pytest.raises(OSError):
        Forked(control, "a-child", (sys.executable, "-m", "a_child"), {}, grace=1)
