"""What can break where smsfleet runs on several machines: they lose their power, or the network between them fails."""

import time
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.faults import FAULTS, End, Fault
from tests.chaos.hosts import APPLICATIONS, DATABASES

if TYPE_CHECKING:
    from tests.chaos.hosts_run import HostsRun

# Until an administrator, or a program in his place, has decided that the primary is gone.
DECIDED_SECONDS = (3.0, 8.0)
_OUTSIDE = {"phones", "receivers", "users - api"}


def _application_cut_off(run: "HostsRun", random: Random) -> End:
    machine = run.lan[random.choice(APPLICATIONS)]
    machine.unplug()
    return machine.plug_in


def _application_deaf(run: "HostsRun", random: Random) -> End:
    """What it sends arrives; what is sent to it does not."""
    machine = run.lan[random.choice(APPLICATIONS)]
    others = run.lan.others(machine)
    run.lan.ignore(machine)
    for other in others:
        other.lose(machine)

    def hear() -> None:
        run.lan.hear(machine)
        for other in others:
            other.find(machine)

    return hear


def _application_killed(run: "HostsRun", random: Random) -> End:
    name = random.choice(APPLICATIONS)
    run.hosts.kill(name)
    return partial(run.hosts.boot, name)


def _application_apart(others: tuple[str, ...], run: "HostsRun", random: Random) -> End:
    """It no longer reaches some of the others, though the proxy and they reach each other."""
    machine, away = run.lan[random.choice(APPLICATIONS)], [run.lan[name] for name in others]
    machine.lose(*away)
    for other in away:
        other.lose(machine)

    def meet() -> None:
        machine.find(*away)
        for other in away:
            other.find(machine)

    return meet


def _primary_killed(run: "HostsRun", _: Random) -> End:
    run.hosts.primary.die()
    return run.hosts.fail_over


def _primary_cut_off(run: "HostsRun", _: Random) -> End:
    """It lives, and is fenced before it is plugged in again."""
    old = run.hosts.primary
    old.machine.unplug()

    def fail_over() -> None:
        old.die()
        run.hosts.fail_over()

    return fail_over


def _primary_returns(run: "HostsRun", random: Random) -> End:
    """The mistake: a standby has been promoted, and the old primary comes back as one, for a while."""
    old = run.hosts.primary
    old.machine.unplug()
    time.sleep(random.uniform(*DECIDED_SECONDS))
    run.hosts.promote()
    old.machine.plug_in()

    def fence() -> None:
        old.die()
        run.hosts.repair()

    return fence


def _primary_alone(run: "HostsRun", _: Random) -> End:
    """It no longer reaches its standby: no commit is confirmed until it does."""
    primary, standby = run.hosts.primary.machine, run.hosts.standby.machine
    primary.lose(standby)
    standby.lose(primary)

    def meet() -> None:
        primary.find(standby)
        standby.find(primary)

    return meet


def _standby_killed(run: "HostsRun", _: Random) -> End:
    """No commit is confirmed until an administrator decides to go on without."""
    run.hosts.standby.die()

    def go_on() -> None:
        run.hosts.primary.set_standbys("")
        run.hosts.repair()

    return go_on


def _valkey_cut_off(run: "HostsRun", _: Random) -> End:
    machine = run.hosts.valkey.machine
    machine.unplug()
    return machine.plug_in


def _valkey_killed(run: "HostsRun", _: Random) -> End:
    valkey = run.hosts.valkey
    valkey.die()

    def boot() -> None:
        valkey.machine.plug_in()
        valkey.start()

    return boot


def _proxy_killed(run: "HostsRun", _: Random) -> End:
    run.hosts.kill_proxy()
    return run.hosts.start_proxy


def _host_faults() -> Iterator[Fault]:
    yield Fault("application host: cut off", "application", _application_cut_off, (4.0, 40.0))
    yield Fault("application host: hears nothing", "application", _application_deaf, (4.0, 25.0))
    yield Fault("application host: killed, and booted", "application", _application_killed, (2.0, 10.0))
    apart = partial(_application_apart, DATABASES)
    yield Fault("application host: cut from the databases", "application", apart, (4.0, 40.0))
    yield Fault(
        "application host: cut from Valkey", "application", partial(_application_apart, ("valkey",)), (4.0, 25.0)
    )
    yield Fault("database: primary killed, standby promoted", "database", _primary_killed, DECIDED_SECONDS)
    yield Fault("database: primary cut off and fenced, standby promoted", "database", _primary_cut_off, DECIDED_SECONDS)
    yield Fault("database: standby promoted, primary comes back", "database", _primary_returns, (4.0, 12.0))
    yield Fault("database: primary cut from its standby", "database", _primary_alone, (4.0, 12.0))
    yield Fault("database: standby killed", "database", _standby_killed, DECIDED_SECONDS)
    yield Fault("Valkey's host: cut off", "broker", _valkey_cut_off, (4.0, 40.0))
    yield Fault("Valkey's host: killed, and booted", "broker", _valkey_killed, (2.0, 10.0))
    yield Fault("proxy: killed, and started again", "proxy", _proxy_killed, (0.5, 1.0))
    yield from (fault for fault in FAULTS if fault.area in _OUTSIDE and "-" not in fault.name)


HOST_FAULTS = list(_host_faults())
