"""Alembic's configuration, made in code so that the installed package needs no ini file beside it."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def alembic_config() -> Config:
    """Configuration for `alembic.command`; the database is the settings'."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


def migrate() -> None:
    """Update the database to the newest schema. Safe to run in several processes at once."""
    command.upgrade(alembic_config(), "head")
