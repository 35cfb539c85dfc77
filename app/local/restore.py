"""What `smsfleet restore` does: an empty database becomes what a backup holds, and nothing is sent a second time.

All in one transaction: the schema, the rows, and what is said of the messages that may have left since the backup. A
restore that ends early leaves the database empty.
"""

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.campaigns import restored as campaigns
from app.core.database import Base, get_engine
from app.local.backup import FORMAT, MANIFEST, RELEASES, TABLES, Manifest, identities
from app.local.encryption import opened
from app.local.errors import LocalError
from app.messages.life import restored as messages
from app.migrations.config import migrate
from app.migrations.revisions import revisions
from app.migrations.tables import load_tables
from app.releases import storage

# Numbers that were given out after the backup are known to programs and phones; nothing else gets them.
UNUSED_NUMBERS = 1_000_000
_PIECE_BYTES = 1024 * 1024
# What reading meets where an archive is none, or not what it was.
_DAMAGED = (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError, RuntimeError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore."""

    manifest: Manifest
    rows: int
    uncertain: int
    halted: int


def restore(
    source: Path, *, key: Path | None = None, send_again: bool = False, keep_scheduled: bool = False
) -> Restored:
    """Fill the empty database that the settings name. Raises `LocalError`.

    `key`: the file with the secret key of an encrypted backup. `send_again`: nothing left after the backup, so
    everything goes on where it stood.
    """
    load_tables()
    with _opened(source, key) as (archive, manifest):
        with get_engine().connect() as connection, connection.begin():
            _prepare(connection, manifest)
            _load(connection, archive, manifest)
            migrate(connection)
            _store_files(archive)
            uncertain = halted = 0
            with Session(connection) as session:
                if not send_again:
                    uncertain = messages.conclude(session, keep_scheduled=keep_scheduled)
                    halted = campaigns.halt(session, manifest.taken_at)
                audit.record(
                    session, Action.RESTORED, None, taken_at=manifest.taken_at.isoformat(), uncertain=uncertain
                )
                session.flush()
        with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT set_config('statement_timeout', '0', false)"))
            connection.execute(text("ANALYZE"))
            connection.invalidate()  # which has that setting
    return Restored(manifest, sum(table.rows for table in manifest.tables.values()), uncertain, halted)


@contextmanager
def _opened(source: Path, key: Path | None) -> Iterator[tuple[zipfile.ZipFile, Manifest]]:
    """The archive, every byte of which was read and found to be what was written."""
    with opened(source, key) as file:
        try:
            archive = zipfile.ZipFile(file)
            manifest = _manifest(archive.read(MANIFEST))
            whole = archive.testzip() is None and {TABLES + name for name in manifest.tables} <= set(archive.namelist())
        except _DAMAGED:
            whole = False
        if not whole:
            raise LocalError(f"{source} is not a whole backup of smsfleet")
        yield archive, manifest


def _manifest(raw: bytes) -> Manifest:
    manifest = Manifest.model_validate_json(raw)
    if manifest.format != FORMAT or manifest.revision not in revisions():
        raise LocalError(f"this backup is of a newer smsfleet ({manifest.version}): restore it with that")
    return manifest


def _prepare(connection: Connection, manifest: Manifest) -> None:
    """The schema that the rows of the backup had. Raises `LocalError` where there is anything already."""
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(text(f"SET LOCAL {name} = 0"))
    connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    there = set(connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")))
    for name in sorted(there & Base.metadata.tables.keys()):
        if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {name})")):  # noqa: S608 - a table of ours
            raise LocalError(f"the database is not empty: {name} has rows. Restore into an empty one")
    if "alembic_version" not in there:
        migrate(connection, manifest.revision)
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found != manifest.revision:
        raise LocalError(
            f"the database has the schema {found} already, and the backup {manifest.revision}: restore into one that"
            " was never used"
        )


_INDEXES = text("""
    SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = CAST(current_schema() AS regnamespace)
      AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
    ORDER BY c.relname
""")


def _load(connection: Connection, archive: zipfile.ZipFile, manifest: Manifest) -> None:
    indexes = connection.execute(_INDEXES).all()
    for index in indexes:
        connection.execute(text(f"DROP INDEX {index.name}"))
    driver: Any = connection.connection.driver_connection
    for name, table in manifest.tables.items():
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
        )
        with archive.open(TABLES + name) as member, driver.cursor() as cursor:
            try:
                with cursor.copy(statement) as copy:
                    for piece in _pieces(member):
                        copy.write(piece)
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                raise LocalError(
                    f"the backup's rows of {name} are not as they were: {error.diag.message_primary}"
                ) from None
            if cursor.rowcount != table.rows:
                raise LocalError(f"the backup says that {name} has {table.rows} rows, and it has {cursor.rowcount}")
    for index in indexes:
        connection.execute(text(index.definition.replace(":", "\\:")))
    columns = dict(identities())
    for name, last in manifest.numbers.items():
        connection.execute(
            text("SELECT setval(CAST(pg_get_serial_sequence(:table, :column) AS regclass), :last)"),
            {"table": name, "column": columns[name], "last": last + UNUSED_NUMBERS},
        )


def _store_files(archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        if name.startswith(RELEASES):
            with archive.open(name) as file:
                storage.store(file)


def _pieces(member: IO[bytes]) -> Iterator[bytes]:
    while piece := member.read(_PIECE_BYTES):
        yield piece
