"""What the simulated phones of one process share, and how each keeps its tasks, timers and retries."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from phones.behaviour import Behaviour
from phones.client import PhoneError
from phones.http import HttpClient
from phones.ledger import Ledger
from phones.memory import Memory
from phones.wire import State, WireError

_FIRST_BACKOFF = 10.0
_MAX_BACKOFF = 5 * 3600.0


@dataclass(slots=True)
class Stats:
    """What a fleet did so far. `known` are messages offered again, `gave_up` are reports never taken."""

    registrations: int = 0
    streams_opened: int = 0
    pulls: int = 0
    replaced_pulls: int = 0
    messages: int = 0
    known: int = 0
    unusable: int = 0
    sent: int = 0
    delivered: int = 0
    failed: int = 0
    cancelled: int = 0
    report_calls: int = 0
    report_items: int = 0
    gave_up: int = 0
    hooks_taken: int = 0
    hooks_dropped: int = 0
    inbox_taken: int = 0
    inbox_dropped: int = 0
    errors: int = 0
    dead: int = 0

    def count(self, state: State) -> None:
        """Count a message that entered a state."""
        if state is State.SENT:
            self.sent += 1
        elif state is State.DELIVERED:
            self.delivered += 1
        elif state is State.FAILED:
            self.failed += 1
        elif state is State.CANCELLED:
            self.cancelled += 1


@dataclass(slots=True)
class Household:
    """The connections, address, private token, ledger, figures and memory that phones share.

    `failures` collects errors that are bugs (of a phone, or of a gateway that sends what no app could parse).
    """

    http: HttpClient
    server_url: str
    private_token: str
    ledger: Ledger
    stats: Stats = field(default_factory=Stats)
    failures: list[BaseException] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)


class Work:
    """The tasks and timers of one phone, and its way to try again.

    `behaviour` gives the present behaviour (its time factor scales the waits); `last_error` is the latest call that
    went wrong.
    """

    def __init__(self, home: Household, behaviour: Callable[[], Behaviour], random: random.Random) -> None:
        self.home = home
        self.random = random
        self.last_error: Exception | None = None
        self._behaviour = behaviour
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._closed = False

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until it ends or the phone does."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.home.failures.append(error)

    def job(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in place of the one of the same name."""
        self.cancel(name)
        self._jobs[name] = task = self.spawn(coroutine)
        return task

    def running(self, name: str) -> bool:
        """Tell whether the job of this name is under way."""
        return name in self._jobs and not self._jobs[name].done()

    def cancel(self, name: str) -> None:
        """End the job of this name, if it runs."""
        if name in self._jobs:
            self._jobs.pop(name).cancel()

    def at(self, name: str, seconds: float, call: Callable[[], object]) -> None:
        """Set the timer of this name, in place of a later one; one that is due sooner stays."""
        due = self._loop.time() + seconds
        if name in self._timers:
            present_due, timer = self._timers[name]
            if present_due <= due:
                return
            timer.cancel()
        if not self._closed:
            self._timers[name] = due, self._loop.call_at(due, self._fire, name, call)

    def _fire(self, name: str, call: Callable[[], object]) -> None:
        del self._timers[name]
        call()

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call something later, unless the phone has ended by then."""
        self._loop.call_later(seconds, lambda: None if self._closed else call())

    def pause(self) -> None:
        """End all jobs and timers."""
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for name in list(self._jobs):
            self.cancel(name)

    def close(self) -> None:
        """End everything and take nothing new."""
        self._closed = True
        self.pause()
        for task in list(self._tasks):
            task.cancel()

    async def closed(self) -> None:
        """Wait until every task has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def note(self, error: Exception) -> None:
        """Count a call that went wrong."""
        self.last_error = error
        self.home.stats.errors += 1

    def scaled(self, seconds: float) -> float:
        """Give one of the app's own waits at the pace of the simulation."""
        return seconds * self._behaviour().time_factor

    def backoff(self, tries: int) -> float:
        """How long the app waits after so many failures of one job."""
        return self.scaled(min(_FIRST_BACKOFF * 2 ** (tries - 1), _MAX_BACKOFF))

    async def insist(self, call: Callable[[], Awaitable[None]]) -> None:
        """Repeat a call until it works."""
        tries = 0
        while True:
            try:
                await call()
            except (PhoneError, WireError) as error:
                self.note(error)
                tries += 1
                await asyncio.sleep(self.backoff(tries))
            else:
                return

    def chance(self, rate: float) -> bool:
        """Draw whether something of this probability happens now."""
        return rate > 0 and self.random.random() < rate
