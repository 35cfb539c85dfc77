"""One run: an installation, users, phones and receivers outside of it, and everything that breaks, from one seed."""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, ClassVar, NamedTuple

import psycopg

from app.local.home import open_home
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from tests.chaos.faults import FAULTS, Blow, End, Fault, plan
from tests.chaos.installation import LINKS, Breakable
from tests.chaos.network import Network
from tests.chaos.receivers import Receivers
from tests.chaos.users import User
from tests.support.waiting import until

WARM_SECONDS, TAIL_SECONDS = 5.0, 8.0
SINGLE_EVERY = 0.4
SCHEDULED_EACH = 5
BULK = 60
# Of all messages those of campaigns; half of them are of one that is cancelled on its way.
OF_CAMPAIGNS = 0.3
# A message of a dead phone that nothing has moved for so long is with that phone for good.
STUCK_SECONDS = 45.0
SETTLE_SECONDS = 240.0


_BALLAST = bytes(8 << 20)


@dataclass(frozen=True)
class Options:
    seed: int
    messages: int = 3000
    blows: int = 12
    users: int = 2
    phones: int = 5
    gap: tuple[float, float] = (1.0, 4.0)
    only: str = ""  # a word in the names of the faults


def short(seed: int) -> Options:
    """A run of a minute or so."""
    return Options(seed, messages=500, blows=6, phones=4, gap=(0.5, 1.5))


@dataclass
class Event:
    """A blow: when it came and when it was mended, by the run's clock."""

    name: str
    began: float
    ended: float = 0.0


class Places(NamedTuple):
    """Where users and phones find the gateway, and its workers the receivers."""

    users: str
    phones: str
    receivers: str


