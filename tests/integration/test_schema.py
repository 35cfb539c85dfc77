"""The migration makes exactly the tables that the models describe, and row types have exactly their columns."""

from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.core.database import Base, get_engine
from app.devices.models import Device, DeviceState, PhoneRow, PhoneState
from app.messages.models import Message, MessageRow, QueuedRow, QueueEntry
from app.migrations.tables import load_tables


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
    assert read == {name: columns[name] for name in read} | {"sim_cards": columns["sim_cards"] | None}
