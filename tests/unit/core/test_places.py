"""Who gets a place when: each caller's calls in their order, the callers in turn, and nobody for ever."""

import asyncio

import pytest

from app.core import places
from app.core.places import Places

MOST = places.MAX_PLACES - places.UNCOUNTED_PLACES


class Calls:
    """An application whose calls end when they are told to."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.began: list[str] = []
        self.over: dict[str, asyncio.Event] = {}
        self.places = Places(self._serve, self._account_of)

    @staticmethod
    async def _account_of(scope):
        return int(scope["path"].split("/")[1]) or None

    async def _serve(self, scope, receive, send):
        path = scope["path"]
        self.began.append(path)
        self.running.append(path)
        await self.over[path].wait()
        self.running.remove(path)
        await send({"type": "http.response.start", "status": 200})

    def call(self, account: int, number: int, address: str = "192.0.2.1") -> asyncio.Task[int]:
        """Answers the status."""
        path = f"/{account}/{number}"
        self.over[path] = asyncio.Event()
        told: list[int] = []

        async def send(message):
            if message["type"] == "http.response.start":
                told.append(message["status"])

        async def run():
            scope = {"type": "http", "path": path, "client": (address, 1)}
            await self.places(scope, None, send)
            return told[0]

        return asyncio.create_task(run())

    def of(self, account: int) -> int:
        return sum(path.startswith(f"/{account}/") for path in self.running)

    async def end(self, *paths: str) -> None:
        for path in paths:
            self.over[path].set()
        await settled()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_an_account_has_half_of_what_others_leave_and_its_calls_keep_their_order():
    async def check():
        calls = Calls()
        tasks = [calls.call(1, number) for number in range(60)]
        await settled()
        assert calls.of(1) == places.UNCOUNTED_PLACES + MOST // 2
        tasks += [calls.call(account, number) for account in (2, 3) for number in range(20)]
        await settled()
        assert (calls.of(2), calls.of(3)) == (MOST // 4, MOST // 8)
        while calls.running:
            await calls.end(calls.running[0])
        assert {await task for task in tasks} == {200}
        for account in (1, 2, 3):
            began = [path for path in calls.began if path.startswith(f"/{account}/")]
            assert began == [f"/{account}/{number}" for number in range(len(began))]

    asyncio.run(check())


def test_strangers_count_by_their_address():
    async def check():
        calls = Calls()
        tasks = [calls.call(0, number) for number in range(40)]
        await settled()
        assert calls.of(0) == places.UNCOUNTED_PLACES + MOST // 2
        tasks.append(calls.call(0, 99, "198.51.100.7"))
        await settled()
        assert "/0/99" in calls.running
        while calls.running:
            await calls.end(*calls.running)
        assert {await task for task in tasks} == {200}

    asyncio.run(check())


@pytest.mark.parametrize("waits", [0.0, 60.0])
def test_who_finds_no_place_in_time_or_too_many_waiting_is_turned_away(monkeypatch, waits):
    monkeypatch.setattr(places, "WAIT_SECONDS", waits)
    monkeypatch.setattr(places, "MAX_WAITING", 8)

    async def check():
        calls = Calls()
        first = [calls.call(1, number) for number in range(20)]
        await settled()
        late = [calls.call(1, number) for number in range(20, 30)]
        await settled()
        # Of the 8 that may wait an account has half.
        assert sum(task.done() for task in late) >= 6
        other = calls.call(2, 1)
        await settled()
        assert "/2/1" in calls.running
        for number in range(20, 30):
            calls.over[f"/1/{number}"].set()
        if not waits:
            assert {await task for task in late} == {503}
        await calls.end("/2/1", *[f"/1/{number}" for number in range(20)])
        assert await other == 200
        assert {await task for task in first} == {200}
        if waits:
            assert [await task for task in late] == [200] * 4 + [503] * 6

    asyncio.run(check())


def test_what_a_call_does_after_its_answer_began_and_what_fails_holds_nothing():
    async def check():
        ends = asyncio.Event()

        async def serve(scope, receive, send):
            if scope["path"].startswith("/2/"):
                raise ValueError
            await send({"type": "http.response.start", "status": 200})
            await ends.wait()

        calls = Calls()
        calls.places = Places(serve, calls._account_of)
        streams = [calls.call(1, number) for number in range(50)]
        await settled()
        failed = await asyncio.gather(*(calls.call(2, number) for number in range(50)), return_exceptions=True)
        assert {type(error) for error in failed} == {ValueError}
        assert (calls.places._taken, calls.places._waiting) == (0, {})
        ends.set()
        assert {await stream for stream in streams} == {200}

    asyncio.run(check())
