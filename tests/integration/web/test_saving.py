"""What forms save and what they leave alone, what they refuse and keep; posted as a browser posts them."""

import json
import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.integration.web.test_safety import browser, token_of
from tests.support.messages_of import add_message, add_phone


@pytest.fixture
def page(gateway, ali, database):
    """A client that posts as a page of ali's does: `page.post(path, {...})`."""
    with browser(gateway, ali) as client:
        token = token_of(client, "/settings")
        post = client.post
        client.post = lambda path, form, **more: post(path, data={"form_token": token, **form}, **more)
        yield client


def fields_of(text):
    """What the fields of a page have: texts, chosen options and ticks."""
    found = dict(re.findall(r'name="([^"]+)" type="[\w-]+" value="([^"]*)"', text))
    found |= dict(re.findall(r'<textarea [^>]*?name="(\w+)"[^>]*>([^<]*)<', text))
    found |= dict.fromkeys(re.findall(r'<select [^>]*?name="([^"]+)"', text), "")
    for name, options in re.findall(r'<select [^>]*?name="([^"]+)"[^>]*>(.*?)</select>', text, re.DOTALL):
        found[name] = (re.findall(r'value="([^"]*)" selected', options) or [""])[0]
    ticks = re.findall(r'type="checkbox" id="[^"]+" name="(\w+)" value="1"( checked)?', text)
    return found | {name: "1" if ticked else "0" for name, ticked in ticks}


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


def test_a_key_that_may_do_nothing_is_not_one_that_may_do_everything(page, sql) -> None:
    sql.execute("UPDATE users SET password_hash = NULL")
    refused = page.post("/keys", {"name": "None ticked"})
    assert (refused.status_code, "The abilities field is required." in refused.text) == (422, True)
    assert sql.execute("SELECT count(*) FROM tokens WHERE name = 'None ticked'").fetchone() == (0,)


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
    typed = fields_of(refused)
    assert (typed["email"], typed["notes"]) == ("x", "")


@pytest.mark.needs_browser
def test_an_old_page_of_a_contact_takes_nothing_back(browse, ali, client) -> None:
    contact = {"phone_number": "+998901112233", "name": "Ali", "time_zone": "Asia/Tashkent"}
    number = client.post("/api/contacts", json=contact).json()["data"]["id"]
    old, other = browse(ali), browse(ali)
    old.open(f"/contacts/{number}")
    other.open(f"/contacts/{number}")
    other.page.fill("#name", "Alisher")
    other.page.fill("#phone_number", "+998901112234")
    other.submit("Save")
    old.page.fill("#email", "ali")
    old.page.fill("#notes", "Regular")
    old.page.locator("main form").first.evaluate("form => form.noValidate = true")
    old.submit("Save")
    old.says("The email field must be a valid email address.")
    old.complaints.clear()
    old.page.fill("#email", "ali@example.com")
    old.page.select_option("#time_zone", "")
    old.submit("Save")
    saved = client.get(f"/api/contacts/{number}").json()["data"]
    assert [saved[name] for name in ("phone_number", "name", "email", "notes", "time_zone")] == [
        "+998901112234", "Alisher", "ali@example.com", "Regular", None
    ]  # fmt: skip


def test_every_group_can_be_chosen(page, ali, client, sql) -> None:
    sql.execute("INSERT INTO contact_groups (user_id, name) SELECT %s, 'g' FROM generate_series(1, 206)", (ali.id,))
    [first] = sql.execute("SELECT min(id) FROM contact_groups").fetchone()
    campaign = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    assert f'<option value="{first}"' in page.get("/contacts").text
    for path in ("/send", f"/campaigns/{campaign}"):
        assert f'id="group-{first}"' in page.get(path).text, path


@pytest.mark.needs_browser
def test_a_page_that_is_old_takes_nothing_back_that_was_set_meanwhile(browse, ali, client, sql) -> None:
    number = add_phone(sql, ali)
    cards = [{"slot_index": slot, "phone_number": None, "carrier_name": None, "iccid": None} for slot in (0, 1)]
    sql.execute("UPDATE devices SET sim_cards = %s", (json.dumps(cards),))
    old, visitor = browse(ali), browse(ali)
    old.open(f"/phones/{number}")
    visitor.open(f"/phones/{number}")
    for field, value in (("limit-per_hour", "77"), ("limit-1per_day", "5"), ("send_delay_seconds", "9")):
        visitor.page.fill(f"#{field}", value)
    visitor.submit("Save")
    old.page.fill("#device_name", "Front desk")
    old.page.fill("#limit-0per_day", "6")
    old.submit("Save")
    shown = client.get(f"/api/devices/{number}").json()["data"]
    assert shown["limits"] == {"per_hour": 77, "sims": {"0": {"per_day": 6}, "1": {"per_day": 5}}}
    assert (shown["device_name"], shown["send_delay_seconds"]) == ("Front desk", 9)
    for field in ("limit-per_hour", "limit-0per_day"):
        old.page.fill(f"#{field}", "")
    old.submit("Save")
    assert client.get(f"/api/devices/{number}").json()["data"]["limits"] == {"sims": {"1": {"per_day": 5}}}
    old.is_accessible()


