"""What is said to psycopg directly is what SQLAlchemy would have said, and fails as it would."""

import os
import signal
import threading
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, StatementError

from app.core import metrics
from app.core.database import get_hot_engine, repeat_once, transaction
from app.core.hot_session import HotSession
from app.messages.models import Template
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("gateway")

_ROWS = text(
    "SELECT u.n, u.name, '50 %' AS share FROM unnest(CAST(:n AS bigint[]), CAST(:name AS text[])) AS u(n, name)"
)
_TWO = {"n": [1, 2], "name": ["я", None]}


@pytest.fixture
def sessions():
    """One of either kind, each in a transaction of its own."""
    with transaction(hot=True) as hot, transaction() as plain:
        assert isinstance(hot, HotSession)
        assert not isinstance(plain, HotSession)
        yield hot, plain


@pytest.mark.parametrize(
    "read",
    [
        lambda session: session.execute(_ROWS, _TWO).all(),
        lambda session: [(row.n, row.share) for row in session.execute(_ROWS, _TWO)],
        lambda session: [dict(row) for row in session.execute(_ROWS, _TWO).mappings()],
        lambda session: session.execute(_ROWS, {"n": [1], "name": ["x"]}).one(),
        lambda session: session.execute(_ROWS, {"n": [], "name": []}).one_or_none(),
        lambda session: session.scalars(_ROWS, _TWO).all(),
        lambda session: session.scalar(_ROWS, {"n": [], "name": []}),
        lambda session: session.scalar(text("SELECT '\\:n'::text || :n || CAST(:n AS text)"), {"n": "x", "more": 1}),
        lambda session: session.scalar(text("SELECT CAST(:id AS uuid)"), {"id": UUID(int=7)}),
        lambda session: session.scalar(select(Template.id)),
    ],
)
def test_both_kinds_answer_the_same(sessions, read):
    hot, plain = sessions
    assert read(hot) == read(plain)


def test_what_the_session_holds_is_written_before(sql):
    with transaction(hot=True) as session:
        session.add(Template(user_id=1, name="a", message="x"))
        session.execute(text("UPDATE templates SET message = message || 'y'"))
        session.execute(text("UPDATE templates SET name = :name"), [{"name": "b"}, {"name": "c"}])
    assert sql.execute("SELECT name, message FROM templates").fetchall() == [("c", "xy")]


_INSERT = text("INSERT INTO templates (user_id, name, message) VALUES (1, :name, '')")


def test_an_error_is_of_sqlalchemys_kind_and_tells_no_values(sql):
    with transaction(hot=True) as session:
        session.execute(_INSERT, {"name": "secret"})
        with pytest.raises(IntegrityError, match="uq_templates_user_name") as failed, session.begin_nested():
            session.execute(_INSERT, {"name": "secret"})
        assert "secret" not in f"{failed.value!r} {failed.value} {failed.value.orig}"
        with pytest.raises(DataError), session.begin_nested():
            session.execute(text("SELECT 1 / CAST(:n AS int)"), {"n": 0})
        session.execute(_INSERT, {"name": "other"})
    assert sql.execute("SELECT count(*) FROM templates").fetchone() == (2,)


def test_a_value_that_cannot_be_sent_is_its_callers_error():
    with transaction(hot=True) as session:
        with pytest.raises(UnicodeEncodeError) as failed, session.begin_nested():
            session.scalar(text("SELECT CAST(:text AS text)"), {"text": "\ud800"})
        assert not isinstance(failed.value, StatementError)
        assert session.scalar(text("SELECT 1")) == 1


_BACKEND = text("SELECT pg_backend_pid()")


def test_a_lost_connection_is_replaced_and_the_work_done_again(sql):
    pids = []

    def work():
        with transaction(hot=True) as session:
            pids.append(session.scalar(_BACKEND))
            if len(pids) == 1:
                sql.execute("SELECT pg_terminate_backend(%s)", pids)
            return session.scalar(_BACKEND)

    assert repeat_once(work) == pids[1] != pids[0]
    assert get_hot_engine().pool.checkedout() == 0


def test_a_lost_connection_says_that_it_is():
    with pytest.raises(OperationalError) as failed, transaction(hot=True) as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert failed.value.connection_invalidated
    assert isinstance(failed.value.orig, psycopg.OperationalError)


def test_a_connection_is_given_up_where_its_process_is_told_to_end(sql):
    def end(*_):
        raise SystemExit

    def tell():
        active = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"
        until(lambda: sql.execute(active).fetchone()[0])
        os.kill(os.getpid(), signal.SIGUSR1)

    pids, before = [], signal.signal(signal.SIGUSR1, end)
    teller = threading.Thread(target=tell)

    def work():
        with transaction(hot=True) as session:
            pids.append(session.scalar(_BACKEND))
            teller.start()
            session.execute(text("SELECT pg_sleep(30)"))

    try:
        with pytest.raises(SystemExit):
            work()
    finally:
        teller.join()
        signal.signal(signal.SIGUSR1, before)
    with transaction(hot=True) as session:
        assert session.scalar(_BACKEND) not in pids


def test_its_statements_are_measured():
    def measured():
        lines = metrics.exposition().decode().splitlines()
        (line,) = [
            line for line in lines if "smsfleet_statement_duration_seconds_count" in line and 'kind="hot"' in line
        ]
        return float(line.split()[-1])

    before = measured()
    with transaction(hot=True) as session:
        session.scalar(_BACKEND)
    assert measured() > before
