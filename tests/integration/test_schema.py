"""The migration makes exactly the tables that the models describe, and row types have exactly their columns."""

from typing import Annotated, get_args, get_origin, get_type_hints

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint

from app.core.database import Base, get_engine
from app.devices.models import Device, DeviceState, PhoneRow, PhoneState
from app.messages.models import Message, MessageRow, QueuedRow, QueueEntry
from app.migrations.tables import load_tables
from tests.support.messages_of import add_message


# What SQLAlchemy makes of a constraint that is NOT VALID.
@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")
def test_the_migrated_database_is_what_the_models_say(database):
    load_tables()
    with get_engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def columns_of(model) -> dict[str, object]:
    """The type of each column's values, by name."""
    mapped = get_type_hints(model, include_extras=True)
    values = {column.key: get_args(mapped[column.key])[0] for column in model.__table__.columns}
    return {name: get_args(kind)[0] if get_origin(kind) is Annotated else kind for name, kind in values.items()}


@pytest.mark.parametrize(("row", "model"), [(MessageRow, Message), (QueuedRow, QueueEntry), (PhoneState, DeviceState)])
def test_a_row_type_has_the_columns_of_its_model(row, model):
    assert get_type_hints(row) == columns_of(model)


def test_what_hand_out_reads_of_a_phone_has_the_types_of_its_columns():
    read = {name: kind for name, kind in get_type_hints(PhoneRow).items() if name not in get_type_hints(PhoneState)}
    columns = columns_of(Device)
    # By its token it is found.
    others = {"sim_cards": columns["sim_cards"] | None, "token_hash": bytes}
    assert read == {name: columns[name] for name in read} | others


def test_the_database_knows_the_words_that_the_models_allow(database, sql):
    load_tables()
    wanted = {
        (table.name, f"ck_{table.name}_{check.name.removeprefix(f'ck_{table.name}_')}")
        for table in Base.metadata.tables.values()
        for check in table.constraints
        if isinstance(check, CheckConstraint)
    }
    found = sql.execute("""
        SELECT conrelid::regclass::text, conname FROM pg_constraint
        WHERE contype = 'c' AND conrelid > 0 AND connamespace = 'public'::regnamespace
    """).fetchall()
    assert set(found) == wanted
    assert wanted


@pytest.mark.parametrize(
    "wrong",
    [
        "status = 'lost'",
        "direction = 'sideways'",
        "kind = 'fax'",
        "failed_by = 'nobody'",
        "status = 'sent'",
        "status = 'delivered'",
        "status = 'failed'",
        "status = 'cancelled'",
    ],
)
def test_a_message_that_says_what_cannot_be_is_refused(sql, ali, wrong):
    add_message(sql, ali, status="pending")
    with pytest.raises(psycopg.errors.CheckViolation):
        sql.execute(f"UPDATE messages SET {wrong}")