def test_limits_are_of_the_card_that_they_stand_at(page, ali, client, sql) -> None:
    number = add_phone(sql, ali)
    cards = [{"slot_index": slot, "phone_number": None, "carrier_name": None, "iccid": None} for slot in (1, 2)]
    sql.execute("UPDATE devices SET sim_cards = %s", (json.dumps(cards),))

    def save(per_day):
        names = re.findall(r'name="(limits[^"]+)"', page.get(f"/phones/{number}").text)
        form = dict.fromkeys(names, "") | {next(name for name in names if "2][per_day" in name): per_day}
        return page.post(f"/phones/{number}", form)

    assert save("6").status_code == 303
    limits = client.get(f"/api/devices/{number}").json()["data"]["limits"]
    assert limits == {"sims": {"2": {"per_day": 6}}}
    refused = save("-1")
    assert (refused.status_code, 'role="alert"' in refused.text) == (422, False)
    assert 'id="limits[sims][sim-2][per_day]-wrong"' in refused.text


def test_limits_that_are_refused_are_told_at_their_fields_and_kept(page, ali, client, sql) -> None:
    number = add_phone(sql, ali)
    client.put(f"/api/devices/{number}", json={"limits": {"per_hour": 77}})
    typed = {"device_name": "", "limits[per_minute]": "0", "limits[per_hour]": "", "limits[per_day]": "90"}
    shown = {"was[device_name]": "Pixel 7", "was[limits][per_minute]": "", "was[limits][per_hour]": "77"}
    refused = page.post(f"/phones/{number}", typed | shown)
    assert (refused.status_code, 'role="alert"' in refused.text) == (422, False)
    assert {'id="device_name-wrong"', 'id="limits[per_minute]-wrong"'} <= set(
        re.findall(r'id="[^"]+-wrong"', refused.text)
    )
    assert fields_of(refused.text).items() >= typed.items()
    # What is mended now is saved as it would have been at first.
    hidden = dict(re.findall(r'type="hidden" name="(was[^"]+)" value="([^"]*)"', refused.text))
    page.post(f"/phones/{number}", hidden | typed | {"device_name": "Desk", "limits[per_minute]": "3"})
    shown = client.get(f"/api/devices/{number}").json()["data"]
    assert (shown["device_name"], shown["limits"]) == ("Desk", {"per_minute": 3, "per_day": 90})


def test_a_phones_budgets_are_what_its_limits_count(page, ali, client, sql) -> None:
    number = add_phone(sql, ali)
    for _ in range(3):
        add_message(sql, ali, device_id=number)
    limits = {"per_day": 150, "sims": {"1": {"per_month": 1000}}}
    client.put(f"/api/devices/{number}", json={"limits": limits})
    for days, slot, segments in ((0, 0, 6), (0, 1, 9), (2, 1, 20), (31, 1, 99)):
        sql.execute(
            "INSERT INTO device_releases (device_id, released_at, sim_slot, segments, recipient)"
            " VALUES (%s, clock_timestamp() - make_interval(days => %s), %s, %s, 1)",
            (number, days, slot, segments),
        )
    [left] = client.get("/api/capacity").json()["data"]["devices"]
    assert (left["left_today"], left["sims"][0]["left_this_month"]) == (150 - 15, 1000 - 29)
    client.put(f"/api/devices/{number}", json={"is_active": False})
    for path in (f"/phones/{number}", f"/phones/{number}/now"):
        shown = page.get(path).text
        assert '<progress id="budget-per_day" value="15" max="150">' in shown
        assert '<progress id="budget-per_month1" value="29" max="1000">' in shown
        assert "SIM card 2: Budget of 30 days, in SMS parts: 29 / 1\N{NARROW NO-BREAK SPACE}000" in shown


