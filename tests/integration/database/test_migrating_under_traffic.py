"""A migration changes tables while this version serves: nobody is told of it."""

import asyncio

import pytest
from sqlalchemy import text

from app.core.batching import Batcher
from app.core.database import close_engines, get_hot_engine
from workers.base import in_transaction

TABLES = (
    "users",
    "tokens",
    "devices",
    "device_state",
    "device_releases",
    "dispatch_cursors",
    "messages",
    "message_queue",
    "inbound_seen",
    "contacts",
    "webhook_urls",
    "webhook_deliveries",
    "webhook_queue",
    "usage_totals",
    "usage_deltas",
)


def test_columns_are_added_under_traffic(traffic, owner):
    traffic.run(10)  # each statement is prepared by then, on some connection
    try:
        with traffic.running():
            for table in TABLES:
                owner.execute(f"ALTER TABLE {table} ADD COLUMN added_later bigint NOT NULL DEFAULT 7")
            traffic.wait_for(200)
    finally:
        for table in TABLES:
            owner.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS added_later")
    assert traffic.failures == []
    assert {"send", "pull", "report", "hook", "bulk", "timeline", "/api/sms"} <= traffic.kinds


@pytest.fixture
def changing(owner):
    """A table whose column gets another type: what was prepared for it fails once."""
    close_engines()  # one connection is used from here on
    owner.execute("CREATE TABLE changing AS SELECT 1 AS n")
    owner.execute("GRANT ALL ON changing TO PUBLIC")
    yield lambda: owner.execute("ALTER TABLE changing ALTER COLUMN n TYPE bigint")
    owner.execute("DROP TABLE changing")


def read(session, items=(0,)):
    return [session.scalar(text("SELECT n FROM changing")) for _ in items]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_batch_is_repeated_on_a_connection_that_has_prepared_nothing(changing, autocommit):
    batcher = Batcher("read", read, autocommit=lambda _: autocommit)

    async def several(times):
        return [await batcher.submit(n) for n in range(times)]

    assert asyncio.run(several(10)) == [1] * 10
    with get_hot_engine().connect() as connection:
        assert connection.connection.driver_connection._prepared._names, "else nothing is shown here"
    changing()
    assert asyncio.run(several(10)) == [1] * 10


def test_a_task_is_repeated(changing):
    for _ in range(10):
        in_transaction(read)
    changing()
    assert in_transaction(read) == [1]