class Disk:
    """The small disk of the database; none where mounting is not allowed."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self._home = open_home(folder, "postgres", temporary=True).folder
        self.ok = os.geteuid() == 0 and self._mount(megabytes)

    def _mount(self, megabytes: int) -> bool:
        options = f"size={megabytes}m,mode=0710"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._home)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def fill(self) -> End:
        """Leave no room; the end gives it back."""
        ballast = self._home / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(_BALLAST)
        return lambda: ballast.unlink(missing_ok=True)

    def remove(self) -> None:
        if self.ok:
            subprocess.run(["umount", str(self._home)], check=False)


@dataclass
class Run:
    """Does it all; what is left to judge are `users`, `fleets`, `receivers` and `events`."""

    title: ClassVar[str] = "one machine"

    options: Options
    say: Callable[[str], None]
    events: list[Event] = field(default_factory=list)
    users: list[User] = field(default_factory=list)
    fleets: list[FleetThread] = field(default_factory=list)
    removed: set[str] = field(default_factory=set)
    inbound: dict[str, int] = field(default_factory=dict)  # texts that the gateway took, and whose they are
    marked: int = 0
    seconds: float = 0.0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=400))

    network: Network = field(init=False)
    receivers: Receivers = field(init=False)
    installation: Breakable = field(init=False)
    disk: Disk = field(init=False)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything is up; at the end everything is gone."""
        self.random = Random(self.options.seed)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smsfleet-chaos-"))) / "data"
            folder.mkdir(mode=0o700)
            places = self._open(stack, folder)
            self.began = time.monotonic()
            self.users = [
                User(place, places.users, places.receivers, self.began) for place in range(self.options.users)
            ]
            for user in self.users:
                fleet = FleetThread(
                    places.phones,
                    user.enrolling_key,
                    count=self.options.phones,
                    behaviour=self._behaviour,
                    name=f"chaos/{user.index}",
                )
                self.fleets.append(stack.enter_context(fleet))
            yield

    def _open(self, stack: contextlib.ExitStack, folder: Path) -> Places:
        """Start what is inside, and say where it is found."""
        self.network = stack.enter_context(Network(*LINKS))
        self.receivers = stack.enter_context(Receivers(self.options.seed))
        self.network["workers - receivers"].target = ("127.0.0.1", self.receivers.port)
        self.disk = Disk(folder, 1500)
        stack.callback(self.disk.remove)
        self._start(folder)
        stack.callback(self._end)
        return Places(
            *(
                f"http://127.0.0.1:{self.network[link].port}"
                for link in ("users - api", "phones - api", "workers - receivers")
            )
        )

    @property
    def database_url(self) -> str:
        return self.installation.database_url

    @property
    def faults(self) -> list[Fault]:
        """What may break."""
        return [fault for fault in FAULTS if self.disk.ok or fault.name != "disk full"]

    def _start(self, folder: Path) -> None:
        self._folder = folder
        self.installation = Breakable(
            folder,
            self.network,
            lambda name, line: self.tail.append(f"{name}| {line}"),
            max_enrollments_per_minute="1000",
        )
        self.installation.start()

    def _end(self) -> None:
        self.installation.stop()
        self.installation.remove()

    def restart_everything(self) -> None:
        self.installation.crash()
        self._start(self._folder)

    def _behaviour(self, index: int) -> Behaviour:
        draw = Random(f"{self.options.seed} {index}")
        return Behaviour(
            send_time=(0.005, draw.uniform(0.02, 0.06)),
            delivery_delay=(0.05, 0.5),
            failure_rate=0.01,
            lost_answers=0.03,
            duplicates=0.05,
            reorder=0.05,
            disconnect_every=(10.0, 40.0),
            keeps_pace=False,
            triggers="join" if index % 2 else "replace",
            reports="array" if index % 3 == 2 else "single",
            clock_skew=draw.choice((0.0, 0.0, -3600.0, 7200.0)),
            time_factor=0.1,
        )

    # The traffic, in threads, until `_stop`

    def execute(self) -> None:
        """Traffic and blows, then let everything come to rest."""
        usable = [fault for fault in self.faults if self.options.only in fault.name]
        blows = plan(self.options.seed, self.options.blows, usable)
        gaps = [self.random.uniform(*self.options.gap) for _ in blows]
        duration = WARM_SECONDS + TAIL_SECONDS + sum(gaps) + sum(blow.seconds for blow in blows)
        self._stop = threading.Event()
        threads = [
            threading.Thread(target=work, args=(user, *more), daemon=True)
            for user in self.users
            for work, *more in (
                (self._singles,),
                (self._bulks, duration),
                (self._owner,),
                (self._receiving,),
                (self._campaigns,),
            )
        ]
        for thread in threads:
            thread.start()
        self._stop.wait(WARM_SECONDS)
        for blow, gap in zip(blows, gaps, strict=True):
            self._blow(blow)
            self._stop.wait(gap)
        self._stop.wait(TAIL_SECONDS)
        self._stop.set()
        for thread in threads:
            thread.join()
        self.seconds = self.now
        self._settle()

    def _singles(self, user: User) -> None:
        random = Random(f"{self.options.seed} singles {user.index}")
        n = 0
        while not self._stop.wait(SINGLE_EVERY):
            n += 1
            user.send_single(later=0.0 if n % SCHEDULED_EACH else random.uniform(2, 12))

    def _bulks(self, user: User, duration: float) -> None:
        begun, chunks = self.now, max(1, int(self._of_user * (1 - OF_CAMPAIGNS)) // BULK)
        for chunk in range(chunks):
            # Later than planned where it took long: what is to be sent is sent.
            due = begun + chunk * duration / chunks
            self._stop.wait(max(0.0, due - self.now))
            user.send_bulk(BULK, callback=chunk % 2 == 0)

    @property
    def _of_user(self) -> int:
        return self.options.messages // self.options.users

    def _campaigns(self, user: User) -> None:
        """One is paused and resumed again and again, another is cancelled; some recipients opt out of both."""
        random = Random(f"{self.options.seed} campaigns {user.index}")
        each = max(2, int(self._of_user * OF_CAMPAIGNS / 2))
        made = [user.make_campaign(each) for _ in range(2)]
        for campaign in made:
            user.ask(campaign, "start")
        for n in range(10_000):
            if self._stop.wait(random.uniform(1.0, 4.0)):
                break
            user.opt_out(random.choice(made[n % 2].numbers[each // 2 :]))
            user.ask(made[0], "resume" if n % 2 else "pause")
            if n == 3:
                made[1].cancelled = user.ask(made[1], "cancel")

    def _owner(self, user: User) -> None:
        random = Random(f"{self.options.seed} owner {user.index}")
        while not self._stop.wait(1.0):
            recent = list(user.accepted)[-200:]
            for name in random.sample(recent, min(2, len(recent))):
                user.cancel(name)
            if random.random() < 0.2:
                user.retry_failed(random, 5)

    def _receiving(self, user: User) -> None:
        """Phones receive messages of people; the sender of one notes it once the gateway has taken it."""
        fleet, n = self.fleets[user.index], 0
        while not self._stop.wait(0.7):
            phone = fleet.phones[n % len(fleet.phones)]
            n += 1
            if not phone.dead and phone.connected.is_set():
                fleet.do(
                    lambda phone=phone, n=n: phone.work.spawn(self._receive(phone, f"Answer {user.index}-{n}", user))
                )

    async def _receive(self, phone: Any, text: str, user: User) -> None:
        with contextlib.suppress(Exception):
            await phone.receive("+998900000001", text)
            self.inbound[text] = user.index

    def _blow(self, blow: Blow) -> None:
        event = Event(" + ".join(fault.name for fault in blow.faults), self.now)
        self.events.append(event)
        self.say(f"{event.began:6.1f} s  {event.name}" + (f" for {blow.seconds:.1f} s" if blow.seconds > 0 else ""))
        ends = [end for fault in blow.faults if (end := self._begin(fault, Random(blow.seed)))]
        self._stop.wait(blow.seconds if ends else 0)
        together(ends)
        # What mends itself, or was begun for good, counts from when it came; to start everything anew takes its time.
        event.ended = self.now if ends or "kill everything" in event.name else event.began

    def _begin(self, fault: Fault, random: Random) -> End | None:
        try:
            return fault.begin(self, random)
        except (psycopg.Error, KeyError, ProcessLookupError):
            # What it was to hit is away already, by the blow before.
            self.say(f"{'':10}({fault.name}: there was nothing to hit)")
            return None

    # Coming to rest

    def dead(self, user: User) -> set[str]:
        return {phone.device_id for phone in self.fleets[user.index].phones if phone.dead}

    def gone(self, user: User) -> set[int]:
        """Numbers of the phones of an account that died or were removed."""
        names = list(self.dead(user) | self.removed)
        with psycopg.connect(self.database_url) as connection:
            rows = connection.execute("SELECT id FROM devices WHERE device_id = ANY(%s)", [names])
            return {number for (number,) in rows}

    def _settle(self) -> None:
        """Until every message has come to its end, and every receiver has heard of it."""
        self.say(f"{self.now:6.1f} s  nothing breaks any more")
        for user in self.users:
            for device in user.devices():
                if not device["is_active"]:
                    user.call("PATCH", f"/api/devices/{device['id']}", {"is_active": True})
            user.set_urls()
            for campaign in user.campaigns:
                user.ask(campaign, "resume")
        self._wait_quiet(self._unmade, STUCK_SECONDS)
        self._wait_quiet(self._waiting, STUCK_SECONDS)
        self.marked = sum(self._pass_time(user) for user in self.users)
        self._wait_quiet(lambda: sum(user.stats()["total_pending"] for user in self.users), STUCK_SECONDS)
        self._wait_quiet(self._not_delivered, 15)
        self.say(
            f"{self.now:6.1f} s  every message has come to its end, {self.marked} of them with a phone that is gone"
        )

    def _wait_quiet(self, measure: Callable[[], int], stuck: float) -> None:
        """Return when nothing is left, or nothing has changed for `stuck` seconds."""
        last, since = -1, self.now
        deadline = self.now + SETTLE_SECONDS
        while self.now < deadline:
            found = measure()
            if not found:
                return
            if found != last:
                last, since = found, self.now
            if self.now - since > stuck:
                return
            time.sleep(0.5)

    def _unmade(self) -> int:
        """How many recipients of campaigns that go on have no message yet."""
        return sum(
            user.counts(campaign)["not_made"]
            for user in self.users
            for campaign in user.campaigns
            if not campaign.cancelled
        )

    def _waiting(self) -> int:
        """How many messages are pending, but for those that a dead phone has."""
        dead = [name for user in self.users for name in self.dead(user)]
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(
                "SELECT count(*) FROM message_queue WHERE stage = 0 OR device_id NOT IN"
                " (SELECT id FROM devices WHERE device_id = ANY(%s))",
                [dead],
            ).fetchone()
            assert row
            return int(row[0])

    def _not_delivered(self) -> int:
        return sum(
            user.stats()["total_sent"] - user.stats()["total_delivered"] - user.stats()["total_failed"]
            for user in self.users
        )

    def _pass_time(self, user: User) -> int:
        """Let a day pass for messages that a phone which is gone was given: nobody can know what became of them."""
        gone = sorted(self.gone(user))
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(
                "UPDATE message_queue SET valid_until = valid_until - interval '2 days'"
                " WHERE stage IN (1, 2) AND device_id = ANY(%s)",
                [gone],
            ).rowcount

    def wait_told(self, missing: Callable[[], Any]) -> None:
        with contextlib.suppress(AssertionError):
            until(lambda: not missing(), SETTLE_SECONDS)


def together(ends: list[End]) -> None:
    """Mend several at once: one may need another."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(end) for end in ends]:
            done.result()


def newest_seed() -> int:
    return int.from_bytes(os.urandom(4), "big")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - a run takes minutes