def test_whom_a_message_to_many_leaves_out_is_told_with_the_reason(page, ali, client, sql) -> None:
    add_phone(sql, ali, default=True)
    for number in ("+998901112244", "+998901112255"):
        client.post("/api/opt-outs", json={"phone_number": number})
    recipients = "+998901112233\n+998901112244\n<b>\n+998901112255"
    form = {"recipients": recipients, "message": "Hello", "skip_invalid": "1", "key": "of-this-page"}
    told = "Queued for sending. Messages: 1. Left out: 3 &lt;b&gt;: This is not a valid phone number."
    told += "".join(f" +9989011122{end}: The recipient has opted out of your messages." for end in (44, 55))
    for _ in range(2):
        sent = page.post("/send", form)
        assert sent.status_code == 200
        assert told in " ".join(re.sub("<[^>]+>", " ", sent.text).split()).replace(" :", ":")
    many = page.post("/send", form | {"recipients": "+998901112233\n" + "x\n" * 1102, "key": "of-another"})
    assert (many.text.count("This is not a valid"), "And 1\N{NARROW NO-BREAK SPACE}002 more." in many.text) == (
        100,
        True,
    )
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (2,)


def test_settings_that_are_refused_stay_as_they_were_typed(page, ali, client, sql) -> None:
    stored = {"time_zone": "Asia/Tashkent", "default_region": "UZ", "keep_inbound": True, "device_events": False}
    client.put("/api/settings", json={**stored, "keep_messages_days": 90})
    typed = {"time_zone": "", "default_region": "", "keep_inbound": "0", "device_events": "1", "keep_messages_days": ""}
    refused = page.post("/settings", {**typed, "offline_alert_minutes": "0"})
    assert (refused.status_code, 'id="offline_alert_minutes-wrong"' in refused.text) == (422, True)
    assert fields_of(refused.text).items() >= {**typed, "offline_alert_minutes": "0"}.items()
    unknown = page.post("/settings", {"time_zone": "Nowhere"})
    assert ('id="time_zone-wrong"' in unknown.text, 'role="alert"' in unknown.text) == (True, False)
    elsewhere = fields_of(page.post("/settings/password", {"password": "x"}).text)
    assert (elsewhere["time_zone"], elsewhere["keep_inbound"]) == ("Asia/Tashkent", "1")

    words = {"opt_out_words": ["Basta"], "opt_in_reply": "Welcome", "events": False}
    client.put("/api/opt-outs/settings", json=words)
    typed = {"keywords": "0", "events": "1", "opt_out_words": "", "opt_in_reply": "", "help_reply": "STOP"}
    refused = page.post("/opt-outs/settings", typed)
    assert (refused.status_code, 'id="help_reply-wrong"' in refused.text) == (422, True)
    assert fields_of(refused.text).items() >= typed.items()
    refused = page.post("/opt-outs/settings", {**typed, "help_reply": "", "opt_out_words": "No more\n!!"}).text
    assert ('id="opt_out_words-wrong"' in refused, 'role="alert"' in refused) == (True, False)
    assert fields_of(refused)["opt_out_words"] == "No more\n!!"


def test_webhooks_are_delivered_again_by_the_accounts_clock(page, ali, sql) -> None:
    sql.execute("UPDATE users SET time_zone = 'Asia/Tashkent'")
    where = "https://shop.example/status"
    sql.execute(
        "INSERT INTO webhook_urls (user_id, hook, url, origin) VALUES (%s, 'status', %s, 'https://shop.example')",
        (ali.id, where),
    )
    for hour in (18, 19, 20):
        sql.execute(
            "INSERT INTO webhook_deliveries (webhook_id, user_id, event, hook, url, state, error, body, created_at,"
            " finished_at) VALUES (gen_random_uuid(), %s, 'status', 'status', %s, 'failed', 'HTTP 500', '{}',"
            " make_timestamptz(2026, 6, 7, %s, 30, 0, 'UTC'), clock_timestamp())",
            (ali.id, where, hour),
        )
    refused = page.post("/webhooks/replay", {"from": "2026-06-08T00:00", "to": "2026-06-07T00:00"})
    assert (refused.status_code, fields_of(refused.text)["from"]) == (422, "2026-06-08T00:00")
    page.post("/webhooks/replay", {"from": "2026-06-08T00:00", "to": "2026-06-08T01:00"})
    states = [state for (state,) in sql.execute("SELECT state FROM webhook_deliveries ORDER BY created_at").fetchall()]
    assert states == ["failed", "pending", "failed"]


