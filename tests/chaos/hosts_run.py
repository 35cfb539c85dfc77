"""A run on six machines: the same users, phones, receivers and judge, with other things that break."""

import contextlib
from pathlib import Path

from tests.chaos.faults import Blow, Fault
from tests.chaos.host_faults import HOST_FAULTS
from tests.chaos.hosts import MACHINES, Hosts
from tests.chaos.machines import Lan
from tests.chaos.receivers import Receivers
from tests.chaos.run import Places, Run

# Between blows: what each costs is to be seen.
GAP = (10.0, 15.0)


class HostsRun(Run):
    """Users, phones and receivers are outside of the machines, in the same network."""

    title = "six machines"
    lan: Lan
    hosts: Hosts

    def _open(self, stack: contextlib.ExitStack, folder: Path) -> Places:
        self.lan = stack.enter_context(Lan(*MACHINES))
        self.receivers = stack.enter_context(Receivers(self.options.seed, self.lan.address))
        self.hosts = Hosts(folder, self.lan, lambda name, line: self.tail.append(f"{name}| {line}"))
        stack.callback(self._end)
        self.hosts.start()
        return Places(self.hosts.url, self.hosts.url, f"http://{self.lan.address}:{self.receivers.port}")

    @property
    def database_url(self) -> str:
        return self.hosts.database_url

    @property
    def faults(self) -> list[Fault]:
        return HOST_FAULTS

    def _end(self) -> None:
        self.hosts.stop()
        self.hosts.remove()

    def _blow(self, blow: Blow) -> None:
        if any(fault.area == "database" for fault in blow.faults):
            self.hosts.wait_redundant()  # an administrator would have a standby before anything else
        super()._blow(blow)
