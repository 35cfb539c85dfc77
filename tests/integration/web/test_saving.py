"""What forms save and what they leave alone, what they refuse and keep; posted as a browser posts them."""

from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest

from tests.integration.web.test_safety import browser, token_of


@pytest.fixture
def page(gateway, ali, database):
    """A client that posts as a page of ali's does: `page.post(path, {...})`."""
    with browser(gateway, ali) as client:
        token = token_of(client, "/settings")
        post = client.post
        client.post = lambda path, form: post(path, data={"form_token": token, **form})
        yield client


def test_a_key_ends_with_the_end_of_its_last_day_by_the_accounts_clock(page, ali, sql) -> None:
    zone = ZoneInfo("Pacific/Auckland")
    sql.execute("UPDATE users SET time_zone = %s, password_hash = NULL", (zone.key,))
    today = datetime.now(zone).date()
    made = page.post("/keys", {"name": "Today", "abilities[]": "sms:send", "expires_at": str(today)})
    assert f"{today} 23:59</time>" in made.text
    [ends] = sql.execute("SELECT expires_at FROM tokens WHERE name = 'Today'").fetchone()
    assert ends == datetime.combine(today, time.max, zone)
    refused = page.post("/keys", {"name": "Past", "abilities[]": "sms:send", "expires_at": "2020-01-01"})
    assert (refused.status_code, 'value="2020-01-01"' in refused.text) == (422, True)
