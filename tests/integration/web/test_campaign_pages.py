"""Pages of campaigns: what their forms keep, what they say is wrong, and what they tell while a campaign runs."""

import re

import pytest

from app.core.outbound import get_redis
from app.core.task_names import PAGES_CHANNEL
from tests.integration.web.test_safety import browser, token_of
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
def happens(ali, sql):
    """Something happens to the campaign, and open pages are told."""

    def done(path, *, status="running", phone=0, **results):
        number = int(path.rpartition("/")[2])
        sql.execute(
            "UPDATE campaigns SET status = %s, started_at = COALESCE(started_at, now()) WHERE id = %s", (status, number)
        )
        for result, n in results.items():
            sql.execute(
                "INSERT INTO campaign_deltas (campaign_id, device_id, result, reason, minute, n)"
                " VALUES (%s, %s, %s, '', date_trunc('minute', now()), %s)",
                (number, phone, result, n),
            )
        get_redis().publish(f"{PAGES_CHANNEL}{ali.id}", "messages")

    return done


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
    page.select_option("#sim_slot", "0")
    page.fill("#price", "0")
    page.fill("#my_id", "autumn")
    page.fill("#validity_period", "")
    visitor.submit("Save")
    after = shown(path)
    assert (after["sim_slot"], after["price"], after["my_id"], after["validity_period"]) == (0, 0, "autumn", None)
    assert after["hours"] == before["hours"] | {"days": ["mon", "tue", "sun"]}
    assert after["stop_rule"] == {"failed_share": 0.125, "of_last": 100}
    assert after["canary"] == {"first": 5, "delivered_share": 0.07, "sent_share": None, "within_minutes": 7}
    changed = ("hours", "stop_rule", "canary", "sim_slot", "price", "my_id", "validity_period", "updated_at")
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
        "#validity_period": "5",
        "#hours-from": "09:00",
        "#stop-share": "500",
        "#stop-last": "20",
        "#canary-first": "5",
        "#canary-share": "80",
        "#name": "",
    }
    page.get_by_text("What each message has").click()
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
        "validity_period-wrong": "The validity period field must be at least 30.",
        "hours[to]-wrong": missing,
        "stop_rule[failed_share]-wrong": "Enter more than 0 and at most 100 per cent.",
        "canary[within_minutes]-wrong": missing,
    }
    assert page.locator(".note.bad").count() == 0
    visitor.complaints.clear()
    visitor.is_accessible()


def test_an_old_page_takes_nothing_back_that_somebody_else_set(browse, ali, make, shown) -> None:
    path = make(rate_per_minute=5)
    old, other = browse(ali), browse(ali)
    old.open(path)
    other.open(path)
    other.page.fill("#message", "We open at ten.")
    other.page.fill("#rate_per_minute", "7")
    other.submit("Save")
    old.page.fill("#name", "")
    old.page.locator("#draft").evaluate("form => form.noValidate = true")
    old.submit("Save")
    old.says("The name field is required.")
    old.complaints.clear()
    old.page.fill("#name", "Spring sale")
    old.submit("Save")
    after = shown(path)
    assert (after["name"], after["message"], after["rate_per_minute"]) == ("Spring sale", "We open at ten.", 7)


NUMBERS = [f"+9989011122{n}" for n in range(10, 20)]


def test_all_of_a_running_campaigns_page_follows_what_happens(browse, ali, make, happens, sql, monkeypatch) -> None:
    monkeypatch.setattr("app.web.campaigns._MIN_REST", 1)
    phone = add_phone(sql, ali, name="Pixel")
    path = make(*NUMBERS)
    happens(path)
    visitor = browse(ali)
    page = visitor.page
    row, over = page.get_by_role("row", name="Pixel"), page.get_by_text("Delete the campaign").first
    visitor.open(path)
    visitor.is_live()
    page.get_by_text("Cancel the campaign").first.click()
    visitor.says("For good: 10 messages are not sent")
    happens(path, phone=phone, delivered=3)
    visitor.says("3 of 10")
    visitor.says("For good: 7 messages are not sent")
    row.get_by_role("cell", name="3").wait_for()
    visitor.says("The last one is expected to leave")
    page.locator(".chart").wait_for()
    happens(path, phone=phone, uncertain=1)
    page.get_by_text("Also send again those that may have been sent").first.click()
    visitor.says("Nobody knows whether 1 of the failed were sent.")
    happens(path, phone=phone, uncertain=1)
    visitor.says("Nobody knows whether 2 of the failed were sent.")
    visitor.is_accessible()
    happens(path, status="finished", phone=phone, delivered=5)
    over.wait_for()
    assert page.get_by_text("Cancel the campaign").first.is_hidden()
    row.get_by_role("cell", name="8").wait_for()
    page.get_by_text("expected to leave").wait_for(state="detached")
    over.click()
    happens(path, status="finished", phone=phone, uncertain=-1, delivered=1)
    row.get_by_role("cell", name="9").wait_for()
    assert page.get_by_role("button", name="Delete the campaign").is_visible()


