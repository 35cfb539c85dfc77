"""Receivers of webhooks that fail, hang and lie now and then, and note all that they heard."""

import asyncio
import threading
from collections import Counter, defaultdict
from random import Random
from typing import Any, Self

from tests.support.webhooks_receiver import Received, Receiver, answer, hang, reset

_TAKEN, _REFUSED = answer(200, b"ok"), answer(500, b"no")


async def _lie(request: Received, writer: asyncio.StreamWriter) -> None:
    """Take the webhook, and never answer."""
    await reset(request, writer)


class Receivers:
    """One for all accounts. `mood` is how it does at present: well, or "hang" or "fail" to all."""

    def __init__(self, seed: int, host: str = "127.0.0.1") -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._tries: Counter[str] = Counter()
        self.mood = "well"
        # By path, message and status: the ids under which it was told, and how often.
        self.told: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        self._receiver = Receiver(host, behaviour=self._behave)

    def __enter__(self) -> Self:
        self._receiver.__enter__()
        self._receiver.received = _Noting(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.__exit__()

    @property
    def port(self) -> int:
        return self._receiver.port

    def _note(self, request: Received) -> None:
        data = request.json["data"]
        if "message_id" not in data:  # of a campaign
            return
        with self._lock:
            self.told[request.path, data["message_id"], data["status"]][request.webhook_id] += 1

    def heard(self) -> dict[tuple[str, str, str], Counter[str]]:
        with self._lock:
            return {key: Counter(ids) for key, ids in self.told.items()}

    async def _behave(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self._tries[request.webhook_id] += 1
        if self.mood == "hang":
            await hang(request, writer)
        elif self.mood == "fail":
            await _REFUSED(request, writer)
        elif self._tries[request.webhook_id] > 1:
            await _TAKEN(request, writer)
        else:
            await self._first(request, writer)

    async def _first(self, request: Received, writer: asyncio.StreamWriter) -> None:
        """How one does at the first try of a webhook: the same with every run of a seed, for the same body."""
        draw = Random(f"{self._seed}{request.json['data'].get('recipient_number')}{request.path}").random()
        if draw < 0.01:
            await hang(request, writer)
        elif draw < 0.04:
            await _REFUSED(request, writer)
        elif draw < 0.07:
            await _lie(request, writer)
        else:
            await _TAKEN(request, writer)


class _Noting(list[Any]):
    """Takes what a receiver received, and keeps only what it says."""

    def __init__(self, note: Any) -> None:
        self._note = note

    def append(self, request: Received) -> None:
        self._note(request)
