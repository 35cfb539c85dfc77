"""The migration makes exactly the tables that the models describe."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.core.database import Base, get_engine
from app.migrations.tables import load_tables


def test_the_migrated_database_is_what_the_models_say(database):
    load_tables()
    with get_engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