def test_the_page_of_a_scheduled_campaign_becomes_that_of_a_running_one(browse, ali, client, make, happens) -> None:
    path = make(*NUMBERS, start_at="2050-01-01T09:00:00Z")
    assert client.post(f"/api{path}/start", json={}).json()["data"]["status"] == "scheduled"
    visitor = browse(ali)
    visitor.open(path)
    visitor.is_live()
    happens(path, status="scheduled")
    visitor.says("1. Recipients")
    happens(path)
    visitor.says("0 of 10")


@pytest.mark.parametrize(("verb", "done"), [("cancel", "cancelled"), ("pause", "paused"), ("resume", "resumed")])
def test_what_can_no_longer_be_done_is_said_on_the_campaigns_page(gateway, ali, make, happens, verb, done) -> None:
    path = make(*NUMBERS)
    happens(path, status="finished")
    with browser(gateway, ali) as client:
        answer = client.post(f"{path}/{verb}", data={"form_token": token_of(client, path)})
    assert answer.status_code == 422
    assert f"The campaign is finished and cannot be {done}." in answer.text
    assert "0 of 10" in answer.text


def test_an_address_of_a_forms_answer_leads_to_the_campaign(gateway, ali, other, make) -> None:
    path = make()
    for verb in ("dry-run", "test", "start", "pause", "cancel", "resume", "retry", "duplicate", "delete"):
        with browser(gateway, ali) as mine, browser(gateway, other) as theirs:
            answer = mine.get(f"{path}/{verb}")
            assert (answer.status_code, answer.headers["location"]) == (303, path)
            assert theirs.get(f"{path}/{verb}").status_code == 404


def test_who_got_nothing_of_a_cancelled_campaign_is_not_sent(gateway, ali, make, happens) -> None:
    path = make(*NUMBERS)
    with browser(gateway, ali) as client:
        happens(path)
        assert "not made yet" in client.get(path).text
        happens(path, status="cancelled")
        for address in (path, f"{path}/recipients", f"/now{path}"):
            page = client.get(address).text
            assert "not sent" in page
            assert "not made yet" not in page


def test_an_upload_keeps_what_was_typed_and_leaves_the_preview_alive(browse, ali, make, sql, tmp_path) -> None:
    phone = add_phone(sql, ali, name="Pixel")
    file = tmp_path / "people.csv"
    file.write_text("phone,town\n+998901112233,Tashkent\n", encoding="utf-8")
    visitor = browse(ali)
    page = visitor.page
    visitor.open(make())
    visitor.says("SMS parts: 1")
    page.fill("#message", "A" * 170)
    page.fill("#hours-from", "09:00")
    page.select_option("#hours-zone", "recipient")
    page.uncheck("#day-sun")
    page.check(f"#phone-{phone}")
    page.get_by_text("Which columns").click()
    page.fill("#number_column", "mobile")
    page.set_input_files("#file", file)
    page.get_by_role("button", name="Upload").click()
    visitor.says("The number column is none of the file's columns: phone, town.")
    visitor.complaints.clear()
    assert page.input_value("#number_column") == "mobile"
    visitor.is_accessible()
    page.fill("#number_column", "phone")
    page.set_input_files("#file", file)
    page.get_by_role("button", name="Upload").click()
    visitor.says("1 added, 0 left out.")
    assert page.input_value("#number_column") == ""
    assert (page.input_value("#message"), page.input_value("#hours-from")) == ("A" * 170, "09:00")
    assert page.input_value("#hours-zone") == "recipient"
    assert (page.is_checked("#day-sun"), page.is_checked(f"#phone-{phone}")) == (False, True)
    page.locator("#preview").get_by_text("SMS parts: 2").wait_for()
    page.fill("#message", "A" * 400)
    page.locator("#preview").get_by_text("SMS parts: 3").wait_for()


