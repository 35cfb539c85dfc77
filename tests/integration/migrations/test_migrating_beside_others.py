"""A migration waits for whoever reads its tables; nobody who serves waits behind it."""

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from app.migrations.config import migrate
from app.migrations.revisions import revisions
from tests.support.waiting import until


@pytest.fixture
def older(servers, configured) -> Iterator[str]:
    """The address of a database of an earlier schema."""
    with psycopg.connect(servers.postgres.url_of("postgres"), autocommit=True) as owner:
        owner.execute("DROP DATABASE IF EXISTS older")
        owner.execute("CREATE DATABASE older")
        configured(DATABASE_URL=servers.postgres.url_of("older"))
        migrate(revision="0027")
        yield servers.postgres.url_of("older")
        owner.execute("DROP DATABASE older WITH (FORCE)")


def test_a_transaction_that_stays_open_delays_the_migration_and_nobody_else(older: str) -> None:
    with (
        psycopg.connect(older, options="-c idle_in_transaction_session_timeout=0") as long,
        psycopg.connect(older, autocommit=True) as serving,
    ):
        long.execute("SELECT count(*) FROM opt_outs")  # as pg_dump does with each table
        migration = threading.Thread(target=migrate, daemon=True)
        migration.start()
        until(lambda: serving.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
        until(lambda: _answers(serving), seconds=5)
        assert migration.is_alive()
        long.rollback()
        migration.join(60)
        assert serving.execute("SELECT version_num FROM alembic_version").fetchone() == (revisions()[0],)


def _answers(serving: psycopg.Connection) -> bool:
    try:
        serving.execute("SELECT count(*) FROM opt_outs WHERE user_id = 1")
    except psycopg.errors.LockNotAvailable:
        time.sleep(0.05)
        return False
    return True