def test_a_contact_has_a_time_zone(page, ali, client) -> None:
    contact = {"phone_number": "+998901112233", "time_zone": "EST5EDT"}
    number = client.post("/api/contacts", json=contact).json()["data"]["id"]
    shown = fields_of(page.get(f"/contacts/{number}").text)
    assert shown["time_zone"] == "EST5EDT"
    for typed, saved in (("EST5EDT", "EST5EDT"), ("Asia/Tashkent", "Asia/Tashkent"), ("", None)):
        page.post(f"/contacts/{number}", {"phone_number": contact["phone_number"], "time_zone": typed})
        assert client.get(f"/api/contacts/{number}").json()["data"]["time_zone"] == saved


def test_the_columns_of_imported_contacts_can_be_named(gateway, ali, client) -> None:
    rows = b"who,home,office\nLaylo,+998901112233,+998901112244\n"
    named = {"phone_number_column": "office", "name_column": "1", "email_column": "mail", "group_id": ""}
    with browser(gateway, ali) as visitor:
        shown = visitor.get("/contacts").text
        assert fields_of(shown).keys() >= named.keys() | {"notes_column", "time_zone_column"}

        def import_file(fields):
            form = {"form_token": re.search(r'name="form_token" value="(\w+)"', shown)[1], **fields}
            return visitor.post("/contacts/import", data=form, files={"file": ("people.csv", rows)})

        refused = import_file(named)
        assert (refused.status_code, 'id="email_column-wrong"' in refused.text) == (422, True)
        assert fields_of(refused.text).items() >= named.items()
        assert import_file(named | {"email_column": ""}).status_code == 200
    [contact] = client.get("/api/contacts").json()["data"]["data"]
    assert (contact["name"], contact["phone_number"]) == ("Laylo", "+998901112244")


def test_words_that_opt_in_again_are_the_built_in_ones_or_the_owners_or_none(page, ali, client) -> None:
    def typed():
        shown = fields_of(page.get("/opt-outs").text)
        return {name: shown[name] for name in ("built_in_opt_in", "opt_in_words")}

    assert typed() == {"built_in_opt_in": "1", "opt_in_words": ""}
    for ticked, words, saved in (("1", "Back\n\nAgain ", ["Back", "Again"]), ("0", "", []), ("1", "", None)):
        page.post(
            "/opt-outs/settings", {"built_in_opt_in": ticked, "opt_in_words": words, "keywords": "1", "events": "0"}
        )
        assert client.get("/api/opt-outs/settings").json()["data"]["opt_in_words"] == saved
        shown = {"built_in_opt_in": "1" if saved is None else "0", "opt_in_words": "\n".join(saved or [])}
        assert typed() == shown
    wrong = {"opt_out_words": "Back", "opt_in_words": "back", "keywords": "1", "events": "0"}
    assert 'id="opt_in_words-wrong"' in page.post("/opt-outs/settings", wrong).text


def test_one_who_opted_out_is_sent_what_they_asked_for(page, ali, client, sql) -> None:
    add_phone(sql, ali, default=True)
    client.post("/api/opt-outs", json={"phone_number": "+998901112233"})
    form = {"recipients": "+998901112233", "message": "Your code is 1234"}
    refused = page.post("/send", form | {"ignore_opt_out": "0", "key": "first"})
    assert (refused.status_code, fields_of(refused.text)["ignore_opt_out"]) == (422, "0")
    sent = page.post("/send", form | {"ignore_opt_out": "1", "key": "second"})
    assert re.fullmatch(r"/messages/\d+", sent.headers["location"])


def test_one_who_opted_out_is_answered_what_they_asked_for(page, ali, client, sql) -> None:
    phone = add_phone(sql, ali, default=True)
    add_message(sql, ali, direction="inbound", sender_number="+998901112233", device_id=phone)
    path, form = "/conversations/+998901112233", {"message": "Your code is 1234"}
    assert "ignore_opt_out" not in page.get(path).text
    client.post("/api/opt-outs", json={"phone_number": "+998901112233"})
    refused = page.post(path, form | {"ignore_opt_out": "0", "key": "first"})
    assert (refused.status_code, fields_of(refused.text)["ignore_opt_out"]) == (422, "0")
    assert page.post(path, form | {"ignore_opt_out": "1", "key": "second"}).status_code == 303
    assert sql.execute("SELECT message FROM messages WHERE direction = 'outbound'").fetchall() == [(form["message"],)]


