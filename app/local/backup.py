"""What `smsfleet backup` writes: every row as of one moment, and the published app files.

A ZIP archive: for each table a member `tables/<name>` in PostgreSQL's COPY format, the app files under `releases/`, and
at the end `manifest.json`, so that an archive that was cut short is none. It needs no program of PostgreSQL's, and goes
from any of its versions to any other (decision 31). With `SMSFLEET_BACKUP_KEY` all of it is encrypted.
"""

import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from psycopg import sql
from pydantic import BaseModel
from sqlalchemy import Table

from app.accounts import audit
from app.accounts.audit import Action
from app.core.connecting import pin_settings
from app.core.database import Base, transaction
from app.core.settings import get_settings
from app.local.encryption import encrypting
from app.local.errors import LocalError
from app.migrations.config import MIGRATION_LOCK
from app.migrations.revisions import revisions, trouble
from app.migrations.tables import load_tables
from app.releases import storage

FORMAT = 1
MANIFEST = "manifest.json"
TABLES, RELEASES = "tables/", "releases/"
_BUFFER_BYTES = 1024 * 1024
_FAST = 1  # of zlib's levels; the others take more time than they save room
_LOCAL = (
    "SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true),"
    " set_config('lock_timeout', '0', true)"
)


class Member(BaseModel):
    """A table: its columns, in their order in the archive, and how many rows it has there."""

    columns: list[str]
    rows: int


class Manifest(BaseModel):
    """What a restore must know. `tables` are in an order in which none refers to a later one.

    `numbers`: the last that each table gave out. Some may have been given to rows that are not here. `missing`: app
    files that rows speak of and that were not there.
    """

    format: int
    version: str
    revision: str
    taken_at: datetime
    tables: dict[str, Member]
    numbers: dict[str, int]
    missing: list[str]


Connection = psycopg.Connection[Any]


def take(target: Path) -> Manifest:
    """Write an archive of the database that the settings name. The file appears when it is whole."""
    if target.exists() and not target.is_file():  # a device would be replaced
        raise LocalError(f"{target} is no regular file: name one, or - for standard output")
    try:
        # A name that nobody knows before: somebody else's link may be in the folder, or another backup under way.
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise LocalError(f"{target} cannot be written ({error.strerror})") from None
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            manifest = write(file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
    return manifest


def write(target: BinaryIO) -> Manifest:
    """As `take`, to a file that need not be seekable; and note that there is a backup."""
    load_tables()
    settings = get_settings()
    with (
        psycopg.connect(settings.database_dsn.replace("+psycopg", "", 1)) as connection,
        encrypting(target, settings.backup_key) if settings.backup_key else nullcontext(target) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST) as archive,
    ):
        if pin_settings(connection):
            connection.prepare_threshold = None
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        taken_at = _begin(connection)
        tables = {table.name: _copy(connection, archive, table) for table in Base.metadata.sorted_tables}
        missing = _add_files(archive, _rows(connection, "SELECT DISTINCT sha256 FROM releases ORDER BY sha256"))
        manifest = Manifest(
            format=FORMAT,
            version=version("smsfleet"),
            revision=revisions()[0],
            taken_at=taken_at,
            tables=tables,
            numbers=dict(_numbers(connection)),
            missing=missing,
        )
        archive.writestr(MANIFEST, manifest.model_dump_json(indent=1))
    with transaction() as session:
        audit.record(session, Action.BACKUP_MADE, None, rows=sum(each.rows for each in tables.values()))
    return manifest


def _begin(connection: Connection) -> datetime:
    """Hold the schema still, and begin to see all rows as of now. Raises `LocalError`."""
    connection.execute(_LOCAL)
    # A migration would wait for our locks, and everybody for its.
    [(shared,)] = _rows(connection, f"SELECT pg_try_advisory_xact_lock_shared({MIGRATION_LOCK})")
    if not shared:
        raise LocalError("the database is being migrated: try again when that is done")
    try:
        [(found,)] = _rows(connection, "SELECT version_num FROM alembic_version")
    except psycopg.errors.UndefinedTable:
        found = None
    if reason := trouble(found):
        raise LocalError(reason)
    [(now,)] = _rows(connection, "SELECT clock_timestamp()")
    taken: datetime = now
    return taken


def _rows(connection: Connection, statement: str) -> list[Any]:
    return connection.execute(statement).fetchall()


def _copy(connection: Connection, archive: zipfile.ZipFile, table: Table) -> Member:
    columns = [column.name for column in table.columns]
    statement = sql.SQL("COPY {} ({}) TO STDOUT").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with (
        archive.open(TABLES + table.name, "w", force_zip64=True) as member,
        connection.cursor() as cursor,
    ):
        with cursor.copy(statement) as rows:
            for part in _in_pieces(rows):
                member.write(part)
        return Member(columns=columns, rows=cursor.rowcount)


def _in_pieces(rows: Iterable[Any]) -> Iterator[bytes]:
    piece = bytearray()
    for row in rows:
        piece += row
        if len(piece) >= _BUFFER_BYTES:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _numbers(connection: Connection) -> Iterator[tuple[str, int]]:
    for table, column in identities():
        query = sql.SQL("SELECT pg_get_serial_sequence({}, {})").format(sql.Literal(table), sql.Literal(column))
        [(sequence,)] = connection.execute(query).fetchall()
        [(last,)] = _rows(connection, f"SELECT last_value FROM {sequence}")  # noqa: S608 - a sequence of ours
        yield table, last


def identities() -> Iterator[tuple[str, str]]:
    """Tables that number their rows, and the column with the number."""
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            if column.identity is not None:
                yield table.name, column.name


def _add_files(archive: zipfile.ZipFile, digests: Iterable[Any]) -> list[str]:
    """The published app files; those that are missing."""
    missing = []
    for (digest,) in digests:
        file = storage.folder() / f"{digest}.apk"
        if file.exists():
            archive.write(file, RELEASES + file.name, zipfile.ZIP_STORED)
        else:
            missing.append(file.name)
    return missing
