"""Things to be posted, by a few workers, tried again with growing pauses: what WorkManager is to the app."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from phones.client import PhoneError

Item = TypeVar("Item")
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Outbox(Generic[Item]):
    """A queue drained by at most `workers` concurrent calls of `post`, each with at most `batch` items.

    A worker waits `gather` seconds before each call, for more to come.

    A call that raises PhoneError is repeated after `pause(n)` seconds, n being 1 after the first failure, until
    `attempts` calls were made; then its items are given to `gave_up`. Nothing holds back the items behind it.
    """

    def __init__(
        self,
        post: Callable[[list[Item]], Awaitable[None]],
        *,
        spawn: Spawn,
        pause: Callable[[int], float],
        gave_up: Callable[[list[Item]], None],
        workers: int,
        batch: int,
        attempts: int,
        gather: float = 0.0,
    ) -> None:
        self._post = post
        self._spawn = spawn
        self._pause = pause
        self._gave_up = gave_up
        self._max_workers = workers
        self._batch = batch
        self._attempts = attempts
        self._gather = gather
        self._workers = 0
        self._waiting: deque[Item] = deque()
        self._repeats: deque[tuple[list[Item], int]] = deque()
        self._unfinished = 0
        self._closed = False

    def __len__(self) -> int:
        """How many items are neither posted nor given up."""
        return self._unfinished

    def put(self, item: Item) -> None:
        """Add one item; it is posted as soon as a worker is free."""
        if self._closed:
            return
        self._unfinished += 1
        self._waiting.append(item)
        self._wake_worker()

    def close(self) -> None:
        """Post nothing more; what waits is lost with the phone."""
        self._closed = True
        self._waiting.clear()
        self._repeats.clear()

    def _wake_worker(self) -> None:
        if self._workers < self._max_workers:
            self._workers += 1
            self._spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting or self._repeats:
                if self._gather:
                    await asyncio.sleep(self._gather)
                items, tries = self._repeats.popleft() if self._repeats else (self._take(), 0)
                await self._try(items, tries + 1)
        finally:
            self._workers -= 1

    def _take(self) -> list[Item]:
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(self._batch, len(waiting)))]

    async def _try(self, items: list[Item], tries: int) -> None:
        try:
            await self._post(items)
        except PhoneError:
            if tries < self._attempts:
                asyncio.get_running_loop().call_later(self._pause(tries), self._repeat, items, tries)
                return
            self._gave_up(items)
        self._unfinished -= len(items)

    def _repeat(self, items: list[Item], tries: int) -> None:
        if not self._closed:
            self._repeats.append((items, tries))
            self._wake_worker()
