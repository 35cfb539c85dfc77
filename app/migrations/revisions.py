"""Which schemas this version of the program knows, without Alembic, which serving takes no memory for."""

import sys
from pathlib import Path

import psycopg

from app.core.connecting import CONNECT_ARGUMENTS
from app.core.once import once
from app.core.settings import get_settings

_VERSIONS = Path(__file__).parent / "versions"
# A database that is away is no reason not to start: what needs it waits for it.
_TIMEOUT_SECONDS = 2


@once
def revisions() -> tuple[str, ...]:
    """Every schema, the newest first."""
    return tuple(sorted((file.name.partition("_")[0] for file in _VERSIONS.glob("[0-9]*.py")), reverse=True))


def trouble(found: str | None) -> str | None:
    """Why this version cannot work on a database of this schema, and what to do; None if it can."""
    if found == revisions()[0]:
        return None
    if found is None or found in revisions():
        return (
            f"the database has the schema {found or 'of no version'}, and this smsfleet needs {revisions()[0]}: run"
            " `smsfleet migrate`"
        )
    return (
        f"the database has the schema {found} of a newer smsfleet, and this one knows up to {revisions()[0]}: run the"
        " newer version, or restore a backup that is older than the update"
    )


def is_newer(found: str | None) -> bool:
    """Whether a schema is none of ours, but of a version to come."""
    return found is not None and found not in revisions()


def refuse_older() -> None:
    """End the process where the database has an older schema. With a newer one it goes on, as in every update."""
    try:
        dsn = get_settings().database_dsn.replace("+psycopg", "", 1)
        with psycopg.connect(dsn, **(CONNECT_ARGUMENTS | {"connect_timeout": _TIMEOUT_SECONDS})) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    except (psycopg.Error, RuntimeError):
        return
    found = row[0] if row else None
    if (reason := trouble(found)) and not is_newer(found):
        sys.exit(reason)
