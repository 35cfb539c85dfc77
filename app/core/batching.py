"""Shared transactions: concurrent calls of one kind are written by one statement and answered after one commit.

The event loop collects what arrives while the previous transaction is under way; one thread flushes it with the
synchronous, list-taking domain function that tasks and plain routes use too.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.errors import Overloaded

MOST_IN_A_BATCH = 256
MOST_WAITING = 2000
WAIT_SECONDS = 5.0
# Callers that were just answered are about to call again. A transaction costs milliseconds, so a busy queue waits until
# as many have, at most this long; a call that comes alone never does.
GATHER_SECONDS = 0.004
_REPEATABLE = {"40P01", "40001", "55P03"}

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Later(Exception):  # noqa: N818 - an outcome, not an error
    """Outcome of an item whose row is locked by someone else: it goes into the next batch."""


@dataclass(slots=True, eq=False)
class _Waiter(Generic[Item, Outcome]):
    item: Item
    future: asyncio.Future[Outcome]
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[Item, Outcome]):
    """Collects items on the event loop and flushes them, at most 256 at a time, in a thread of its own.

    `flush(session, items)` answers one outcome per item, in order; an exception as an outcome is raised to that item's
    waiter alone. `flush` must be safe to run again with the same items: a commit in doubt, a deadlock or a lost
    connection repeats the batch once, and any other database error repeats it item by item, so that only the culprit
    fails. A batch of items that `autocommit` accepts is one that `flush` writes in one statement.
    """

    def __init__(
        self,
        name: str,
        flush: Callable[[Session, list[Item]], Sequence[Outcome | Exception]],
        autocommit: Callable[[Item], bool] = lambda _: False,
    ) -> None:
        self._flush = flush
        self._autocommit = autocommit
        self._waiting: deque[_Waiter[Item, Outcome]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._running: asyncio.Task[None] | None = None
        self._company = 0
        self._gathered = asyncio.Event()

    async def submit(self, item: Item) -> Outcome:
        """The outcome of `item`, after the commit that holds it.

        Raises `Overloaded` where 2,000 wait already or the item waited five seconds without its turn.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Overloaded
        waiter: _Waiter[Item, Outcome] = _Waiter(item, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        if len(self._waiting) >= self._company:
            self._gathered.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        return await waiter.future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._take():
            try:
                outcomes = await loop.run_in_executor(self._thread, self._write, [w.item for w in batch])
            except Exception as error:  # noqa: BLE001 - every waiter must hear of it, whatever it is
                outcomes = [error] * len(batch)
            again = [w for w, outcome in zip(batch, outcomes, strict=True) if not self._answer(w, outcome)]
            self._waiting.extendleft(reversed(again))
            if len(again) == len(batch):
                await asyncio.sleep(0.01)
            elif len(batch) > 1 and len(self._waiting) < len(batch):
                await self._gather(len(batch))

    async def _gather(self, company: int) -> None:
        """Return when `company` items wait, or the time for it is over."""
        self._company = company
        self._gathered.clear()
        limit = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._gathered.set)
        await self._gathered.wait()
        limit.cancel()

    def _take(self) -> list[_Waiter[Item, Outcome]]:
        batch: list[_Waiter[Item, Outcome]] = []
        oldest = time.monotonic() - WAIT_SECONDS
        while self._waiting and len(batch) < MOST_IN_A_BATCH:
            waiter = self._waiting.popleft()
            if waiter.future.done():
                continue
            if waiter.since < oldest:
                waiter.future.set_exception(Overloaded())
            else:
                batch.append(waiter)
        return batch

    @staticmethod
    def _answer(waiter: _Waiter[Item, Outcome], outcome: Outcome | Exception) -> bool:
        if isinstance(outcome, Later):
            return False
        if not waiter.future.done():
            if isinstance(outcome, Exception):
                waiter.future.set_exception(outcome)
            else:
                waiter.future.set_result(outcome)
        return True

    def _write(self, items: list[Item]) -> Sequence[Outcome | Exception]:
        try:
            return self._once(items)
        except DBAPIError as error:
            if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _REPEATABLE:
                return self._once(items)
            if len(items) == 1:
                raise
            log.warning("batch failed, repeated one by one", items=len(items), error=repr(error.orig))
            return self._one_by_one(items)

    def _once(self, items: list[Item]) -> Sequence[Outcome | Exception]:
        with transaction(hot=True, autocommit=all(map(self._autocommit, items))) as session:
            return self._flush(session, items)

    def _one_by_one(self, items: list[Item]) -> Sequence[Outcome | Exception]:
        outcomes: list[Outcome | Exception] = []
        with transaction(hot=True) as session:
            for item in items:
                try:
                    with session.begin_nested():
                        outcomes.extend(self._flush(session, [item]))
                except DBAPIError as error:
                    outcomes.append(error)
        return outcomes
