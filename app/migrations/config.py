"""Alembic's configuration, made in code so that the installed package needs no ini file beside it."""

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.core.errors import is_deadlock

# Whoever changes the schema holds this advisory lock; whoever needs it as it is, shares it.
MIGRATION_LOCK = 7_316_000
_TRIES = 20

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

    It locks many tables, as those who use it do: where the database ends one of the two, this begins again.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            command.upgrade(alembic_config(connection), revision)
        except DBAPIError as error:
            if connection is not None or not tries_left or not is_deadlock(error):
                raise
            log.info("migrating again", error=error)
        else:
            return
