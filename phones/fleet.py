"""A fleet of simulated phones in one process, for tests, benchmarks and `smsfleet phones simulate`.

    async with Fleet("http://127.0.0.1:8000", private_token, count=20) as fleet:
        ...
        assert not fleet.ledger.sent_twice()

`FleetThread` is the same for synchronous code.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from phones.behaviour import Behaviour
from phones.client import RefusedError
from phones.household import Household, Stats
from phones.http import HttpClient
from phones.ledger import Ledger
from phones.memory import Memory
from phones.virtual import Phone

_STARTED_AT_ONCE = 50
_POLL = 0.01
_TOKEN_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

T = TypeVar("T")


class FleetError(Exception):
    """The fleet did not come up, or a phone met something that it has no answer to."""


class Fleet:
    """`count` phones that enroll with one private token. `server_url` without a path is completed by the usual one.

    `behaviour` is one for all, or a function of a phone's index. `name` makes the phones' names and numbers, which stay
    the same from run to run, so that a gateway can recognise them; with a `memory` they go on as who they were.

    Entering waits until every phone is enrolled and has its stream open, and raises FleetError after `ready_within`
    seconds, for a refused token at once. Leaving ends all phones at once, and raises what unexpected errors there were.
    """

    def __init__(
        self,
        server_url: str,
        token: str,
        *,
        count: int = 1,
        behaviour: Behaviour | Callable[[int], Behaviour] | None = None,
        ledger: Ledger | None = None,
        memory: Memory | None = None,
        name: str = "virtual/phone",
        ready_within: float = 60.0,
    ) -> None:
        self.phones: list[Phone] = []
        self.ledger = Ledger() if ledger is None else ledger
        self.stats = Stats()
        self._memory = Memory() if memory is None else memory
        self._server_url = server_url
        self._token = token
        self._count = count
        self._behaviour = behaviour or Behaviour()
        self._name = name
        self._ready_within = ready_within
        self._home: Household | None = None

    async def __aenter__(self) -> Self:
        self._home = Household(
            HttpClient(), self._server_url, self._token, self.ledger, self.stats, memory=self._memory
        )
        try:
            async with asyncio.timeout(self._ready_within):
                for first in range(0, self._count, _STARTED_AT_ONCE):
                    await self._start_some(range(first, min(first + _STARTED_AT_ONCE, self._count)), self._home)
        except TimeoutError:
            problem = self._why_not_ready(f" after {self._ready_within:g} s")
            await self._close()
            raise FleetError(problem) from None
        except BaseException:
            await self._close()
            raise
        return self

    async def _start_some(self, indexes: range, home: Household) -> None:
        """Start phones and wait for them. Not all at once: a thousand would time out behind each other."""
        phones = [self._make_phone(index, home) for index in indexes]
        self.phones += phones
        for phone in phones:
            phone.start()
        for phone in phones:
            await self._ready(phone)

    def _make_phone(self, index: int, home: Household) -> Phone:
        behaviour = self._behaviour if isinstance(self._behaviour, Behaviour) else self._behaviour(index)
        return Phone(home, f"{self._name}-{index:04d}", f"+99890{index:07d}", behaviour)

    async def _ready(self, phone: Phone) -> None:
        """Wait for a phone. Raises FleetError where its token is refused, which no trying again will change."""
        while not (phone.connected.is_set() if phone.behaviour.uses_stream else phone.device_id):
            error = phone.work.last_error
            if not phone.device_id and isinstance(error, RefusedError) and error.status in _TOKEN_REFUSED:
                raise FleetError(f"{self._why_not_ready()}; phones need a private token that is valid to enroll")
            self._raise_failures()
            await asyncio.sleep(_POLL)

    def _why_not_ready(self, after: str = "") -> str:
        missing = [phone for phone in self.phones if not phone.connected.is_set() and phone.behaviour.uses_stream]
        errors = {str(phone.work.last_error) for phone in missing if phone.work.last_error is not None}
        return (
            f"{len(missing)} of {self._count} phones are not connected{after}: "
            f"{'; '.join(sorted(errors)[:3]) or 'no answer yet'}"
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        if error is None:
            self._raise_failures()

    def _raise_failures(self) -> None:
        if self._home is not None and self._home.failures:
            first = self._home.failures[0]
            raise FleetError(
                f"phones met {len(self._home.failures)} unexpected errors, the first: {first!r}"
            ) from first

    async def _close(self) -> None:
        for phone in self.phones:
            phone.stop()
        for phone in self.phones:
            await phone.work.closed()
        if self._home is not None:
            await self._home.http.close()

    @property
    def idle(self) -> bool:
        """No phone has anything to send or to report."""
        return all(phone.idle for phone in self.phones)

    def phone(self, device_id: str) -> Phone:
        """Find a phone by the id that the gateway gave it. KeyError: none has it."""
        for phone in self.phones:
            if phone.device_id == device_id:
                return phone
        raise KeyError(device_id)

    async def wait_until(self, condition: Callable[[], bool], within: float = 30.0) -> None:
        """Wait until something is the case; FleetError if it does not come to be or a phone met an unexpected error."""
        deadline = time.monotonic() + within
        while not condition():
            self._raise_failures()
            if time.monotonic() > deadline:
                raise FleetError(f"not so after {within:g} s: {self.stats}")
            await asyncio.sleep(_POLL)

    async def receive_inbound(self, phone: Phone | int, sender: str, text: str, sim: int = 1) -> str:
        """Let a phone (or the one of this index) receive an SMS; give the id of the event that the gateway took."""
        target = self.phones[phone] if isinstance(phone, int) else phone
        return await target.receive(sender, text, sim)


class FleetThread:
    """A fleet on an event loop in a thread of its own, for synchronous code; takes what `Fleet` takes.

    Reading `phones`, `ledger` and `stats` is safe from outside; to make a phone do something use `do`.
    """

    def __init__(self, server_url: str, token: str, **options: Any) -> None:
        self.fleet = Fleet(server_url, token, **options)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="phones", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self.fleet.__aenter__())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self.fleet.__aexit__(kind, error, trace))
        finally:
            self._end_loop()

    @property
    def phones(self) -> list[Phone]:
        """The phones, in the order in which they were made."""
        return self.fleet.phones

    @property
    def ledger(self) -> Ledger:
        """What went on air."""
        return self.fleet.ledger

    @property
    def stats(self) -> Stats:
        """What the fleet did so far."""
        return self.fleet.stats

    def do(self, action: Callable[[], T]) -> T:
        """Run something on the fleet's own thread, `thread.do(phone.disconnect)` for one, and give its result."""

        async def act() -> T:
            return action()

        return self._run(act())

    def wait_until(self, condition: Callable[[], bool], within: float = 30.0) -> None:
        """Wait until something is the case; FleetError if it does not come to be."""
        self._run(self.fleet.wait_until(condition, within))

    def receive_inbound(self, phone: Phone | int, sender: str, text: str, sim: int = 1) -> str:
        """Let a phone receive an SMS; give the id of the event once the gateway took it."""
        return self._run(self.fleet.receive_inbound(phone, sender, text, sim))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
