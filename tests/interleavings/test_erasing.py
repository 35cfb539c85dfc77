"""What is under way when its account is deleted and erased, stopped before each of its statements: nothing is left."""

import pytest
from sqlalchemy import text

from app import erasing
from app.accounts import ownership
from app.accounts.models import User
from app.core.database import Base, interval, transaction
from app.messages.life.opting_out import STRAGGLING
from app.migrations.tables import load_tables
from tests.interleavings.harness import interleave
from tests.interleavings.operations import NAMED
from tests.interleavings.world import DEADLOCK, World, plain
from workers.base import in_transaction

UNDER_WAY = """
queued: send
queued: route
routed: pull
sent: report delivered
claimed: record taken
campaign: look after campaigns
sent: fold
"""
_OWNERS = {"user_id": "users", "campaign_id": "campaigns", "device_id": "devices", "message_id": "messages",
           "delivery_id": "webhook_deliveries"}  # fmt: skip


def delete_and_erase(world):
    plain(ownership.delete_account, world.user)
    for _ in range(4):
        in_transaction(erasing.erase)


def erase_the_rest():
    """As the ticks do once nothing can be under way any more."""
    with transaction() as session:
        session.execute(text(f"UPDATE users SET deleted_at = deleted_at - {interval(STRAGGLING)}"))
    while in_transaction(erasing.erase):
        pass


def without_an_owner():
    """Rows of each table whose account, campaign, phone, message or delivery is not there."""
    load_tables()
    with transaction() as session:
        for name, table in Base.metadata.tables.items():
            for column in set(_OWNERS) & set(table.columns.keys()):
                if issubclass(table.columns[column].type.python_type, int):  # not the UUID of a message
                    owner = _OWNERS[column]
                    which = f"{column} <> 0 AND NOT EXISTS (SELECT FROM {owner} o WHERE o.id = {name}.{column})"
                    orphans = session.scalar(text(f"SELECT count(*) FROM {name} WHERE {which}"))
                    if orphans:
                        yield f"{orphans} rows of {name} have no {column}"


@pytest.mark.parametrize("case", UNDER_WAY.strip().splitlines())
def test_nothing_is_left_of_an_account_whatever_was_under_way(emptied, observer, case):
    start, _, name = case.partition(": ")
    found, at = [], 0
    while True:
        at += 1
        world = World()
        world.begin(start)
        tried = interleave(lambda: NAMED[name].run(world), lambda: delete_and_erase(world), at, observer)  # noqa: B023
        if tried is None:
            break
        erase_the_rest()
        with transaction() as session:
            wrong = ["the account is left"] if session.get(User, world.user) else []
        wrong += without_an_owner()
        wrong += ["a deadlock"] if DEADLOCK in tried.errors else []
        wrong += [repr(tried.second.error)] if tried.second.error else []
        found += [f"before statement {at}: {tried.statement[:150]}: {each}" for each in wrong]
    assert at > 2
    assert "\n".join(found) == ""
