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
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from app.core import metrics, tracing
from app.core.database import repeat_once, transaction
from app.core.errors import AppError, Overloaded, is_locked, is_out_of_time

BATCH_SIZE = 256
MAX_BATCH_ITEMS = 1000
MAX_WAITING = 2000
WAIT_SECONDS = 5.0
# Callers that were just answered are about to call again. A transaction costs milliseconds, so a busy queue waits until
# they have, at most this long, even where others wait already: else the callers part into two halves that take turns. A
# call that comes alone never waits.
PEER_WAIT_SECONDS = 0.004
EXPIRE_SECONDS = 1.0
# Where items are tried one after the other, each holds what it locked until the last is done.
_BRIEFLY = text("SET LOCAL lock_timeout = '10ms'")
# Of a batch that ran out of time each item has this long, alone.
MAX_SLOW = 3
_SOON = text("SET LOCAL statement_timeout = '1s'")

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
    trace: str | None = field(default_factory=tracing.current)


class Batcher(Generic[Item, Outcome]):
    """Collects items on the event loop and flushes them, at most 256 at a time, in a thread of its own.

    `flush(session, items)` answers one outcome per item, in order; an exception as an outcome is raised to that item's
    waiter alone. `flush` must be safe to run again with the same items: a commit in doubt, a deadlock or a lost
    connection repeats the batch once. What may be one item's doing repeats it item by item, so that a bad one fails
    alone, one whose row is locked waits alone, and one that takes too long is late alone. A batch that `autocommit`
    accepts is one that `flush` writes in one statement; one whose items come to a `size` of 1,000 takes no more.
    """

    def __init__(
        self,
        name: str,
        flush: Callable[[Session, list[Item]], Sequence[Outcome | Exception]],
        autocommit: Callable[[list[Item]], bool] = lambda _: False,
        size: Callable[[Item], int] = lambda _: 1,
    ) -> None:
        self._name = name
        self._flush = flush
        self._autocommit = autocommit
        self._size = size
        self._waiting: deque[_Waiter[Item, Outcome]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._running: asyncio.Task[None] | None = None
        self._expected = 0
        self._peers_came = asyncio.Event()
        self._expiring: asyncio.TimerHandle | None = None

    async def submit(self, item: Item) -> Outcome:
        """The outcome of `item`, after the commit that holds it.

        Raises `Overloaded` where 2,000 wait already or the item waited five seconds without its turn.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise Overloaded
        waiter: _Waiter[Item, Outcome] = _Waiter(item, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        if len(self._waiting) >= self._expected:
            self._peers_came.set()
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        if self._expiring is None:
            self._expiring = asyncio.get_running_loop().call_later(EXPIRE_SECONDS, self._expire)
        try:
            return await waiter.future
        finally:
            del waiter, item  # an error's traceback names this frame, which would name the error

    def _expire(self) -> None:
        """Look again and again who waits too long, however long the transaction under way takes."""
        self._turn_away()
        self._expiring = asyncio.get_running_loop().call_later(EXPIRE_SECONDS, self._expire) if self._waiting else None

    def _turn_away(self) -> None:
        """End the waiting of those at the head who have waited too long, or have gone."""
        oldest = time.monotonic() - WAIT_SECONDS
        while self._waiting and (self._waiting[0].future.done() or self._waiting[0].since < oldest):
            waiter = self._waiting.popleft()
            if not waiter.future.done():
                waiter.future.set_exception(Overloaded())

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._take():
            metrics.observe_batch(self._name, len(batch))
            try:
                outcomes = await loop.run_in_executor(self._thread, self._write, batch, loop)
            except Exception as error:  # noqa: BLE001 - every waiter must hear of it, whatever it is
                outcomes = [error] * len(batch)
            again = [w for w, outcome in zip(batch, outcomes, strict=True) if not self._answer(w, outcome)]
            self._waiting.extendleft(reversed(again))
            if len(again) == len(batch):
                await asyncio.sleep(0.01)
            elif len(batch) > 1 and len(self._waiting) < BATCH_SIZE:
                await self._wait_for_peers(min(len(self._waiting) + len(batch), BATCH_SIZE))

    async def _wait_for_peers(self, expected: int) -> None:
        """Return when `expected` items wait, or the time for it is over."""
        self._expected = expected
        self._peers_came.clear()
        limit = asyncio.get_running_loop().call_later(PEER_WAIT_SECONDS, self._peers_came.set)
        await self._peers_came.wait()
        limit.cancel()

    def _take(self) -> list[_Waiter[Item, Outcome]]:
        self._turn_away()
        batch: list[_Waiter[Item, Outcome]] = []
        size = 0
        while self._waiting and len(batch) < BATCH_SIZE and size < MAX_BATCH_ITEMS:
            waiter = self._waiting.popleft()
            if not waiter.future.done():
                batch.append(waiter)
                size += self._size(waiter.item)
        return batch

    @staticmethod
    def _answer(waiter: _Waiter[Item, Outcome], outcome: Outcome | Exception) -> bool:
        if isinstance(outcome, Later):
            return False
        if not waiter.future.done():
            if isinstance(outcome, AppError):
                # Its traceback names frames that hold the whole batch, and it: until the garbage collector comes.
                waiter.future.set_exception(outcome.with_traceback(None))
            elif isinstance(outcome, Exception):
                waiter.future.set_exception(outcome)
            else:
                waiter.future.set_result(outcome)
        return True

    def _write(
        self, batch: list[_Waiter[Item, Outcome]], loop: asyncio.AbstractEventLoop
    ) -> Sequence[Outcome | Exception]:
        items = [waiter.item for waiter in batch]
        tracing.go_on(next(filter(None, (waiter.trace for waiter in batch)), None))
        try:
            outcomes = repeat_once(lambda: self._once(items))
        except Exception as error:
            if not (is_locked(error) or (_is_of_one_item(error) and len(items) > 1)):
                raise
            log.warning("batch failed, retrying items one by one", items=len(items), error=_loggable(error))
        else:
            return self._apart(batch, loop) if outcomes is None else outcomes
        return repeat_once(lambda: self._one_by_one(items))

    def _once(self, items: list[Item]) -> Sequence[Outcome | Exception] | None:
        """The outcomes; None where several items were too much for the time that a transaction has."""
        try:
            with transaction(hot=True, autocommit=self._autocommit(items)) as session:
                return self._flush(session, items)
        except DBAPIError as error:
            if len(items) == 1 or not is_out_of_time(error):
                raise
            log.warning("batch timed out, retrying in single transactions", items=len(items), error=_loggable(error))
            return None

    def _apart(
        self, batch: list[_Waiter[Item, Outcome]], loop: asyncio.AbstractEventLoop
    ) -> Sequence[Outcome | Exception]:
        """Each item in a transaction of its own, small ones first, and answered at once: none waits for a slow one.

        Where some are slow one after the other it is the database that is, and the rest is not tried.
        """
        outcomes: dict[_Waiter[Item, Outcome], Outcome | Exception] = {}
        slow: list[Exception] = []
        for waiter in sorted(batch, key=lambda waiter: self._size(waiter.item)):
            outcome = slow[-1] if len(slow) >= MAX_SLOW else self._alone(waiter.item)
            outcomes[waiter] = outcome
            if isinstance(outcome, Exception) and is_out_of_time(outcome):
                slow.append(outcome)
            else:
                slow.clear()
            loop.call_soon_threadsafe(self._answer, waiter, outcome)
        return [outcomes[waiter] for waiter in batch]

    def _alone(self, item: Item) -> Outcome | Exception:
        try:
            with transaction(hot=True) as session:
                session.execute(_SOON)
                (outcome,) = self._flush(session, [item])
        except Exception as error:  # noqa: BLE001 - it is this item's outcome, whatever it is
            return Later() if is_locked(error) else error
        return outcome

    def _one_by_one(self, items: list[Item]) -> Sequence[Outcome | Exception]:
        outcomes: list[Outcome | Exception] = []
        with transaction(hot=True) as session:
            session.execute(_BRIEFLY)
            for item in items:
                try:
                    with session.begin_nested():
                        outcomes.extend(self._flush(session, [item]))
                except Exception as error:
                    if is_locked(error):
                        outcomes.append(Later())
                    elif _is_of_one_item(error):
                        outcomes.append(error)
                    else:
                        raise
        return outcomes


def _is_of_one_item(error: Exception) -> bool:
    """Whether a single item's data can have caused it; what the server or the connection has met is everybody's."""
    return not isinstance(error, SQLAlchemyError) or isinstance(error, DataError | IntegrityError)


def _loggable(error: Exception) -> str:
    # The database's own words hold no texts and numbers; of another error's words nobody knows.
    return repr(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
