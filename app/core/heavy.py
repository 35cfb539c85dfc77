"""Heavy calls: those that keep a thread busy for seconds. They have threads of their own, and a limit for each account.

`HeavyCalls` stands before `Bodies` and turns away, before a body is read, who has enough of them under way. A route
runs its work by `request.state.heavy`, so that the threads of all other routes stay free.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi.routing import iter_route_contexts
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core import places
from app.core.edge import respond_error
from app.core.errors import TooManyAttempts
from app.core.reading import AccountOf, closing

MAX_RUNNING = 2
MAX_RUNNING_OF_ACCOUNT = 1
# Under way: running, waiting for a thread, or with the body still coming.
MAX_UNDER_WAY = 32
MAX_UNDER_WAY_OF_ACCOUNT = 8
RETRY_AFTER_SECONDS = 5

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Item = TypeVar("Item")

_END = object()


@dataclass(slots=True)
class _Account:
    under_way: int = 0
    threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(MAX_RUNNING_OF_ACCOUNT))


@dataclass(frozen=True, slots=True)
class Heavy:
    """One heavy call. Its work waits for a thread of its account's and for one of the process's."""

    own_threads: CapacityLimiter
    all_threads: CapacityLimiter
    is_in_force: Callable[[], Awaitable[bool]]

    async def run(
        self, work: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
    ) -> Result:
        """The result of `work`, done in a thread; from here on the call has no place among the light ones."""
        places.leave()
        async with self.own_threads:
            return await to_thread.run_sync(lambda: work(*arguments, **named), limiter=self.all_threads)

    async def each(self, items: Iterator[Item]) -> AsyncIterator[Item]:
        """The items, each made in a thread; none is held while the client takes its time.

        Raises `ClientDisconnect`, which cuts the answer off, where the call's token ends meanwhile: who reads slowly
        would go on for hours.
        """
        while (item := await self.run(next, items, _END)) is not _END:
            yield item  # type: ignore[misc]  # the end is no item
            if not await self.is_in_force():
                raise ClientDisconnect


class HeavyCalls:
    """Lets heavy calls in, so many of an account and so many in all; 429 beyond that. A stranger's goes on unlimited:
    it is refused before there is any work.
    """

    def __init__(self, app: ASGIApp, account_of: AccountOf, heavy: re.Pattern[str]) -> None:
        self._app = app
        self._heavy = heavy  # of a method and a path
        self._account_of = account_of
        self._accounts: dict[int, _Account] = {}
        self._threads = CapacityLimiter(MAX_RUNNING)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._heavy.fullmatch(f"{scope['method']} {scope['path']}"):
            await self._app(scope, receive, send)
            return
        account = await self._account_of(scope)
        if account is None:
            await self._app(scope, receive, send)
            return
        try:
            with self._under_way(account) as own_threads:
                heavy = Heavy(own_threads, self._threads, partial(self._is_in_force, scope, account))
                scope.setdefault("state", {})["heavy"] = heavy
                await self._app(scope, receive, send)
        except TooManyAttempts as error:
            scope["route_template"] = _template(scope)
            await respond_error(closing(receive, send), error)

    async def _is_in_force(self, scope: Scope, account: int) -> bool:
        asked_anew = {name: value for name, value in scope.items() if name != "account"}
        return await self._account_of(asked_anew) == account

    @contextmanager
    def _under_way(self, number: int) -> Iterator[CapacityLimiter]:
        account = self._accounts.get(number) or _Account()
        everybody = sum(each.under_way for each in self._accounts.values())
        if account.under_way >= MAX_UNDER_WAY_OF_ACCOUNT or everybody >= MAX_UNDER_WAY:
            raise TooManyAttempts(RETRY_AFTER_SECONDS)
        self._accounts[number] = account
        account.under_way += 1
        try:
            yield account.threads
        finally:
            account.under_way -= 1
            if not account.under_way:
                del self._accounts[number]


def _template(scope: Scope) -> str | None:
    """The route's, as metrics name it: a path may have anything where the template has a name."""
    for route in iter_route_contexts(scope["app"].routes):
        pattern = getattr(route, "path_regex", None)
        if pattern and pattern.fullmatch(scope["path"]):
            return route.path
    return None
