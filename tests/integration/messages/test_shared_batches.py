"""Sends that share a transaction: written once whatever becomes of it, and gathered while their callers are busy."""

import asyncio
import threading

import pytest
from sqlalchemy import text

from app.core import batching
from app.core.batching import Batcher
from app.core.database import transaction
from app.core.security import parse_token
from app.messages.accepting import intake, requests
from app.messages.schemas import SmsDraft
from tests.support.messages_of import add_phone

pytestmark = pytest.mark.anyio

STORED = """
    SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM message_queue),
           (SELECT sum(n) FROM usage_deltas WHERE kind = 'accepted')
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def draw(ali, sql):
    """Sends of an account with a phone, as the hot call makes them."""
    add_phone(sql, ali)
    credentials = parse_token(ali.headers["Authorization"].removeprefix("Bearer "))
    draft = SmsDraft(message="Hello", recipient_number="+998901234567")

    def of(count: int, **key: str) -> list[requests.Send]:
        return [requests.Send(credentials, draft, **key) for _ in range(count)]

    return of


def test_sends_without_keys_are_written_by_their_statement_alone(draw, sql):
    with transaction(hot=True, autocommit=True) as session:
        accepted = intake.accept(session, draw(3))
        assert sql.execute(STORED).fetchone() == (3, 3, 3), "before anybody commits"
    assert all(outcome["status"] == "pending" for outcome in accepted)


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_batch_that_is_run_again_writes_nothing_twice(draw, sql, autocommit):
    sends = draw(3)
    answers = []
    for _ in range(2):
        with transaction(hot=True, autocommit=autocommit) as session:
            answers.append(intake.accept(session, sends))
    assert answers[0] == answers[1]
    assert sql.execute(STORED).fetchone() == (3, 3, 3)


async def test_a_connection_that_dies_after_the_write_answers_everybody_once(draw, sql):
    written = []

    def accept_and_die(session, sends):
        outcomes = intake.accept(session, sends)
        written.append(len(sends))
        if len(written) == 1:
            session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return outcomes

    batcher = Batcher("accept", accept_and_die, intake.is_one_statement)
    outcomes = await asyncio.gather(*map(batcher.submit, draw(5)))
    assert len({outcome["id"] for outcome in outcomes}) == 5
    assert written[0] == written[1], "the first batch was repeated"
    assert sql.execute(STORED).fetchone() == (5, 5, 5)


async def test_one_with_a_key_is_written_with_the_others(draw, sql):
    batcher = Batcher("accept", intake.accept, intake.is_one_statement)
    sends = [*draw(2), *draw(1, idempotency_key="order-1"), *draw(2)]
    outcomes = await asyncio.gather(*map(batcher.submit, sends))
    again = await batcher.submit(draw(1, idempotency_key="order-1")[0])
    assert again == outcomes[2]
    assert sql.execute(STORED).fetchone() == (5, 5, 5)


async def test_a_queue_waits_for_those_it_has_just_answered_and_no_longer(draw, monkeypatch):
    monkeypatch.setattr(batching, "PEER_WAIT_SECONDS", 1000)
    sizes: list[int] = []

    def accept(session, sends):
        sizes.append(len(sends))
        return intake.accept(session, sends)

    batcher = Batcher("accept", accept, intake.is_one_statement)
    answered = 0
    enough = asyncio.Event()

    async def caller() -> None:
        nonlocal answered
        while True:
            await batcher.submit(draw(1)[0])
            answered += 1
            if answered > 60:
                enough.set()

    callers = [asyncio.create_task(caller()) for _ in range(6)]
    await enough.wait()
    for task in callers:
        task.cancel()
    assert sizes[-1] == 6, "all of them, each time"


async def test_a_queue_that_has_a_full_batch_waits_for_nobody(draw, monkeypatch):
    monkeypatch.setattr(batching, "PEER_WAIT_SECONDS", 1000)
    monkeypatch.setattr(batching, "BATCH_SIZE", 2)
    batcher = Batcher("accept", intake.accept, intake.is_one_statement)
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*map(batcher.submit, draw(8)))
    assert len({outcome["id"] for outcome in outcomes}) == 8


async def test_callers_in_two_halves_come_to_share_a_batch(draw, monkeypatch):
    monkeypatch.setattr(batching, "PEER_WAIT_SECONDS", 1000)
    sizes: list[int] = []
    begun = asyncio.Event()
    others_came = threading.Event()
    loop = asyncio.get_running_loop()

    def accept(session, sends):
        sizes.append(len(sends))
        loop.call_soon_threadsafe(begun.set)
        assert others_came.wait(10)
        return intake.accept(session, sends)

    batcher = Batcher("accept", accept, intake.is_one_statement)

    async def caller(times: int) -> None:
        for _ in range(times):
            await batcher.submit(draw(1)[0])

    first = [asyncio.create_task(caller(2)) for _ in range(3)]
    await begun.wait()
    second = [asyncio.create_task(caller(1)) for _ in range(3)]
    await asyncio.sleep(0)
    others_came.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*first, *second)
    assert sizes == [3, 6]
