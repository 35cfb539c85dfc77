"""Calls that share a transaction: what one of them meets is not the others' business."""

import asyncio
import threading

import psycopg
import pytest
from sqlalchemy import text

from app.core import batching
from app.core.batching import Batcher
from app.core.errors import Overloaded, as_app_error

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _database(database) -> None:
    pass


async def outcomes_of(batcher: Batcher, *items: object) -> list[object]:
    return await asyncio.gather(*map(batcher.submit, items), return_exceptions=True)


async def test_an_error_of_one_item_is_its_own():
    batcher = Batcher("divide", lambda _, items: [12 / item for item in items])
    outcomes = await outcomes_of(batcher, 1, 0, 2, 3)
    assert isinstance(outcomes.pop(1), ZeroDivisionError)
    assert outcomes == [12, 6, 4]


async def test_data_that_the_database_refuses_is_its_items_error():
    def divide(session, items):
        return [session.scalar(text("SELECT 12 / CAST(:by AS integer)"), {"by": item}) for item in items]

    outcomes = await outcomes_of(Batcher("divide", divide), 1, 0, 2)
    assert as_app_error(outcomes.pop(1)).status == 500
    assert outcomes == [12, 6]


async def test_who_meets_a_lock_waits_alone(database):
    def touch(session, items):
        # In an order that two transactions cannot block each other by, as everywhere.
        for name in sorted(items):
            session.execute(text("UPDATE held SET n = n + 1 WHERE name = :name"), {"name": name})
        return [name.upper() for name in items]

    with (
        psycopg.connect(database.postgres.url, autocommit=True) as owner,
        psycopg.connect(database.postgres.url) as lock,
    ):
        owner.execute("CREATE TABLE held AS SELECT name, 0 AS n FROM unnest(ARRAY['a', 'b', 'c']) AS name")
        owner.execute("GRANT ALL ON held TO PUBLIC")
        try:
            lock.execute("SELECT FROM held WHERE name = 'b' FOR UPDATE")
            batcher = Batcher("touch", touch)
            calls = {name: asyncio.create_task(batcher.submit(name)) for name in ("a", "b", "c")}
            assert await asyncio.gather(calls["a"], calls["c"]) == ["A", "C"]
            assert await batcher.submit("c") == "C"
            assert not calls["b"].done()
            lock.rollback()
            assert await calls["b"] == "B"
            assert owner.execute("SELECT name, n FROM held ORDER BY name").fetchall() == [("a", 1), ("b", 1), ("c", 2)]
        finally:
            lock.rollback()
            owner.execute("DROP TABLE held")


async def test_a_statement_that_takes_too_long_is_not_tried_for_each():
    runs = []

    def sleep(session, items):
        runs.append(len(items))
        session.execute(text("SET LOCAL statement_timeout = '50ms'"))
        session.execute(text("SELECT pg_sleep(60)"))
        return items

    outcomes = await outcomes_of(Batcher("sleep", sleep), *range(20))
    assert {as_app_error(outcome).status for outcome in outcomes} == {503}
    # One may have been taken before the others had come, and three were tried alone to see who is slow.
    assert len(runs) <= 2 + 3


async def test_a_connection_that_dies_between_single_items_is_replaced():
    runs = []

    def fragile(session, items):
        runs.append(items)
        if len(items) > 1:
            session.execute(text("SELECT 1 / 0"))
        if len(runs) == 3:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return [session.scalar(text("SELECT CAST(:item AS integer)"), {"item": item}) for item in items]

    assert await outcomes_of(Batcher("fragile", fragile), 1, 2, 3, 4) == [1, 2, 3, 4]
    assert runs[1:3] == [[1], [2]], "the second met it"


async def test_nobody_waits_longer_for_a_transaction_that_hangs(monkeypatch):
    monkeypatch.setattr(batching, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(batching, "EXPIRE_SECONDS", 0.05)
    begun, released = threading.Event(), threading.Event()

    def hang(_, items):
        begun.set()
        assert released.wait(60)
        return items

    batcher = Batcher("hang", hang)
    first = asyncio.create_task(batcher.submit("first"))
    await asyncio.to_thread(begun.wait, 30)
    try:
        with pytest.raises(Overloaded):
            await batcher.submit("second")
        assert not first.done()
    finally:
        released.set()
    assert await first == "first", "what is under way gets its true outcome"


async def test_a_batch_takes_no_more_than_its_size():
    sizes = []

    def count(_, items):
        sizes.append(sum(items))
        return items

    await outcomes_of(Batcher("count", count, size=lambda item: item), *[400] * 10)
    assert sum(sizes) == 4000
    assert max(sizes) <= 1200


async def test_who_takes_too_long_is_late_alone_and_the_others_wait_for_nobody(database, monkeypatch):
    def work(session, items):
        if len(items) > 1 and "slow" in items:
            session.execute(text("SET LOCAL statement_timeout = '100ms'"))
        for item in items:
            session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": 30 if item == "slow" else 0})
        return [item.upper() for item in items]

    batcher = Batcher("work", work)
    order = []

    async def submit(item):
        try:
            outcome = await batcher.submit(item)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
            outcome = as_app_error(error).status
        order.append((item, outcome))

    await submit("first")
    await asyncio.gather(*map(submit, ["a", "slow", "b", "c"]))
    assert order.index(("a", "A")) < order.index(("slow", 503)), "before it was known who is slow"
    assert dict(order) == {"first": "FIRST", "a": "A", "b": "B", "c": "C", "slow": 503}


async def test_a_batch_that_did_nothing_for_too_long_is_repeated_one_by_one(database):
    import time

    def work(session, items):
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        if len(items) > 1:
            time.sleep(0.3)
        session.execute(text("SELECT 1"))
        return [item.upper() for item in items]

    batcher = Batcher("idle", work)
    assert await outcomes_of(batcher, "a") == ["A"]
    assert await outcomes_of(batcher, "b", "c", "d") == ["B", "C", "D"]
