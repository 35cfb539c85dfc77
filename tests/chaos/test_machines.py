"""The machines of `make hosts`, which takes minutes and is no part of the tests."""

import os
import shutil
import socket
import subprocess
import threading
from contextlib import suppress

import pytest

from tests.chaos.faults import plan
from tests.chaos.host_faults import HOST_FAULTS
from tests.chaos.machines import Lan


def test_a_seed_is_a_plan_and_a_long_one_has_every_fault():
    blows = plan(1, 30, HOST_FAULTS)
    assert blows == plan(1, 30, HOST_FAULTS)
    assert {fault for blow in blows for fault in blow.faults} == set(HOST_FAULTS)


@pytest.fixture
def lan():
    with Lan("a", "b") as made:
        yield made


class Asker:
    """A connection between an answering machine and another one, or the outside: whether an answer comes."""

    def __init__(self, address):
        self.connection = socket.create_connection((address, 80), timeout=5)
        self.n = 0

    def ask(self):
        self.n += 1
        self.connection.sendall(b"%4d" % self.n)
        self.connection.settimeout(0.5)
        with suppress(TimeoutError):
            while int(self.connection.recv(4)) < self.n:
                pass
            return True
        return False

    def hears_again(self):
        """What was lost meanwhile is sent again by the kernel, at growing intervals."""
        return any(self.ask() for _ in range(20))


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="only root makes network namespaces")
def test_what_is_sent_to_a_machine_that_is_away_vanishes_without_a_word(lan):
    a, b = lan["a"], lan["b"]
    with b.inside():
        listener = socket.create_server((b.address, 80))
        assert socket.gethostname() == "b"
    assert socket.gethostname() != "b"

    def echo():
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        with suppress(OSError), connection:
            while heard := connection.recv(4):
                connection.sendall(heard)

    threading.Thread(target=echo, daemon=True).start()
    with listener:
        with a.inside():
            inside = Asker(b.address)
        outside = Asker(b.address)
        assert inside.ask()
        assert outside.ask()
        for machine, other in ((a, b), (b, a)):
            machine.lose(other)
            assert not inside.ask()
            assert outside.ask()
            machine.find(other)
            assert inside.hears_again()
        lan.ignore(b)
        assert not outside.ask()
        assert inside.ask()
        lan.hear(b)
        assert outside.hears_again()
        b.unplug()
        assert not inside.ask()
        assert not outside.ask()
        b.plug_in()
        assert inside.hears_again()
        assert outside.hears_again()
        inside.connection.close()
        outside.connection.close()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="only root makes network namespaces")
def test_a_machine_that_loses_its_power_has_no_process_left(lan):
    with lan["a"].inside():
        there = subprocess.Popen(["sleep", "600"])
    elsewhere = subprocess.Popen(["sleep", "600"])
    lan["a"].kill()
    assert there.wait(60) == -9
    lan["a"].wait_dead()
    assert elsewhere.poll() is None
    elsewhere.kill()
    elsewhere.wait()
