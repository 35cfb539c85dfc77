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


def test_a_contact_stays_in_groups_that_its_form_says_nothing_of(page, ali, client, sql) -> None:
    sql.execute(
        "INSERT INTO contact_groups (user_id, name) SELECT %s, 'group ' || n FROM generate_series(1, 206) n", (ali.id,)
    )
    ids = [number for (number,) in sql.execute("SELECT id FROM contact_groups ORDER BY id").fetchall()]
    old, since, new, other = ids[0], ids[1], ids[-1], ids[-2]
    contact = {"phone_number": "+998901112233", "group_ids": [old, new]}
    number = client.post("/api/contacts", json=contact).json()["data"]["id"]
    shown = page.get(f"/contacts/{number}").text
    assert [f'value="{group}" checked' in shown for group in (old, new, other)] == [True, True, False]
    client.post(f"/api/contact-groups/{since}/contacts", json={"contact_ids": [number]})

    form = {"phone_number": contact["phone_number"], "name": "", "notes": "Mornings", "was_in[]": [old, new]}
    page.post(f"/contacts/{number}", {**form, "group_ids[]": [old, other]})
    saved = client.get(f"/api/contacts/{number}").json()["data"]
    assert saved["notes"] == "Mornings"
    assert [group["id"] for group in saved["groups"]] == [old, since, other]

    refused = page.post(f"/contacts/{number}", {**form, "notes": "", "email": "x", "group_ids[]": [new]}).text
    assert [f'value="{group}" checked' in refused for group in (old, new)] == [False, True]
    assert ('value="x"' in refused, "Mornings" in refused) == (True, False)


def test_every_group_can_be_chosen(page, ali, client, sql) -> None:
    sql.execute("INSERT INTO contact_groups (user_id, name) SELECT %s, 'g' FROM generate_series(1, 206)", (ali.id,))
    [first] = sql.execute("SELECT min(id) FROM contact_groups").fetchone()
    campaign = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    assert f'<option value="{first}"' in page.get("/contacts").text
    for path in ("/send", f"/campaigns/{campaign}"):
        assert f'id="group-{first}"' in page.get(path).text, path
