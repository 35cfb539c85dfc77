"""Behind a real PgBouncer in transaction mode, with no setting of ours changed."""

import pytest

from app.core import connecting
from app.core.database import get_engine, get_hot_engine
from app.core.settings import get_settings
from app.local import doctor
from tests.support import parts

pytestmark = pytest.mark.needs_pgbouncer


@pytest.fixture
def pgbouncer(database, free_port):
    """Its URL, once it answers."""
    with parts.pgbouncer(database.postgres, free_port()) as url:
        yield url


def test_all_calls_are_served_and_it_is_said(moved_to, pgbouncer, traffic, caplog):
    connecting._log_pooler.cache_clear()
    moved_to(pgbouncer)
    traffic.run(20)
    assert traffic.failures == []
    assert {"send", "pull", "report", "hook", "bulk", "timeline"} <= traffic.kinds
    assert "behind a pooler" in caplog.text
    for engine in (get_engine(), get_hot_engine()):
        with engine.connect() as connection:
            assert connection.connection.driver_connection.prepare_threshold is None
    found = {finding.what: finding for finding in doctor.examine(get_settings(), None)}
    assert "disabled" in found["prepared statements"].detail
    assert found["database"].good


def test_a_direct_connection_prepares(traffic, database, caplog):
    connecting._log_pooler.cache_clear()
    traffic.run(1)
    assert "behind a pooler" not in caplog.text
    with get_hot_engine().connect() as connection:
        assert connection.connection.driver_connection.prepare_threshold == 5


def test_the_defaults_of_the_role_do_not_reach_the_code(moved_to, pgbouncer, owner, traffic):
    """Of these PgBouncer carries only some from one server connection to the next; the role's own come from us."""
    settings = {"TimeZone": "America/New_York", "DateStyle": "German", "IntervalStyle": "iso_8601"}
    settings |= {"default_transaction_isolation": "serializable", "search_path": "pg_catalog"}
    for name, value in settings.items():
        owner.execute(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'")
    try:
        moved_to(pgbouncer)
        traffic.run(10)
        assert traffic.failures == []
        with get_engine().connect() as connection:
            found = {
                name: connection.exec_driver_sql(f"SELECT current_setting('{name}')").scalar() for name in settings
            }
        assert found == {
            "TimeZone": "UTC",
            "DateStyle": "ISO, MDY",
            "IntervalStyle": "postgres",
            "default_transaction_isolation": "read committed",
            "search_path": '"$user", public',
        }
    finally:
        for name in settings:
            owner.execute(f"ALTER ROLE CURRENT_USER RESET {name}")
