"""The queue stays quick and small while somebody holds a snapshot open, which keeps every dead row alive."""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import text

from app.accounts.principals import principal_of
from app.core.database import transaction
from app.core.security import digest
from app.core.vacuuming import analyze, vacuum
from app.devices.enrolling import enroll
from app.messages.accepting import bulk
from app.messages.dispatch import handout, routing
from app.messages.life import opting_out, reports
from app.messages.schemas import BulkDraft
from tests.conftest import Servers
from tests.support.waiting import until

MESSAGES = 30_000
PHONES = 20

pytestmark = pytest.mark.timeout(300)


@contextmanager
def snapshot(url: str) -> Iterator[None]:
    """A reader of the whole queue that does not end its transaction, as a backup does."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("SELECT count(*) FROM message_queue")
        yield


def accept(numbers: int) -> tuple[int, list[str]]:
    """A user with phones, and a bulk of messages; the user's number and the phones' tokens."""
    with transaction() as session:
        user_id = session.scalar(text("INSERT INTO users (name, email) VALUES ('A', 'a@x.example') RETURNING id"))
        token_id = session.scalar(
            text(
                "INSERT INTO tokens (user_id, kind, name, secret_hash, abilities)"
                " VALUES (:user, 'key', 'k', :hash, '{*}') RETURNING id"
            ),
            {"user": user_id, "hash": digest("secret")},
        )
        principal = principal_of(session, (token_id, digest("secret")))
        tokens = [enroll(session, principal, f"phone-{n}", [], None)[1] for n in range(PHONES)]
    draft = BulkDraft(message="Hello", recipients=[f"+99890{n:07d}" for n in range(numbers)], device_id="active")
    bulk.send(principal, draft, None, b"")
    return user_id, tokens


def analyzed() -> list[str]:
    with transaction() as session:
        return analyze(session)


def campaign(user_id: int, tokens: list[str]) -> tuple[int, list[float]]:
    """Route, hand out and report until nothing is left; how many were handed out, and seconds of each pull."""
    handed, pulls = 0, []
    while True:
        for _ in range(4):
            with transaction() as session:
                routing.route_waiting(session, user_id)
        began = time.perf_counter()
        with transaction() as session:
            answers = opting_out.hand_out(session, [handout.Pull(digest(token)) for token in tokens])
        pulls.append(time.perf_counter() - began)
        released = [message for answer in answers for message in answer[1]]
        if not released:
            return handed, pulls
        handed += len(released)
        told = [reports.Report(reports.wire_name(m.message_id, m.attempt), "Delivered") for m in released]
        with transaction() as session:
            reports.record(session, [reports.Reported(digest(tokens[0]), told)])


def test_a_campaign_is_handed_out_while_a_snapshot_is_open(database: Servers) -> None:
    url = database.postgres.url
    user_id, tokens = accept(MESSAGES)
    until(lambda: "message_queue" in analyzed())
    with snapshot(url):
        handed, pulls = campaign(user_id, tokens)
        assert handed == MESSAGES
    rest = len(pulls) // 4
    first, last = statistics.median(pulls[:rest]), statistics.median(pulls[-rest:])
    sys.stderr.write(
        f"pulls of {PHONES} phones: median {first * 1000:.1f} ms in the first quarter, {last * 1000:.1f} ms in the last"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)
        connection.execute("VACUUM message_queue")
        assert connection.execute("SELECT pg_relation_size('message_queue')").fetchone() == (0,)


def test_a_queue_that_has_filled_is_analyzed_at_once(database: Servers) -> None:
    accept(6000)
    until(lambda: "message_queue" in analyzed())  # the server's own figures come a second late
    with psycopg.connect(database.postgres.url) as connection:
        rows = connection.execute("SELECT reltuples FROM pg_class WHERE relname = 'message_queue'").fetchone()
    assert rows == (6000,)


def test_a_queue_that_has_emptied_is_vacuumed_at_once(database: Servers) -> None:
    accept(12_000)
    with psycopg.connect(database.postgres.url, autocommit=True) as connection, without_autovacuum(connection):
        connection.execute("DELETE FROM message_queue WHERE message_id % 12 <> 0")

        def dead() -> int:
            row = connection.execute("SELECT dead_tuple_count FROM pgstattuple('message_queue')").fetchone()
            return row[0] if row else 0

        connection.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
        assert dead() == 11_000
        until(lambda: "message_queue" in vacuumed())  # the server's own figures come a second late
        assert dead() == 0
        assert vacuumed() == []


@contextmanager
def without_autovacuum(connection: psycopg.Connection) -> Iterator[None]:
    connection.execute("ALTER TABLE message_queue SET (autovacuum_enabled = off)")
    yield
    connection.execute("ALTER TABLE message_queue RESET (autovacuum_enabled)")


def vacuumed() -> list[str]:
    with transaction(hot=True, autocommit=True) as session:
        return vacuum(session)
