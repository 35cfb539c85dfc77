"""Many rows in one statement: array parameters and COPY, with types taken from the models.

A statement that takes its values as arrays has the same text for one row and for a thousand, so it is planned once a
connection. Which type each array has is what the column's model says, and stands nowhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import psycopg
from psycopg import Connection
from sqlalchemy import Float, Numeric, String
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.types import TypeEngine

from app.core.connecting import drop_details

Column = InstrumentedAttribute[Any]

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def unnest(*columns: Column, alias: str = "u", ordinality: str = "", **more: Column | TypeEngine[Any]) -> str:
    """SQL for rows made of array parameters named like the columns: `unnest(CAST(:id AS bigint[]), …) AS u(id, …)`.

    `more` are values with a name of their own, of a column's type or another. `ordinality` names a last column that
    counts the rows from 1.
    """
    kinds = {**{column.key: column for column in columns}, **more}
    arrays = ", ".join(array(kind, name) for name, kind in kinds.items())
    names = ", ".join([*kinds, *([ordinality] if ordinality else [])])
    return f"unnest({arrays}){' WITH ORDINALITY' if ordinality else ''} AS {alias}({names})"


def by_key(column: Column) -> str:
    """SQL for a join of the column's table, `q`, with the rows of `unnest`, `u`, by its key.

    The array leads to the key's index, as in `core.database.among`: a join alone may read all of the table.
    """
    key = column.key
    return f"q.{key} = u.{key} AND q.{key} = ANY({array(column, key)})"


def array(kind: Column | TypeEngine[Any], name: str) -> str:
    """SQL for one array parameter."""
    return f"CAST(:{name} AS {sql_type(kind)}[])"


def arrays_of(rows: Iterable[Mapping[str, Any]], *columns: Column) -> dict[str, list[Any]]:
    """The parameters of `unnest`, from rows that have these columns."""
    rows = list(rows)
    return {column.key: [row[column.key] for row in rows] for column in columns}


def transposed(rows: Iterable[Sequence[Any]], *names: str) -> dict[str, list[Any]]:
    """The parameters of `unnest`, from rows whose values stand in the order of `names`."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def columns_named(model: type[Any], names: Iterable[str]) -> tuple[Column, ...]:
    """The model's columns of these names, as those of a `NamedTuple` whose values they take."""
    return tuple(getattr(model, name) for name in names)


def copy_rows(session: Session, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
    """Write `rows`, whose values stand in the order of `columns`, to the columns' table in the session's transaction.

    Rows may be made while they are written: the transaction is busy then, not idle.
    """
    copy_table(session, columns[0].class_.__tablename__, {column.key: sql_type(column) for column in columns}, rows)


def copy_table(session: Session, table: str, types: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """As `copy_rows`, to a table that has no model; `types` are its columns by name."""
    connection = cast("Connection[Any]", session.connection().connection.driver_connection)
    statement = f"COPY {table} ({', '.join(types)}) FROM STDIN (FORMAT BINARY)".encode()
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(list(types.values()))
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:  # which no engine sees
        drop_details(error)
        raise


def sql_type(kind: Column | TypeEngine[Any]) -> str:
    """The type in SQL, without its length: a cast to `varchar(32)` would cut in silence."""
    if not isinstance(kind, TypeEngine):
        kind = kind.type
    if isinstance(kind, String):
        return "text"
    if isinstance(kind, Numeric) and not isinstance(kind, Float):
        return "numeric"
    return str(kind.compile(dialect=_DIALECT)).lower()
