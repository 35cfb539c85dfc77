"""The database: the declarative base, the engine, and the one way to open and commit a transaction.

A request, or one batch of a task, is one transaction. It is opened and committed at the edge: by `get_session` for
requests, by the task base class for tasks, by `core.batching` for the hot calls. Domain functions take `session` first
and never commit. What must leave the process after the commit (nudges, wakes) is collected on the session.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import psycopg
from fastapi import Depends
from sqlalchemy import BigInteger, DateTime, Engine, Identity, MetaData, create_engine, event, func
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

from app.core import outbound
from app.core.once import once
from app.core.settings import get_settings

IDLE_SECONDS = 1.0


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


BigId = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())]


@once
def get_engine() -> Engine:
    """The process's engine. Its pool is larger than the 40 threads that answer plain routes, so none waits for one."""
    settings = get_settings()
    connect_args: dict[str, Any] = {"connect_timeout": 5}
    if not settings.database_prepared_statements:
        connect_args["prepare_threshold"] = None
    engine = create_engine(
        settings.database_dsn,
        pool_size=20,
        max_overflow=30,
        pool_recycle=1800,
        hide_parameters=True,  # they hold texts and numbers, which are never logged
        connect_args=connect_args,
    )
    event.listen(engine, "checkin", _note_idle)
    event.listen(engine, "checkout", _ping_idle)
    return engine


def _note_idle(_: Any, record: ConnectionPoolEntry) -> None:
    record.info["idle_since"] = time.monotonic()


def _ping_idle(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
    """A connection that has been idle may be dead; one that was used a moment ago is not worth a round trip."""
    if time.monotonic() - record.info.get("idle_since", time.monotonic()) < IDLE_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except psycopg.Error as error:
        raise DisconnectionError from error


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction; what `core.outbound` collected during it leaves the process after the commit, and only then."""
    with Session(get_engine(), expire_on_commit=False) as session:
        with session.begin():
            yield session
        outbound.publish(session)


def get_session() -> Iterator[Session]:
    with transaction() as session:
        yield session


# "function" scope: the commit happens before the answer is sent, so a failed commit is a failed request.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]
