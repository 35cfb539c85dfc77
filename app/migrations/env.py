"""Alembic's entry: runs the migrations on the configured database, one process at a time."""

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, NullPool, create_engine, text

from app.core.database import Base
from app.core.settings import get_settings
from app.migrations.config import MIGRATION_LOCK
from app.migrations.revisions import is_newer, trouble
from app.migrations.role import set_up_role
from app.migrations.tables import load_tables


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        if given is None:
            # Whoever wants a table waits behind us: while we wait for one that a long transaction has read, all do. An
            # autovacuum is sent away after a second.
            connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        found = context.get_context().get_current_revision()
        if is_newer(found):
            raise CommandError(trouble(found))
        context.run_migrations()
        set_up_role(connection)


load_tables()
given: Connection | None = context.config.attributes.get("connection")
if given is not None:  # whose transaction it is
    run(given)
else:
    with create_engine(get_settings().database_dsn, poolclass=NullPool).connect() as own:
        run(own)
