"""The queue stays quick and small while somebody holds a snapshot open, which keeps every dead row alive."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.principals import principal_of
from app.core import vacuuming
from app.core.database import close_engines, transaction
from app.core.security import digest
from app.core.vacuuming import analyze, vacuum
from app.devices.enrolling import enroll
from app.messages.accepting import bulk
from app.messages.dispatch import handout, marks, routing, sweeping
from app.messages.life import moving, opting_out, reports
from app.messages.schemas import BulkDraft
from app.messages.states import Stage
from tests.conftest import Servers
from tests.support.waiting import until

MESSAGES = 30_000
PHONES = 20

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def own_connections(database: Servers) -> None:
    """None that was ended by a test before, as the server's administrator would."""
    close_engines()


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


# Also of transactions before that the server has not counted yet.
_READ = text("""
    SELECT CAST(sum(pg_stat_get_xact_tuples_returned(indexrelid)) AS bigint)
    FROM pg_index WHERE indrelid = 'message_queue'::regclass
""")


def turn(user_id: int, tokens: list[str]) -> tuple[int, int]:
    """Route, hand out, report and sweep once: how many were handed out, and how many entries of indexes were read."""
    read = 0

    def work(session: Session, what: Callable[..., Any], *arguments: object) -> Any:
        nonlocal read
        before = session.scalar(_READ)
        result = what(session, *arguments)
        read += session.scalar(_READ) - before
        return result

    with transaction() as session:
        work(session, routing.route_waiting, user_id)
    with transaction() as session:
        answers = work(session, opting_out.hand_out, [handout.Pull(digest(token)) for token in tokens])
    released = [message for answer in answers for message in answer[1]]
    told = [reports.Report(reports.wire_name(m.message_id, m.attempt), "Delivered") for m in released]
    with transaction() as session:
        work(session, reports.record, [reports.Reported(digest(tokens[0]), told)])
    with transaction() as session:
        work(session, sweeping.sweep)
    with transaction() as session:
        work(session, moving.move, user_id)
    return len(released), read


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process of upkeep knows when it starts."""
    monkeypatch.setattr(marks, "_memory", marks._Memory())
    monkeypatch.setattr(vacuuming, "_rests_until", {})


def marked(*, vacuum: bool = True) -> int:
    """See to the queue as upkeep does; how many marks there are."""
    from workers import upkeep

    if vacuum:
        upkeep.vacuum()
    upkeep.mark()
    with transaction() as session:
        return session.scalar(text("SELECT count(*) FROM queue_marks WHERE user_id > 0"))


@pytest.mark.usefixtures("nothing_known")
def test_what_a_look_reads_does_not_grow_with_what_is_gone(database: Servers) -> None:
    url = database.postgres.url
    user_id, tokens = accept(9_000)
    until(lambda: "message_queue" in analyzed())
    with snapshot(url):
        _, at_first = turn(user_id, tokens)
        for _ in range(14):
            _, read = turn(user_id, tokens)
        assert read > 3 * at_first, "without marks it does grow"
        until(lambda: marked() == PHONES + 1)
        handed, read = turn(user_id, tokens)
        assert handed
        assert read < 2 * at_first
        campaign(user_id, tokens)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)
    until(lambda: not marked())


@pytest.mark.usefixtures("nothing_known")
def test_what_comes_back_with_a_number_from_before_is_found(database: Servers) -> None:
    url = database.postgres.url
    user_id, tokens = accept(100)
    with psycopg.connect(url, autocommit=True) as connection:
        first = "UPDATE message_queue SET stage = %s WHERE message_id = (SELECT min(id) FROM messages)"
        connection.execute(first, [Stage.HELD])
        while turn(user_id, tokens)[0]:
            pass
        connection.execute("INSERT INTO queue_marks VALUES (0, 0, '{}')")
        until(lambda: marked(vacuum=False) == PHONES + 1)
        connection.execute(first, [Stage.WAITING])
        assert turn(user_id, tokens)[0] == 0, "no mark leads there"
        until(lambda: marked(vacuum=False) and turn(user_id, tokens)[0] == 1)


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
