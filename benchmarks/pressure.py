"""What pressure on the database and on the workers costs a campaign: its pace during it, how soon it is back, and that
nothing is lost or doubled.

Messages go on air as fast as the gateway can give them out. Each pressure is compared with the seconds before it.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice

import psycopg

from app.core.http_client import HTTPError
from app.local.installation import Installation, Shape
from benchmarks.gateway import Account, Figure, check, installation
from phones.behaviour import Behaviour
from phones.fleet import FleetThread

PHONES = 12
CHUNK, STOCK = 2000, 8000
BACK_AT = 0.98
WINDOW = 2.0
# Of a transaction that stays open: the half minutes that are told of, by when they begin.
HALF_MINUTE = 30.0
MOMENTS = {
    "the first half minute": 0.0,
    "after one minute": 60.0,
    "after three minutes": 180.0,
    "the last half minute of ten": 570.0,
}

Pressure = Callable[[Installation], AbstractContextManager[object]]


def run(*, smoke: bool = False) -> list[Figure]:
    seconds, patience = (1.0, 3.0) if smoke else (15.0, 60.0)
    with installation(Shape(api=2, dispatch=2, flower=False)) as running:
        account = Account(running)
        behaviour = Behaviour(send_time=0.0, delivery_delay=0.1, keeps_pace=False, reports="array", triggers="join")
        with FleetThread(running.url, account.phone_token, count=PHONES, behaviour=behaviour) as fleet:
            feeder = _Feeder(account, fleet)
            feeder.start()
            fleet.wait_until(lambda: len(fleet.ledger) > CHUNK, 120)
            figures = [
                figure
                for name, press in islice(PRESSURES.items(), 2 if smoke else None)
                for figure in _under(name, partial(press, running), fleet, seconds, patience)
            ]
            figures += _open_for_long(running, fleet, 0.01 if smoke else 1.0)
            feeder.stop()
            _settled(account, fleet, feeder.accepted)
            check("known", account.count(), feeder.accepted)
            check("not on air", _not_on_air(account, fleet), 0)
            check("twice", len(fleet.ledger.sent_twice()), 0)
    return [*figures, Figure("messages under all of these", feeder.accepted, "", "", "lost 0, twice 0")]


def _not_on_air(account: Account, fleet: FleetThread) -> int:
    on_air = fleet.ledger.message_ids()
    with psycopg.connect(account.database_url) as connection, connection.cursor("messages") as cursor:
        return sum(str(number) not in on_air for (number,) in cursor.execute("SELECT message_id FROM messages"))


class _Feeder(threading.Thread):
    """Keeps messages waiting. A bulk whose answer never came is asked for again under its key."""

    def __init__(self, account: Account, fleet: FleetThread) -> None:
        super().__init__(daemon=True)
        self.accepted = 0
        self._account, self._fleet = account, fleet
        self._ended = threading.Event()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        n = 0
        while not self._ended.wait(0.05):
            if self.accepted - len(self._fleet.ledger) < STOCK:
                self.accepted += self._send(n)
                n += 1

    def _send(self, n: int) -> int:
        recipients = [f"+9989{n * CHUNK + place:08d}" for place in range(CHUNK)]
        body = {"message": "Under pressure", "recipients": recipients, "device_id": "active"}
        while True:
            with contextlib.suppress(HTTPError):
                answer = self._account.client.post("/api/sms/bulk", json=body, headers={"Idempotency-Key": f"bulk {n}"})
                if answer.is_success:
                    return len(answer.json()["data"])
            time.sleep(0.2)


def _pace(fleet: FleetThread, seconds: float) -> float:
    """SMS on air per second, over so many seconds from now."""
    before, began = len(fleet.ledger), time.monotonic()
    time.sleep(seconds)
    return (len(fleet.ledger) - before) / (time.monotonic() - began)


def _steady(fleet: FleetThread, seconds: float) -> float:
    """The pace, once messages go on air at all."""
    deadline = time.monotonic() + 60
    while not (pace := _pace(fleet, seconds)):
        if time.monotonic() > deadline:
            raise RuntimeError("Nothing has gone on air for a minute")
    return pace


def _under(
    name: str,
    press: Callable[[], AbstractContextManager[object]],
    fleet: FleetThread,
    seconds: float,
    patience: float,
) -> Iterator[Figure]:
    before = _steady(fleet, seconds)
    with press():
        during = _pace(fleet, seconds)
    began = time.monotonic()
    while _pace(fleet, WINDOW) < BACK_AT * before and time.monotonic() - began < patience:
        pass
    back = max(0.0, time.monotonic() - began - WINDOW)
    yield Figure(
        f"pace during: {name}",
        max(during / before, 0.001),
        "times",
        "",
        f"{before:.0f}/s before, {during:.0f}/s during",
    )
    yield Figure(f"back at {BACK_AT:.0%} of the pace after: {name}", max(back, 0.01), "s", "", "")


def _open_for_long(running: Installation, fleet: FleetThread, scale: float) -> Iterator[Figure]:
    """The pace in half minutes of ten during which a transaction stays open, and once it has ended; and in all ten,
    beside the minutes before and after, which says more on a machine whose pace changes by itself.
    """
    half = HALF_MINUTE * scale
    before = _steady(fleet, 2 * half)
    paces: dict[str, float] = {}
    with _open_transaction(running):
        began, given = time.monotonic(), len(fleet.ledger)
        for moment, begins in MOMENTS.items():
            time.sleep(max(0.0, began + begins * scale - time.monotonic()))
            paces[moment] = _pace(fleet, half)
        during = (len(fleet.ledger) - given) / (time.monotonic() - began)
    time.sleep(2 * half)
    after = paces["a minute after its end"] = _pace(fleet, 2 * half)
    for moment, pace in paces.items():
        beside = f"{before:.0f}/s before, {pace:.0f}/s then"
        yield Figure(
            f"pace, a transaction left open for ten minutes: {moment}", max(pace / before, 0.001), "times", "", beside
        )
    without = (before + after) / 2
    beside = f"{during:.0f}/s, and {without:.0f}/s in a minute before it and one after it"
    yield Figure("pace, a transaction left open: all ten minutes", during / without, "times", "≥ 0.9", beside)


def _settled(account: Account, fleet: FleetThread, accepted: int) -> None:
    fleet.wait_until(lambda: len(fleet.ledger) >= accepted, 300)
    deadline = time.monotonic() + 60
    while account.count("status <> 'delivered'") and time.monotonic() < deadline:
        time.sleep(0.5)
    check("not delivered", account.count("status <> 'delivered'"), 0)


@contextmanager
def _repeated(work: Callable[[], object], every: float) -> Iterator[None]:
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(every):
            with contextlib.suppress(psycopg.Error, KeyError, ProcessLookupError):
                work()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _restart(running: Installation) -> Iterator[None]:
    pid = running.kill("postgres")
    yield
    running.wait_restarted("postgres", pid)


def _terminate(running: Installation) -> AbstractContextManager[None]:
    def one() -> None:
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1"
            )

    return _repeated(one, 0.2)


@contextmanager
def _idle(running: Installation) -> Iterator[None]:
    """300 connections that do nothing, or as many as the server lets in."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(300):
                stack.enter_context(psycopg.connect(running.database_url))
        yield


@contextmanager
def _open_transaction(running: Installation) -> Iterator[None]:
    """A snapshot that keeps every dead row of the queue."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM message_queue")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def _readers(running: Installation) -> Iterator[None]:
    def read() -> None:
        with psycopg.connect(running.database_url, autocommit=True) as connection:
            connection.execute("SELECT status, count(*), max(length(message)) FROM messages GROUP BY status")

    with _repeated(read, 0.1), _repeated(read, 0.1):
        yield


def _kill_workers(running: Installation) -> AbstractContextManager[None]:
    turn = iter(range(1_000_000))
    return _repeated(lambda: running.kill(f"worker-dispatch-{next(turn) % 2 + 1}"), 2.0)


PRESSURES: dict[str, Pressure] = {
    "PostgreSQL killed": _restart,
    "five backends terminated a second": _terminate,
    "idle connections, as many as may be": _idle,
    "a transaction left open": _open_transaction,
    "readers of the whole table": _readers,
    "dispatch workers killed every two seconds": _kill_workers,
}

if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
