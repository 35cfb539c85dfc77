"""Machines of their own, as network namespaces on one bridge, each of which can be unplugged, cut off and killed.

Nobody asks for addresses (every neighbour is known for good), so that a packet for a machine that is away vanishes
without a word, as behind a router; with address resolution a sender would soon be told that the host is unreachable.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Self

_NEW_NETWORK, _NEW_NAMES = 0x40000000, 0x04000000
_NOWHERE = "02:00:00:ff:ff:ff"
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """One machine; `inside` starts things on it."""

    def __init__(self, lan: "Lan", name: str, number: int) -> None:
        self.name = name
        self.address = f"{lan.network}.{number}"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self._lan = lan
        self._namespace = f"{lan.name}-{name}"
        self._cable = f"{lan.name}{number}"

    def make(self) -> None:
        _ip("netns", "add", self._namespace)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._namespace)
        _ip("link", "set", self._cable, "master", self._lan.name, "up")
        self._ip("link", "set", "eth0", "address", self.mac)
        self._ip("addr", "add", f"{self.address}/24", "dev", "eth0")
        self._ip("link", "set", "eth0", "up")
        self._ip("link", "set", "lo", "up")

    def remove(self) -> None:
        _ip("netns", "del", self._namespace, check=False)
        _ip("link", "del", self._cable, check=False)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """What this thread opens and starts meanwhile, threads too, belongs to the machine."""
        with open("/proc/thread-self/ns/net") as network, open("/proc/thread-self/ns/uts") as names:  # noqa: PTH123
            with open(f"/run/netns/{self._namespace}") as target:  # noqa: PTH123
                _check(_libc.setns(target.fileno(), _NEW_NETWORK))
            try:
                _check(_libc.unshare(_NEW_NAMES))
                socket.sethostname(self.name)
                yield
            finally:
                _check(_libc.setns(network.fileno(), _NEW_NETWORK))
                _check(_libc.setns(names.fileno(), _NEW_NAMES))

    def unplug(self) -> None:
        """Nothing comes, nothing goes, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def plug_in(self) -> None:
        _ip("link", "set", self._cable, "up")

    def knows(self, address: str, mac: str) -> None:
        self._ip("neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")

    def lose(self, *others: "Machine") -> None:
        """What is sent to the others from here vanishes from now on; not what they send."""
        for other in others:
            self.knows(other.address, _NOWHERE)

    def find(self, *others: "Machine") -> None:
        for other in others:
            self.knows(other.address, other.mac)

    def kill(self) -> None:
        """As when it loses its power: unplugged first, so that no word of what dies gets out."""
        self.unplug()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        return [int(pid) for pid in _ip("netns", "pids", self._namespace).split()]

    def wait_dead(self) -> None:
        deadline = time.monotonic() + 30
        while self.pids():
            assert time.monotonic() < deadline, f"processes of {self.name} are left"
            time.sleep(0.05)

    def _ip(self, *command: str) -> None:
        _ip("-n", self._namespace, *command)


class Lan:
    """A bridge, at whose address whoever is outside is found, with its machines. A context manager."""

    def __init__(self, *names: str) -> None:
        number = os.getpid()
        self.name = f"sms{number % 1_000_000}"
        self.network = f"10.77.{number % 250}"
        self.address = f"{self.network}.1"
        self.mac = "02:00:00:00:00:01"
        self.machines = {name: Machine(self, name, place) for place, name in enumerate(names, 11)}

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def __enter__(self) -> Self:
        try:
            _ip("link", "add", self.name, "type", "bridge")
            _ip("link", "set", self.name, "address", self.mac)
            _ip("addr", "add", f"{self.address}/24", "dev", self.name)
            _ip("link", "set", self.name, "up")
            for machine in self.machines.values():
                machine.make()
                machine.knows(self.address, self.mac)
                self.hear(machine)
            for machine in self.machines.values():
                machine.find(*self.others(machine))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines.values():
            machine.remove()
        _ip("link", "del", self.name, check=False)

    def others(self, machine: Machine) -> list[Machine]:
        return [other for other in self.machines.values() if other is not machine]

    def ignore(self, machine: Machine) -> None:
        """What is sent to the machine from outside vanishes."""
        self._knows(machine, _NOWHERE)

    def hear(self, machine: Machine) -> None:
        self._knows(machine, machine.mac)

    def _knows(self, machine: Machine, mac: str) -> None:
        _ip("neigh", "replace", machine.address, "lladdr", mac, "dev", self.name, "nud", "permanent")


def _ip(*command: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *command], check=False, capture_output=True, text=True)
    if check and done.returncode:
        raise OSError(f"ip {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