def test_numbers_that_are_added_leave_what_was_typed(browse, ali, make, tmp_path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("phone\n+998901112235\n", encoding="utf-8")
    visitor = browse(ali)
    page = visitor.page
    visitor.open(make())
    page.fill("#message", "We open at nine.")
    page.set_input_files("#file", file)
    page.get_by_text("Paste numbers").click()
    page.get_by_role("button", name="Add", exact=True).click()
    visitor.says("The recipients field is required when group ids is not present.")
    visitor.complaints.clear()
    page.fill("#recipients", "+998901112233\n+998901112234")
    page.get_by_role("button", name="Add", exact=True).click()
    visitor.says("2 added, 0 left out.")
    assert (page.input_value("#message"), page.input_value("#recipients")) == ("We open at nine.", "")
    page.get_by_role("button", name="Upload").click()
    visitor.says("1 added, 0 left out.")
    visitor.submit("Save")
    assert page.input_value("#message") == "We open at nine."


def test_a_draft_shows_the_texts_that_its_recipients_will_get(gateway, ali, make, client) -> None:
    client.post("/api/contacts", json={"phone_number": NUMBERS[0], "name": "Aziza"})
    path = make(message="{name|there} of {town}{more}")
    people = [
        {"number": NUMBERS[0], "fields": {"town": "Khiva"}},
        {"number": NUMBERS[1], "fields": {"town": "{name}"}},
        {"number": NUMBERS[2], "fields": {"more": "A" * 1024}},
    ]
    client.put(f"/api{path}/recipients", json={"recipients": people})
    with browser(gateway, ali) as mine:
        page = mine.get(path).text
        shown = re.findall(r"<bdi>(\+\d+)</bdi>: <span class=\"(\w+)\">(.*?)</span>", page)
        assert shown == list(
            zip(NUMBERS, ["text"] * 3, ["Aziza of Khiva", "there of {name}", f"there of {'A' * 1024}"], strict=False)
        )
        client.patch(f"/api{path}", json={"message": "{more}"})
        assert mine.get(path).text.count('<span class="wrong">Too long or empty</span>') == 2
        client.patch(f"/api{path}", json={"message": "{street}"})
        assert mine.get(path).text.count("have no field for: {street}") == len(people)


def test_numbers_that_are_refused_stay_in_their_field(gateway, ali, make, client) -> None:
    group = client.post("/api/contact-groups", json={"name": "Customers"}).json()["data"]["id"]
    path = make()
    with browser(gateway, ali) as mine:
        form = {"form_token": token_of(mine, path), "recipients": "+998901112233\n12", "group_ids[]": [group, 77]}
        answer = mine.post(f"{path}/recipients", data=form)
    assert answer.status_code == 422
    assert re.search(r"<details open><summary>Paste numbers", answer.text)
    assert "+998901112233\n12</textarea>" in answer.text
    assert re.search(rf'id="group-{group}" name="group_ids\[\]" value="{group}" checked', answer.text)


def test_a_running_campaign_is_changed_and_one_that_is_over_renamed(browse, ali, make, happens, shown) -> None:
    path = make(*NUMBERS, **EVERYTHING)
    before = shown(path)
    happens(path)
    visitor = browse(ali)
    page = visitor.page
    visitor.open(path)
    page.get_by_text("Change the campaign").click()
    visitor.is_accessible()
    page.fill("#name", "Summer sale")
    page.fill("#rate_per_minute", "20")
    page.check("#day-sun")
    page.fill("#hours-to", "")
    visitor.submit("Save")
    visitor.says("Fill this in too, or empty the other fields here.")
    visitor.complaints.clear()
    assert (page.input_value("#rate_per_minute"), page.is_checked("#day-sun")) == ("20", True)
    page.fill("#hours-to", "21:00")
    visitor.submit("Save")
    visitor.says("Saved.")
    after = shown(path)
    assert (after["name"], after["rate_per_minute"]) == ("Summer sale", 20)
    assert after["hours"] == {"from": "09:00", "to": "21:00", "days": ["mon", "tue", "sun"], "zone": "Europe/London"}
    assert [after[name] for name in ("end_at", "message", "canary")] == [
        before[name] for name in ("end_at", "message", "canary")
    ]
    happens(path, status="cancelled")
    visitor.open(path)
    page.get_by_text("Change the campaign").click()
    assert not page.locator("#rate_per_minute").is_visible()
    page.fill("#name", "Last summer")
    visitor.submit("Save")
    visitor.says("Saved.")
    assert shown(path)["name"] == "Last summer"


def test_a_dry_run_tells_lines_reasons_sims_and_what_budgets_allow(browse, ali, client, make, sql) -> None:
    phone = add_phone(sql, ali, name="Pixel")
    sql.execute("""UPDATE devices SET limits = '{"per_day": 200}' WHERE id = %s""", (phone,))
    path = make(message="Hello from {town}")
    towns = [{"number": number, "fields": {"town": "Khiva"} if n > 1 else {}} for n, number in enumerate(NUMBERS)]
    client.put(f"/api{path}/recipients", json={"recipients": [*towns, NUMBERS[0], "12"]})
    visitor = browse(ali)
    visitor.open(path)
    visitor.submit("Dry run")
    visitor.says("2 recipients have nothing for town. Lines: 1, 2")
    visitor.says("there already: 1")
    visitor.says("not a phone number: 1")
    cells = visitor.page.get_by_role("row", name="Pixel (offline)").get_by_role("cell").all_inner_texts()
    assert [cells[0], *cells[2:]] == ["1", "200", "no limit"]
    visitor.is_accessible()


@pytest.mark.parametrize("scripts", [True, False])
def test_what_is_typed_is_tried_and_started_though_nobody_saved_it(browse, ali, make, shown, sql, scripts) -> None:
    add_phone(sql, ali, name="Pixel")
    path = make(*NUMBERS)
    visitor = browse(ali, java_script_enabled=scripts)
    page = visitor.page
    visitor.open(path)
    page.fill("#message", "We open at nine.")
    page.fill("#recipient_number", "12")
    visitor.submit("Send it to me")
    visitor.says("The recipient number field must be a valid phone number")
    visitor.complaints.clear()
    assert (page.input_value("#message"), page.input_value("#recipient_number")) == ("We open at nine.", "12")
    assert shown(path)["message"] == "Hello"
    page.fill("#recipient_number", NUMBERS[0])
    visitor.submit("Send it to me")
    visitor.says("We open at nine.")
    assert shown(path)["message"] == "We open at nine."
    visitor.open(path)
    page.fill("#message", "We open at ten.")
    visitor.submit("Dry run")
    assert page.locator("#message").input_value() == "We open at ten."
    assert page.get_by_text("The first message:").inner_text().endswith("We open at ten.")
    page.fill("#start_at", "2050-01-01T09:00")
    visitor.submit("Start the campaign")
    assert (shown(path)["status"], shown(path)["message"]) == ("scheduled", "We open at ten.")


def test_a_price_below_a_tenth_is_told_as_it_is(gateway, ali, make, client, sql) -> None:
    add_phone(sql, ali, default=True)
    sql.execute("UPDATE devices SET sms_rate = 0.0375")
    path = make(*NUMBERS[:3])
    message = {"recipient_number": NUMBERS[0], "message": "Hello"}
    sent = client.post("/api/sms", json=message).json()["data"]["id"]
    with browser(gateway, ali) as mine:
        form = {"form_token": token_of(mine, path), "message": "Hello"}
        assert "<dt>Price</dt><dd>0.0375</dd>" in mine.get(f"/messages/{sent}").text
        assert "<dt>Price</dt><dd>0.1125</dd>" in mine.post(f"{path}/dry-run", data=form).text
        assert "price: 0.0375" in mine.post("/send/preview", data=form).text
