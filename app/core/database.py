"""The database: the declarative base, the engine, and the one way to open and commit a transaction.

A request, or one batch of a task, is one transaction. It is opened and committed at the edge: by
`dependencies.get_session` for requests, by the task base class for tasks, by `core.batching` for the hot calls. Domain
functions take `session` first and never commit. What must leave the process after the commit (nudges, wakes) is
collected on the session.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

import psycopg
import structlog
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Engine,
    Identity,
    MetaData,
    create_engine,
    event,
    func,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

from app.core import connecting, metrics, outbound
from app.core.errors import is_deadlock
from app.core.hot_session import HotSession
from app.core.once import once
from app.core.settings import get_settings
from app.core.sizes import KEPT_CONNECTIONS, KEPT_HOT_CONNECTIONS

MAX_CONNECTIONS, MAX_HOT_CONNECTIONS = 50, 15
# The role's own limit is short, for the hot calls: who shares a transaction with others waits for nobody.
_LONG_LOCK_TIMEOUT = text("SELECT current_setting('transaction_read_only') FROM set_config('lock_timeout', '5s', true)")
_STEP_BY_INDEX = text("SET LOCAL enable_bitmapscan = off")

# For a table whose rows come and go within seconds: cared for by the number of rows that changed, whatever it holds.
QUEUE_STORAGE = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_insert_scale_factor": "0",
    "autovacuum_vacuum_insert_threshold": "10000",
    "autovacuum_analyze_scale_factor": "0",
    "autovacuum_analyze_threshold": "5000",
    "autovacuum_vacuum_cost_delay": "0",
}

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class Base(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: DateTime(timezone=True), int: BigInteger}  # noqa: RUF012 - read by SQLAlchemy, never changed


def one_of(column: str, words: Iterable[str]) -> CheckConstraint:
    """A column that holds these words and no others."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def columns_of(table: type[Base], alias: str = "") -> str:
    """The names of all of a table's columns, for SQL.

    A prepared `SELECT *` fails when a migration adds a column, and the old version still serves then.
    """
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + column.name for column in table.__table__.columns)


BigId = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())]


@once
def get_engine() -> Engine:
    """The process's engine. Its pool is larger than all that `core.places` lets ask at once, so none waits for one."""
    kept = KEPT_CONNECTIONS[get_settings().size]
    return _make_engine("plain", pool_size=kept, max_overflow=MAX_CONNECTIONS - kept)


@once
def get_hot_engine() -> Engine:
    """The engine of hot transactions, whose statements are planned once a connection.

    They go by keys and in the order of an index, so that their parameters tell the planner nothing; to plan them anew
    each time was a tenth of what a campaign costs the database.
    """
    kept = KEPT_HOT_CONNECTIONS[get_settings().size]
    engine = _make_engine("hot", pool_size=kept, max_overflow=MAX_HOT_CONNECTIONS - kept)
    event.listen(engine, "connect", _plan_once)
    return engine


def close_engines() -> None:
    """Close the process's connections and forget where they led; for tests and benchmarks, which change servers."""
    for engine in (get_engine, get_hot_engine):
        if (made := engine.made) is not None:
            event.listen(made.pool, "checkin", _close)  # what is in use comes back to a pool that nobody asks again
            made.dispose()
            engine.cache_clear()
    connecting.forget_servers()


def _close(_: object, record: ConnectionPoolEntry) -> None:
    record.invalidate()


def _make_engine(kind: str, **pool: int) -> Engine:
    settings = get_settings()
    connect_args = dict(connecting.CONNECT_ARGUMENTS)
    if not settings.database_prepared_statements:
        connect_args["prepare_threshold"] = None
    engine = create_engine(
        settings.database_dsn,
        pool_use_lifo=True,  # what a server's process has planned and cached is used again
        pool_recycle=1800,
        hide_parameters=True,  # they hold texts and numbers, which are never logged
        connect_args=connect_args,
        **pool,
    )
    connecting.prepare(engine)
    metrics.watch_engine(engine, kind)
    return engine


def _plan_once(connection: psycopg.Connection, _: object) -> None:
    if connection.prepare_threshold is not None:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.commit()


@contextmanager
def transaction(*, hot: bool = False, autocommit: bool = False) -> Iterator[Session]:
    """One transaction; what `core.outbound` collected during it leaves the process after the commit, and only then.

    A `hot` one gives up a lock after the role's 300 ms unless it sets that itself, and its caller repeats it, on a lost
    connection too. With `autocommit`, for hot ones, each statement is a transaction of its own, and two round trips are
    saved: for work that writes in one statement and needs nothing to hold still before it.
    """
    kind, engine = (HotSession, get_hot_engine()) if hot else (Session, get_engine())
    with kind(engine, expire_on_commit=False) as session:
        if autocommit:
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        if not hot:
            _be_patient(session)
        yield session
        session.commit()
        metrics.add(session)
        outbound.publish(session)


def _be_patient(session: Session) -> None:
    """Wait longer for locks. As the first statement it also finds a connection that died, or whose server has become
    a standby; another is taken then.
    """
    try:
        if session.scalar(_LONG_LOCK_TIMEOUT) == "off":
            return
        session.connection().invalidate()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    session.rollback()
    session.execute(_LONG_LOCK_TIMEOUT)


def repeat_once(work: Callable[[], Result], may_repeat: Callable[[Exception], bool] = is_deadlock) -> Result:
    """`work`, a whole transaction, and once more on a lost connection or where `may_repeat` says so."""
    try:
        return work()
    except DBAPIError as error:
        if not (error.connection_invalidated or may_repeat(error)):
            raise
        log.info("retrying transaction", error=error)
    return work()


def interval(period: timedelta) -> str:
    """SQL for a constant length of time, of whole seconds."""
    return f"interval '{int(period.total_seconds())} seconds'"


def in_place(table: str, which: str) -> str:
    """SQL for a condition on a table's rows, to delete batches: those that `which`, all behind `FROM table`, selects.

    By where they lie, and not by their keys: in a join of the table with itself each may be compared with each, which
    costs nothing by the statistics of a table that was empty a moment ago. What somebody just wrote anew stays.
    """
    return f"ctid = ANY(ARRAY(SELECT ctid FROM {table} {which}))"  # noqa: S608 - the caller's constants


def among(key: str, chosen: str) -> str:
    """SQL for a condition on a table's key: it is one of the `chosen` rows'. Wanted beside a join, or in its place.

    An array leads to the key's index. A join alone may read all there is and compare it with each of the rows, which
    costs nothing by the statistics of a queue that was empty a moment ago.
    """
    return f"{key} = ANY(ARRAY(SELECT {key.rpartition('.')[2]} FROM {chosen}))"  # noqa: S608 - the caller's constants


def step_by_index(session: Session) -> None:
    """For statements that step through an index from place to place, for the rest of this transaction.

    With the statistics of a table that was empty a moment ago the planner would gather and sort all later rows at each
    step: 10,000 places were seen to take longer than a statement may.
    """
    session.execute(_STEP_BY_INDEX)
