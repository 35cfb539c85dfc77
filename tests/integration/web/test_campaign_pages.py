"""Pages of campaigns: what their forms keep, what they say is wrong, and what they tell while a campaign runs."""

import pytest

from tests.support.messages_of import add_phone

pytestmark = pytest.mark.needs_browser

EVERYTHING = {
    "name": "Spring sale",
    "message": "\nSalom {name|there}\r\nWe open at nine.",
    "sim_slot": 1,
    "price": 12.5,
    "my_id": "spring",
    "callback_url": "https://shop.example/hook",
    "validity_period": 3600,
    "rate_per_minute": 600,
    "hours": {"from": "09:00", "to": "20:00", "days": ["mon", "tue"], "zone": "Europe/London"},
    "start_at": "2050-01-01T09:00:30Z",
    "end_at": "2050-01-02T09:00:30.250000Z",
    "canary": {"first": 5, "sent_share": 0.5, "within_minutes": 7},
    "stop_rule": {"failed_share": 0.333, "of_last": 100},
}


@pytest.fixture
def make(client):
    """Make a draft by the API, with recipients if any are given; its path."""

    def made(*recipients, **fields):
        answer = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello", **fields})
        assert answer.status_code == 201, answer.text
        number = answer.json()["data"]["id"]
        if recipients:
            client.put(f"/api/campaigns/{number}/recipients", json={"recipients": list(recipients)})
        return f"/campaigns/{number}"

    return made


@pytest.fixture
def shown(client):
    return lambda path: client.get(f"/api{path}").json()["data"]


@pytest.mark.parametrize("phones", ["active", "one", "several, one of them paused", "the account's default"])
def test_what_is_saved_unchanged_stays_as_the_api_set_it(browse, ali, make, shown, sql, phones) -> None:
    first, second = add_phone(sql, ali, name="First"), add_phone(sql, ali, name="Second")
    sql.execute("UPDATE devices SET is_active = false WHERE id = %s", (second,))
    sql.execute("UPDATE users SET time_zone = 'Asia/Tashkent'")
    path = make(
        **EVERYTHING,
        device_id={"active": "active", "one": first, "several, one of them paused": [second, first]}.get(phones),
    )
    before = shown(path)
    visitor = browse(ali)
    visitor.open(path)
    visitor.is_accessible()
    visitor.submit("Save")
    visitor.says("Saved.")
    assert shown(path) | {"updated_at": before["updated_at"]} == before


def test_what_is_changed_is_saved_and_the_rest_stays(browse, ali, make, shown) -> None:
    path = make(**EVERYTHING)
    before = shown(path)
    visitor = browse(ali)
    page = visitor.page
    visitor.open(path)
    page.check("#day-sun")
    page.fill("#stop-share", "12.5")
    page.select_option("#canary-of", "delivered_share")
    page.fill("#canary-share", "7")
    visitor.submit("Save")
    after = shown(path)
    assert after["hours"] == before["hours"] | {"days": ["mon", "tue", "sun"]}
    assert after["stop_rule"] == {"failed_share": 0.125, "of_last": 100}
    assert after["canary"] == {"first": 5, "delivered_share": 0.07, "sent_share": None, "within_minutes": 7}
    changed = ("hours", "stop_rule", "canary", "updated_at")
    assert {name: after[name] for name in after if name not in changed} == {
        name: before[name] for name in before if name not in changed
    }


def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_is_kept(browse, ali, make, sql) -> None:
    phone = add_phone(sql, ali, name="Pixel")
    visitor = browse(ali)
    page = visitor.page
    visitor.open(make())
    typed = {
        "#message": "Hello again",
        "#rate_per_minute": "50",
        "#hours-from": "09:00",
        "#stop-share": "500",
        "#stop-last": "20",
        "#canary-first": "5",
        "#canary-share": "80",
        "#name": "",
    }
    for field, value in typed.items():
        page.fill(field, value)
    page.select_option("#hours-zone", "recipient")
    page.select_option("#canary-of", "sent_share")
    page.uncheck("#day-sun")
    page.check(f"#phone-{phone}")
    page.locator("#draft").evaluate("form => form.noValidate = true")
    visitor.submit("Save")
    assert {field: page.input_value(field) for field in typed} == typed
    chosen = page.input_value("#hours-zone"), page.input_value("#canary-of")
    assert chosen == ("recipient", "sent_share")
    assert (page.is_checked("#day-sun"), page.is_checked(f"#phone-{phone}")) == (False, True)
    missing = "Fill this in too, or empty the other fields here."
    assert {each.get_attribute("id"): each.inner_text() for each in page.locator(".wrong").all()} == {
        "name-wrong": "The name field is required.",
        "hours[to]-wrong": missing,
        "stop_rule[failed_share]-wrong": "Enter more than 0 and at most 100 per cent.",
        "canary[within_minutes]-wrong": missing,
    }
    assert page.locator(".note.bad").count() == 0
    visitor.complaints.clear()
    visitor.is_accessible()