def test_one_whose_number_came_without_its_country_is_answered_in_the_same_conversation(page, ali, client, sql) -> None:
    client.put("/api/settings", json={"default_region": "UZ"})
    phone = add_phone(sql, ali, default=True)
    add_message(sql, ali, direction="inbound", sender_number="901112233", device_id=phone, message="Is it open?")
    path, form = "/conversations/901112233", {"message": "We are open"}
    assert page.post(path, form | {"key": "first"}).headers["location"] == path
    talk = page.get(path).text
    assert "Is it open?" in talk
    assert "We are open" in talk
    client.post("/api/contacts", json={"phone_number": "+998901112233", "name": "Laylo"})
    client.post("/api/opt-outs", json={"phone_number": "+998901112233"})
    talk = page.get(path).text
    assert "Laylo" in talk
    assert "ignore_opt_out" in talk


def test_columns_of_opt_outs_are_named_by_who_imports_them(page, client) -> None:
    rows = b"old,new,why\n+998901112233,+998901112244,asked\n"

    def imported(**form):
        return page.post("/opt-outs/import", form, files={"file": ("numbers.csv", rows)})

    refused = imported(phone_number_column="newest", note_column="why")
    assert 'id="phone_number_column-wrong"' in refused.text
    assert fields_of(refused.text)["phone_number_column"] == "newest"
    assert "1 numbers added" in imported(phone_number_column="new", note_column="why").text
    [listed] = client.get("/api/opt-outs").json()["data"]["data"]
    assert (listed["phone_number"], listed["note"]) == ("+998901112244", "asked")


def test_a_number_that_is_refused_is_named_as_it_was_typed(gateway, ali, sql) -> None:
    sql.execute("UPDATE users SET default_region = 'UZ'")
    add_phone(sql, ali)
    with browser(gateway, ali) as mine:
        form = {"form_token": token_of(mine, "/send"), "message": "Hello", "recipients": "90 111 22 33\nAziza\n12"}
        answer = mine.post("/send", data=form)
    assert answer.status_code == 422
    assert "Aziza: The phone number contains characters that are not digits." in answer.text
    assert "12: This is not a complete phone number of UZ: check its length and area code." in answer.text
    assert "recipients.1" not in answer.text


def test_a_time_that_is_over_is_told_by_the_accounts_clock(gateway, ali, client, sql) -> None:
    add_phone(sql, ali)
    message = {"message": "Hello", "recipient_number": "+998901112233"}
    sql.execute("UPDATE users SET time_zone = 'Asia/Tashkent'")
    later = datetime.now(UTC) + timedelta(days=2)
    number = client.post("/api/sms", json=message | {"send_at": later.isoformat()}).json()["data"]["id"]
    past = {"send_at": "2020-01-01T09:00"}
    with browser(gateway, ali) as mine:
        form = {"form_token": token_of(mine, "/send")} | past
        for answer in (
            mine.post(f"/messages/{number}/send-at", data=form),
            mine.post("/send", data=form | {"message": "Hello", "recipients": "+998901112233"}),
        ):
            assert (answer.status_code, 'value="2020-01-01T09:00"' in answer.text) == (422, True)
            assert "This time is over. Choose one in the future, or none." in answer.text
            assert "UTC." not in answer.text


def test_a_scheduled_message_is_given_another_time_by_the_accounts_clock(page, ali, client, sql) -> None:
    sql.execute("UPDATE users SET time_zone = 'Asia/Tashkent'")
    add_phone(sql, ali, default=True)
    day = datetime.now(UTC).date() + timedelta(days=7)
    body = {"recipient_number": "+998901112233", "message": "Later", "send_at": f"{day}T04:00:00Z"}
    path = f"/messages/{client.post('/api/sms', json=body).json()['data']['id']}"

    def due():
        return sql.execute("SELECT scheduled_at AT TIME ZONE 'Asia/Tashkent' FROM messages").fetchone()[0]

    assert fields_of(page.get(path).text)["send_at"] == f"{day}T09:00"
    refused = page.post(f"{path}/send-at", {"send_at": "2020-01-01T09:00"})
    assert (refused.status_code, 'id="send_at-wrong"' in refused.text) == (422, True)
    assert fields_of(refused.text)["send_at"] == "2020-01-01T09:00"
    assert page.post(f"{path}/send-at", {"send_at": f"{day}T21:30"}).status_code == 303
    assert due().isoformat() == f"{day}T21:30:00"
    page.post(f"{path}/send-at", {"send_at": ""})
    assert due() is None
    assert "/send-at" not in page.get(path).text
