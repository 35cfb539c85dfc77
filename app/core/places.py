"""Places: how many calls the framework has under way at once, and how many of them are one account's.

A call goes from thread to thread, and may hold a connection and a lock in between. Were there more calls than threads,
those that wait for a lock would keep the threads that its holder needs to get done, and everybody would stand still
until the locks time out (decision 32). So fewer are under way than there are threads and connections, an account has
at most half of what the others leave, and the rest waits outside, where it holds neither.

`Places` stands behind `Bodies`, so that a body on its way holds no place. A call leaves its place when its answer
begins, and where it goes on to wait for something else than the database (`leave`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from prometheus_client import Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.edge import respond_error
from app.core.errors import Overloaded
from app.core.reading import AccountOf
from app.core.shares import Shares
from app.core.throttling import network

# Of the 40 threads of anyio; the others are for what ends by itself. Each place may hold a connection to the database.
MAX_PLACES = 32
# While no more are taken, a call has one without being asked whose it is, which costs a look into the database.
UNCOUNTED_PLACES = 8
WAIT_SECONDS = 10.0
MAX_WAITING = 500
# Threads for what looks into the database without a place, and for mails, which wait for a server of others.
MAX_ASIDE, MAX_MAILING = 8, 4
# It needs no thread, and answers while nothing else does.
_LIVENESS = "/health/live"

_RUNNING = Gauge("smsfleet_calls_running", "Calls that have a place", multiprocess_mode="livesum")
_WAITING = Gauge("smsfleet_calls_waiting", "Calls that wait for a place", multiprocess_mode="livesum")

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

Caller = int | str
"""An account, or the network address of a stranger."""

_aside, _mailing = CapacityLimiter(MAX_ASIDE), CapacityLimiter(MAX_MAILING)


@dataclass(slots=True, eq=False)
class _Place:
    """A place that a call has until it leaves it; `caller` is None for an uncounted one."""

    places: "Places"
    caller: Caller | None
    is_left: bool = False

    def leave(self) -> None:
        if not self.is_left:
            self.is_left = True
            self.places.free(self.caller)


_place: ContextVar[_Place | None] = ContextVar("place", default=None)


def leave() -> None:
    """Leave this call's place to others. What it does from here on must wait for no row's lock."""
    if (place := _place.get()) is not None:
        place.leave()


async def aside(work: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
    """The result of `work`, a short look into the database of a call that has no place, done in a thread."""
    return await to_thread.run_sync(lambda: work(*arguments, **named), limiter=_aside)


async def mailing(work: Callable[Parameters, None], *arguments: Parameters.args, **named: Parameters.kwargs) -> None:
    """Do `work`, which sends a mail, in a thread: for background tasks, which have left their place."""
    await to_thread.run_sync(lambda: work(*arguments, **named), limiter=_mailing)


class Places:
    """Lets calls in, each account's in their order and the accounts in turn. Raises none: a call that waits too long,
    or finds too many waiting, is answered 503.
    """

    def __init__(self, app: ASGIApp, account_of: AccountOf) -> None:
        self._app = app
        self._account_of = account_of
        self._taken = 0
        self._shares = Shares(MAX_PLACES - UNCOUNTED_PLACES)
        self._room = Shares(MAX_WAITING)
        self._waiting: dict[Caller, deque[asyncio.Future[_Place | None]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == _LIVENESS:
            await self._app(scope, receive, send)
            return
        place = await self._enter(scope)
        if place is None:
            await respond_error(send, Overloaded())
            return
        _place.set(place)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                place.leave()
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            place.leave()

    async def _enter(self, scope: Scope) -> _Place | None:
        if self._taken < UNCOUNTED_PLACES:
            return self._take(None)
        account = await self._account_of(scope)
        caller = network(scope["client"][0] if scope.get("client") else None) if account is None else account
        if caller not in self._waiting and self._shares.take(caller):
            return self._take(caller)
        if not self._room.take(caller):
            return None
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[_Place | None] = loop.create_future()
        self._waiting.setdefault(caller, deque()).append(turn)
        timer = loop.call_later(WAIT_SECONDS, _give_up, turn)
        _WAITING.inc()
        try:
            return await turn
        finally:
            _WAITING.dec()
            timer.cancel()
            self._room.give_back(caller)

    def _take(self, caller: Caller | None) -> _Place:
        self._taken += 1
        _RUNNING.inc()
        return _Place(self, caller)

    def free(self, caller: Caller | None) -> None:
        """A place is left: let in who may have one now."""
        self._taken -= 1
        _RUNNING.dec()
        if caller is not None:
            self._shares.give_back(caller)
        while any(self._let_in(each) for each in list(self._waiting)):
            pass

    def _let_in(self, caller: Caller) -> bool:
        """Whether the caller's first that waits has got a place; the caller's next turn is after all others'."""
        turns = self._waiting[caller]
        while turns and turns[0].done():  # who gave up
            turns.popleft()
        gets_one = bool(turns) and self._shares.take(caller)
        if gets_one:
            turns.popleft().set_result(self._take(caller))
            self._waiting[caller] = self._waiting.pop(caller)
        if not turns:
            del self._waiting[caller]
        return gets_one


def _give_up(turn: asyncio.Future[_Place | None]) -> None:
    if not turn.done():
        turn.set_result(None)
