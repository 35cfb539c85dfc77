"""session defaults"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


# Each connection sets them too (`core/connecting.py`). Behind a pooler in transaction mode not all of that reaches
# every connection to the server; what is set on the role in this database does, and wins over either's own defaults.
SESSION_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
}


def upgrade() -> None:
    for name, value in SESSION_SETTINGS.items():
        _set(name, f"quote_literal('{value}')")
    # The tables are where this path has led; a later default of the role must not lead elsewhere.
    _set("search_path", "current_setting('search_path')")


def _set(name: str, value: str) -> None:
    statement = f"ALTER ROLE CURRENT_USER IN DATABASE %I SET {name} = %s"
    op.execute(f"DO $$ BEGIN EXECUTE format('{statement}', current_database(), {value}); END $$")
