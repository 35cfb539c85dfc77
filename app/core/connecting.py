"""What every connection to the database has in common, and how they are opened while the database is away.

Nothing here needs start-up options, which PgBouncer refuses in transaction mode.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import structlog
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import ExceptionContext

from app.core import outages
from app.core.errors import loses_connection
from app.core.once import once

# An installation has four processes or a few more: together they ask a database that is away less than ten times a
# second.
RECONNECT_SECONDS = 1.0
# libpq's hint where nothing listens: asking again bothers nobody.
_NOBODY_THERE = "Is the server running"

# What the code relies on, whatever the defaults of the role and the server are. `migrations.role` sets the same on the
# role, for poolers that do not carry a session's settings from one server connection to the next.
PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
}
_ASK = "SELECT pg_backend_pid(), " + ", ".join(
    f"set_config('{name}', '{value}', false)" for name, value in PINNED.items()
)

# A server that is gone without a word is noticed before the network's own limits, which are many minutes.
CONNECT_ARGUMENTS: dict[str, Any] = {
    "client_encoding": "utf8",
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# What a URL may list for each of several hosts.
_BY_HOST = ("host", "hostaddr", "port")

_FIRST = datetime(1, 1, 1, tzinfo=UTC)
_LAST = datetime(9999, 1, 1, tzinfo=UTC)  # with room for what is added to it

log = structlog.get_logger(__name__)


def prepare(engine: Engine) -> None:
    """Have the engine's connections opened, set up and given up as described here."""
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "handle_error", _handle_error)


def pin_settings(connection: psycopg.Connection[Any]) -> bool:
    """Set what the code relies on; True if a pooler serves the connection's transactions by any of its own.

    Asked twice, each time in a transaction of its own. A pooler also makes up the process id that it greets with.
    """
    connection.autocommit = True
    pids = {connection.info.backend_pid}
    for _ in range(2):
        row = connection.execute(_ASK).fetchone()
        assert row
        pids.add(row[0])
    connection.autocommit = False
    return len(pids) > 1


def _set_up(connection: psycopg.Connection[Any], _: object) -> None:
    if pin_settings(connection):
        # What one server connection has prepared, another does not know.
        connection.prepare_threshold = None
        _log_pooler()
    # As text each quote in an array of JSON is escaped by a regular expression: a fifth of all that a report costs.
    connection.adapters.register_dumper(list, ListBinaryDumper)
    connection.adapters.register_loader("timestamptz", _TimestampLoader)


@once
def _log_pooler() -> bool:
    log.warning("the database is behind a pooler such as PgBouncer: prepared statements are disabled")
    return True


class _TimestampLoader(Loader):
    """Times that Python cannot hold (infinity, before Christ, after 9999) become the nearest that it can."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        loader = psycopg.adapters.get_loader(oid, Format.TEXT)
        assert loader
        self._load = loader(oid, context).load

    def load(self, data: Buffer) -> datetime:
        try:
            moment: datetime = self._load(data)
        except psycopg.DataError:
            text = bytes(data)
            return _FIRST if text.startswith(b"-") or text.endswith(b"BC") else _LAST
        return moment


def _handle_error(context: ExceptionContext) -> None:
    """Give up the connection, and all that are as old, where another may be of more use."""
    if loses_connection(context.original_exception):
        context.is_disconnect = True
    if context.is_disconnect:
        _door().lost()
    drop_details(context.original_exception, context.sqlalchemy_exception)


def drop_details(error: BaseException, around: BaseException | None = None) -> None:
    """Leave of what the server said only its first line, in `around` too: the others hold values of rows (texts,
    numbers, addresses), and errors are logged.
    """
    if isinstance(error, psycopg.Error) and (first := error.diag.message_primary):
        said = str(error)
        error.args = (first,)
        if around is not None:
            around.args = tuple(arg.replace(said, first) if isinstance(arg, str) else arg for arg in around.args)


class _Door:
    """Opens connections: after a loss one at a time, and none for a second after a server refused or did not answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_lost = False
        self._closed_until = 0.0

    def lost(self) -> None:
        self._is_lost = True

    def open(self, connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        if not self._is_lost:
            return self._try(connect)
        with self._lock:
            if time.monotonic() < self._closed_until:
                raise psycopg.OperationalError("the database was away a moment ago")
            return self._try(connect)

    def _try(self, connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        try:
            connection = connect()
        except psycopg.OperationalError as error:
            self._is_lost = True
            if _NOBODY_THERE not in str(error):
                self._closed_until = time.monotonic() + RECONNECT_SECONDS
            raise
        self._is_lost = False
        outages.over("database")
        return connection


class _Hosts:
    """Of several hosts in the URL, asks the one first that took the last connection.

    One that is gone without a word costs whoever asks it five seconds.
    """

    def __init__(self) -> None:
        self._first = 0

    def connect(
        self, connect: Callable[..., psycopg.Connection[Any]], named: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        lists = {name: values for name in _BY_HOST if len(values := str(named.get(name, "")).split(",")) > 1}
        if not lists:
            return connect(**named)
        first = self._first
        connection = connect(
            **named | {name: ",".join(values[first:] + values[:first]) for name, values in lists.items()}
        )
        info = connection.info
        there = {"host": info.host, "hostaddr": info.hostaddr, "port": str(info.port)}
        found = (
            place
            for place, values in enumerate(zip(*lists.values(), strict=True))
            if all(value in {"", there[name]} for name, value in zip(lists, values, strict=True))
        )
        self._first = next(found, first)
        return connection


_door = once(_Door)
_hosts = once(_Hosts)


def forget_servers() -> None:
    """What is known of the servers until now says nothing about those that are connected to from now on."""
    _door.cache_clear()
    _hosts.cache_clear()


def _connect(dialect: Any, _: object, arguments: Any, named: dict[str, Any]) -> psycopg.Connection[Any]:
    return _door().open(lambda: _hosts().connect(partial(dialect.connect, *arguments), named))
