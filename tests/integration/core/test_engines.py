"""Engines are closed while their connections are in use, and where there are none."""

from sqlalchemy import text

from app.core.database import close_engines, get_engine


def test_a_connection_in_use_is_closed_when_it_comes_back(database):
    with get_engine().connect() as connection:
        connection.execute(text("SELECT 1"))
        driver = connection.connection.driver_connection
        close_engines()
        assert connection.scalar(text("SELECT 1")) == 1, "its user is not disturbed"
    assert driver.closed


def test_closing_opens_nothing(configured):
    """At the end of a test run, for one, no database may be known any more."""
    configured(DATABASE_URL="")
    close_engines()
    close_engines()
