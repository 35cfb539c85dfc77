"""Alembic's entry: runs the migrations on the configured database, one process at a time."""

from alembic import context
from sqlalchemy import create_engine, text

from app.core.database import Base
from app.core.settings import get_settings
from app.migrations.role import set_up_role
from app.migrations.tables import load_tables

load_tables()
MIGRATION_LOCK = 7_316_000

engine = create_engine(get_settings().database_dsn)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()
        set_up_role(connection)
engine.dispose()
