"""Alembic's configuration, made in code so that the installed package needs no ini file beside it."""

import time
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.core.errors import is_deadlock, is_locked

# Whoever changes the schema holds this advisory lock; whoever needs it as it is, shares it.
MIGRATION_LOCK = 7_316_000
_TRIES = 20
_PAUSE_SECONDS = 3.0

log = structlog.get_logger(__name__)


def alembic_config(connection: Connection | None = None) -> Config:
    """Configuration for `alembic.command`; the database is the settings', unless a connection is given."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def migrate(connection: Connection | None = None, revision: str = "head") -> None:
    """Update the database to the newest schema. Safe to run in several processes at once, and while it is in use.

    It locks many tables, as those who use it do: where the database ends one of the two, this begins again. Where
    another keeps a table for long, it begins again after a pause, in which those who serve have it.
    """
    tries_left = _TRIES
    while True:
        try:
            command.upgrade(alembic_config(connection), revision)
        except DBAPIError as error:
            if connection is not None or not is_locked(error) or not tries_left:
                raise
            log.info("migrating again", error=error)
            if is_deadlock(error):
                tries_left -= 1
            else:
                time.sleep(_PAUSE_SECONDS)
        else:
            return
