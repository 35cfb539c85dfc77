"""Everything that can break, each with what begins it and, where it lasts, what ends it."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import redis

from tests.chaos.installation import LINKS
from tests.chaos.network import Mode

if TYPE_CHECKING:
    from tests.chaos.run import Run

End = Callable[[], None]
KINDS = ("api", "worker-dispatch", "worker-webhooks", "worker-upkeep", "beat")


class Fault(NamedTuple):
    """`begin` breaks something and answers how it is mended, None where it mends itself.

    It lasts for a time drawn from `seconds`. `area`: of two faults of one area only one is under way.
    """

    name: str
    area: str
    begin: Callable[["Run", Random], End | None]
    seconds: tuple[float, float] = (0.0, 0.0)


def _kill(kind: str, run: "Run", random: Random) -> None:
    run.installation.kill(random.choice(run.installation.of_kind(kind)))


def _freeze(kind: str, run: "Run", random: Random) -> End:
    """A process that is there, has its connections and does nothing, as on a machine that swaps."""
    installation, name = run.installation, random.choice(run.installation.of_kind(kind))
    installation.signal(name, signal.SIGSTOP)
    return partial(installation.signal, name, signal.SIGCONT)


def _flush(run: "Run", _: Random) -> None:
    with run.installation.broker() as broker:
        broker.flushall()


def _fill_broker(run: "Run", _: Random) -> End:
    installation = run.installation

    def limit(most: str) -> None:
        with contextlib.suppress(redis.RedisError), installation.broker() as broker:
            broker.config_set("maxmemory", most)

    limit("1")
    return partial(limit, "0")


def _kill_backend(run: "Run", random: Random) -> None:
    if found := run.installation.backends():
        run.installation.kill_backend(random.choice(found))


def _terminate_backends(run: "Run", random: Random) -> None:
    found = run.installation.backends()
    run.installation.terminate(random.sample(found, len(found) // 2))


def _open_transaction(run: "Run", _: Random) -> End:
    return run.installation.open_transaction()


def _drop(link: str, run: "Run", _: Random) -> None:
    run.network.drop(link)


def _switch(link: str, mode: Mode, run: "Run", random: Random) -> End:
    run.network.switch(link, mode, delay=random.uniform(0.02, 0.2))
    return partial(run.network.switch, link, "open")


def _crash(run: "Run", _: Random) -> None:
    run.restart_everything()


def _fill_disk(run: "Run", _: Random) -> End:
    return run.disk.fill()


def _phones_disconnect(run: "Run", _: Random) -> None:
    for fleet in run.fleets:
        for phone in fleet.phones:
            fleet.do(phone.disconnect)


def _phones_restart(run: "Run", random: Random) -> None:
    for fleet in run.fleets:
        for phone in random.sample(fleet.phones, len(fleet.phones) // 2):
            if not phone.dead:
                fleet.do(phone.restart)


def _phone_dies(run: "Run", random: Random) -> End | None:
    """It becomes slow, so that it has something in its hands, and is never seen again. Never the last of an account."""
    fleet = random.choice(run.fleets)
    alive = [phone for phone in fleet.phones if not phone.dead and phone.device_id not in run.removed]
    if len(alive) <= 2:
        return None
    phone = random.choice(alive)
    phone.behaviour = replace(phone.behaviour, send_time=5.0)
    return partial(fleet.do, phone.die)


def _owner_switches(run: "Run", random: Random) -> End | None:
    user = random.choice(run.users)
    device = random.choice(user.devices())
    path = f"/api/devices/{device['id']}"
    if user.request("PATCH", path, {"is_active": False}) is None:
        return None

    def switch_on() -> None:
        user.request("PATCH", path, {"is_active": True})

    return switch_on


def _owner_removes(run: "Run", random: Random) -> None:
    place = random.randrange(len(run.users))
    fleet, user = run.fleets[place], run.users[place]
    alive = [phone for phone in fleet.phones if not phone.dead and phone.device_id not in run.removed]
    if len(alive) > 2:
        name = random.choice(alive).device_id
        run.removed.add(name)
        user.request("DELETE", f"/api/devices/{name}")


def _receivers(how: str, run: "Run", _: Random) -> End:
    run.receivers.mood = how
    return partial(setattr, run.receivers, "mood", "well")


def _faults() -> Iterator[Fault]:
    for kind in KINDS:
        yield Fault(f"kill {kind}", kind, partial(_kill, kind))
        yield Fault(f"freeze {kind}", kind, partial(_freeze, kind), (4.0, 15.0))
    yield Fault("kill broker", "broker", partial(_kill, "valkey"))
    yield Fault("empty broker", "broker", _flush)
    yield Fault("full broker", "broker", _fill_broker, (4.0, 10.0))
    yield Fault("freeze broker", "broker", partial(_freeze, "valkey"), (4.0, 10.0))
    yield Fault("kill database", "database", partial(_kill, "postgres"))
    yield Fault("kill one backend", "database", _kill_backend)
    yield Fault("terminate half of the backends", "database", _terminate_backends)
    yield Fault("a transaction stays open", "queue", _open_transaction, (10.0, 20.0))
    for link in LINKS:
        yield Fault(f"{link}: connections dropped", link, partial(_drop, link))
        yield Fault(f"{link}: cut", link, partial(_switch, link, "cut"), (3.0, 8.0))
        yield Fault(f"{link}: slow", link, partial(_switch, link, "slow"), (4.0, 8.0))
        yield Fault(f"{link}: half open", link, partial(_switch, link, "silent"), (4.0, 12.0))
    yield Fault("kill everything", "all", _crash)
    yield Fault("disk full", "database", _fill_disk, (3.0, 6.0))
    yield Fault("phones lose their streams", "phones", _phones_disconnect)
    yield Fault("phones restart", "phones", _phones_restart)
    yield Fault("a phone dies", "phones", _phone_dies, (2.0, 5.0))
    yield Fault("owner switches a phone off", "users - api", _owner_switches, (3.0, 8.0))
    yield Fault("owner removes a phone", "users - api", _owner_removes)
    yield Fault("receivers hang", "receivers", partial(_receivers, "hang"), (3.0, 8.0))
    yield Fault("receivers fail", "receivers", partial(_receivers, "fail"), (3.0, 8.0))


FAULTS = list(_faults())


class Blow(NamedTuple):
    """Faults that begin together, and what their choices are drawn from."""

    faults: Sequence[Fault]
    seconds: float
    seed: int


def plan(seed: int, count: int, usable: Sequence[Fault]) -> list[Blow]:
    """All these faults in an order of the seed's, then again; each fourth blow is of two at once."""
    random = Random(seed)
    blows: list[Blow] = []
    bag: list[Fault] = []
    while len(blows) < count:
        if len(bag) < 2:
            fresh = random.sample(usable, len(usable))
            bag = fresh + bag
        chosen = [bag.pop()]
        if (
            random.random() < 0.25
            and bag
            and bag[-1].area != chosen[0].area
            and "all" not in {bag[-1].area, chosen[0].area}
        ):
            chosen.append(bag.pop())
        seconds = max(random.uniform(*fault.seconds) for fault in chosen)
        blows.append(Blow(chosen, seconds, random.getrandbits(32)))
    return blows
