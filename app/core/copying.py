"""Many rows at once, by COPY."""

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString, cast

from psycopg import Connection
from sqlalchemy.orm import Session


def copy_rows(
    session: Session,
    table: LiteralString,
    columns: Sequence[tuple[LiteralString, LiteralString]],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Write `rows` to `table` in the session's transaction. `columns` are pairs of name and type.

    Rows may be made while they are written: the transaction is busy then, not idle.
    """
    connection = cast("Connection[Any]", session.connection().connection.driver_connection)
    names = ", ".join(name for name, _ in columns)
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([kind for _, kind in columns])
        for row in rows:
            copy.write_row(row)
