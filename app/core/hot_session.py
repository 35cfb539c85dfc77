"""The session of hot transactions: SQL that is written out goes to psycopg without what SQLAlchemy does around it.

To look up a compiled text, to make a context for it and to learn the columns of its result takes the process longer
than psycopg takes for the statement. Connections, transactions, events and errors are SQLAlchemy's all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import psycopg
from sqlalchemy import TextClause, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection, IteratorResult, Result, ScalarResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.orm import Session

# More than there are statements.
_MAX_STATEMENTS = 500
_DIALECT = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


class HotSession(Session):
    """Executes `text` with parameters that psycopg knows how to send, for results that fit in memory.

    Such a result does not tell how many rows were written.
    """

    def execute(self, statement: Any, params: Any = None, **options: Any) -> Result[Any]:
        if options or not isinstance(statement, TextClause) or isinstance(params, list):
            return super().execute(statement, params, **options)
        self.flush()
        return _execute(self.connection(), _prepared(statement.text), params or {})

    def scalars(self, statement: Any, params: Any = None, **options: Any) -> ScalarResult[Any]:
        return self.execute(statement, params, **options).scalars()

    def scalar(self, statement: Any, params: Any = None, **options: Any) -> Any:
        return self.execute(statement, params, **options).scalar()


@dataclass(slots=True)
class _Prepared:
    """A statement as PostgreSQL reads it, the names of its parameters, and its columns once they are known."""

    sql: str
    names: tuple[str, ...]
    columns: SimpleResultMetaData | None = None


@lru_cache(_MAX_STATEMENTS)
def _prepared(statement: str) -> _Prepared:
    compiled = text(statement).compile(dialect=_DIALECT)
    return _Prepared(str(compiled), tuple(compiled.positiontup or ()))


def _execute(connection: Connection, prepared: _Prepared, params: Mapping[str, Any]) -> Result[Any]:
    values = [params[name] for name in prepared.names]
    driver: Any = connection.connection.driver_connection
    cursor: Any = psycopg.RawCursor(driver)
    told = (connection, cursor, prepared.sql, values, SimpleNamespace(), False)
    for listener in connection.dispatch.before_cursor_execute:
        listener(*told)
    try:
        cursor.execute(prepared.sql, values)
        rows = cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []
    except BaseException as error:  # noqa: BLE001 - it is raised again
        # What SQLAlchemy does where a statement of its own fails: it has no other name.
        sql = prepared.sql if isinstance(error, psycopg.Error) else None
        connection._handle_dbapi_exception(error, sql, values, cursor, None)  # noqa: SLF001
    for listener in connection.dispatch.after_cursor_execute:
        listener(*told)
    if prepared.columns is None:
        prepared.columns = SimpleResultMetaData([column.name for column in cursor.description or ()])
    return IteratorResult(prepared.columns, iter(rows))
