"""Each page's main job, in a browser, from the click to the phone."""

import csv
import os
import re
import subprocess
from pathlib import Path

import httpx
import psycopg
import pytest
import segno

from app.core.refusals import ACCOUNT_BLOCKED
from app.local import commands
from tests.support.messages_of import add_message, add_phone
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver, answer

pytestmark = pytest.mark.needs_browser

PASSWORD = "correct horse"
WORKBOOK = Path(__file__).parents[2] / "data" / "files" / "oddities.xlsx"


@pytest.fixture
def secret(ali, sql):
    """Ali's password."""
    from app.accounts.passwords import hash_password

    sql.execute("UPDATE users SET password_hash = %s WHERE id = %s", (hash_password(PASSWORD), ali.id))
    return PASSWORD


@pytest.fixture
def unpaired(gateway):
    from tests.support.strict_phone import StrictPhone

    made = StrictPhone(gateway.url)
    yield made
    made.close()


# Which of its places a code has dark, as they are drawn.
DARK = """(path, size) => [...Array(size).keys()].map((y) => [...Array(size).keys()].map(
    (x) => +path.isPointInStroke(new DOMPoint(x + 0.5, y + 0.5))))"""


def test_from_pairing_to_the_first_message_and_the_first_program(browse, ali, secret, unpaired, api, sql) -> None:
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/")
    visitor.says("No phone is paired yet.")
    visitor.is_accessible()
    visitor.submit("Pair a phone")
    visitor.is_accessible()
    visitor.picture("pairing")
    address, token = page.input_value("#server"), page.input_value("#private")
    assert address == f"{visitor.url}/api/mobile/v1"
    # The picture that a camera sees is the code of these two.
    code = segno.make(f"{address}\n{token}", error="m")
    assert page.locator(".qr svg path").evaluate(DARK, code.symbol_size()[0]) == [
        [int(dark) for dark in row] for row in code.matrix_iter()
    ]
    unpaired.register(token)
    visitor.says("is connected.")
    sql.execute("UPDATE users SET default_device_id = (SELECT id FROM devices)")  # no worker routes here
    with unpaired.stream():
        visitor.open("/send")
        visitor.is_accessible()
        page.fill("#recipients", "+998901112233")
        page.fill("#message", "Salom… 👋")
        visitor.says("These characters make the text cost more parts:")
        visitor.picture("send")
        visitor.submit("Send")
        assert re.search(r"/messages/\d+$", page.url)
        visitor.says("Next in line on")
        [message] = unpaired.pull()
        assert (message["textMessage"]["text"], message["phoneNumbers"]) == ("Salom… 👋", ["+998901112233"])
        unpaired.send(message["id"])
        unpaired.report(message["id"], "Delivered")
        page.locator(".badge.delivered").first.wait_for()
        visitor.is_accessible()
    visitor.open("/first-steps")
    visitor.says("A message was delivered: everything works.")
    visitor.open("/keys")
    visitor.is_accessible()
    page.fill("#name", "Shop")
    page.fill("#current_password", "wrong one")
    visitor.submit("Make the key")
    visitor.says("The password is incorrect.")
    assert page.input_value("#name") == "Shop"
    visitor.complaints.clear()
    page.fill("#current_password", secret)
    visitor.submit("Make the key")
    visitor.says("Copy it now")
    visitor.is_accessible()
    key = page.input_value("#new-key")
    assert f"Authorization: Bearer {key}" in page.inner_text("#curl")
    sent = api.post(
        "/api/sms",
        headers={"Authorization": f"Bearer {key}"},
        json={"recipient_number": "+998901112233", "message": "From a program"},
    )
    assert sent.status_code == 201


def test_sending_a_page_twice_sends_once(browse, ali, phone, sql) -> None:
    visitor = browse(ali)
    visitor.open("/send")
    fields = visitor.page.evaluate("Object.fromEntries(new FormData(document.querySelector('#send')))")
    fields |= {"recipients": "+998901112233", "message": "Once"}
    cookie = {"smsfleet_session": ali.headers["Authorization"].removeprefix("Bearer ")}
    with httpx.Client(base_url=visitor.url, cookies=cookie) as client:
        first, again = client.post("/send", data=fields), client.post("/send", data=fields)
    assert first.status_code == again.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (1,)


def test_many_recipients_and_groups(browse, ali, phone, client, sql) -> None:
    group = client.post("/api/contact-groups", json={"name": "Customers"}).json()["data"]["id"]
    client.post("/api/contacts", json={"phone_number": "+998901112200", "name": "Laylo", "group_ids": [group]})
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/send")
    page.fill("#recipients", "+998901112233\nnot a number")
    page.check(f"#group-{group}")
    page.fill("#message", "Hello {name}")
    visitor.submit("Send")
    assert page.locator("#recipients-wrong").inner_text().strip()
    assert page.input_value("#message") == "Hello {name}"
    assert page.is_checked(f"#group-{group}")
    visitor.complaints.clear()
    page.check("#skip_invalid")
    visitor.submit("Send")
    visitor.says("Left out: 1")
    visitor.is_accessible()
    texts = sql.execute("SELECT message, recipient_number FROM messages ORDER BY recipient_number").fetchall()
    assert texts == [("Hello Laylo", "+998901112200"), ("Hello ", "+998901112233")]


def test_a_template_is_kept_taken_changed_and_deleted(browse, ali, phone, client, sql) -> None:
    client.post("/api/contacts", json={"phone_number": "+998901112200", "name": "Laylo"})
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/templates")
    visitor.says("There is no template yet.")
    page.fill("#name", "Opening")
    page.fill("#message", "Hello {name}, come at {hour}")
    visitor.submit("Keep it")
    visitor.is_accessible()
    visitor.open("/send")
    page.fill("#recipients", "+998901112200")
    visitor.is_accessible()
    page.get_by_role("button", name="Take its text").click()
    page.locator("#text input[name=template]").wait_for(state="attached")
    assert page.input_value("#message") == "Hello {name}, come at {hour}"
    visitor.says("SMS parts: 1")
    visitor.submit("Send")
    visitor.says("placeholders that no field fills: {hour}")
    visitor.complaints.clear()
    page.fill("#message", "Hello {name}, come at nine")
    visitor.submit("Send")
    assert sql.execute("SELECT message FROM messages").fetchall() == [("Hello Laylo, come at nine",)]
    visitor.open("/templates")
    page.get_by_role("link", name="Opening", exact=True).click()
    page.fill("#message", "Hello {name|there}")
    visitor.submit("Save")
    page.get_by_role("link", name="Opening", exact=True).click()
    page.get_by_role("link", name="New campaign").click()
    assert page.input_value("#message") == "Hello {name|there}"
    page.go_back()
    visitor.is_accessible()
    page.get_by_text("Delete the template").first.click()
    visitor.submit("Delete the template")
    visitor.says("There is no template yet.")


def test_a_phone_is_paused_renamed_limited_and_removed(browse, ali, phone, client, device_number) -> None:
    number = device_number(phone)
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/phones")
    visitor.is_accessible()
    page.get_by_role("link", name="samsung/a52qnsxx").click()
    visitor.submit("Pause")
    visitor.says("paused")
    page.fill("#device_name", "Front desk")
    page.fill("#send_delay_seconds", "7")
    page.fill("#limit-per_day", "200")
    visitor.submit("Save")
    shown = client.get(f"/api/devices/{number}").json()["data"]
    assert (shown["device_name"], shown["is_active"], shown["send_delay_seconds"]) == ("Front desk", False, 7)
    assert shown["limits"] == {"per_day": 200}
    visitor.is_accessible()
    page.fill("#send_delay_seconds", "-1")
    page.locator("form", has=page.locator("#device_name")).evaluate("form => form.noValidate = true")
    visitor.submit("Save")
    visitor.says("must be at least 0")
    visitor.complaints.clear()
    page.get_by_text("Remove the phone").first.click()
    visitor.says("messages wait for it")
    visitor.submit("Remove the phone")
    visitor.says("No phone is paired yet.")


def test_a_message_says_why_it_waits_is_cancelled_and_a_failed_one_sent_again(
    browse, ali, phone, send, settings_of, client
) -> None:
    settings_of(phone, send_delay_seconds=600, device_name="Pixel")
    with phone.stream():
        first, second = send("one"), send("two")
        [message] = phone.pull()
        phone.report(message["id"], "Failed", error="Send result: RESULT_ERROR_NO_SERVICE")
        visitor = browse(ali)
        visitor.open(f"/messages/{second['id']}")
        visitor.says("Pixel sends one message every 600 seconds; this message is next.")
        visitor.submit("Cancel it")
        visitor.page.locator(".badge.cancelled").first.wait_for()
        visitor.open("/messages?status=failed")
        visitor.is_accessible()
        visitor.page.get_by_role("link", name="+998901112233").click()
        visitor.says("The SIM card has no mobile service.")
        visitor.is_accessible()
        visitor.picture("message")
        visitor.submit("Send it again")
        visitor.page.locator(".badge.pending").first.wait_for()
    assert client.get(f"/api/sms/{first['id']}").json()["data"]["status"] == "pending"


def test_messages_are_exported_by_the_days_of_the_accounts_clock(gateway, ali, sql, database) -> None:
    sql.execute("UPDATE users SET time_zone = 'Asia/Tashkent'")
    for moment, text in (("07 18:59", "yesterday"), ("07 19:01", "=today"), ("08 18:58", "other")):
        add_message(sql, ali, message=text, created_at=f"2026-06-{moment}+00")
    cookies = {"smsfleet_session": ali.headers["Authorization"].removeprefix("Bearer ")}
    with httpx.Client(base_url=gateway.url, cookies=cookies) as client:
        whole = client.get("/messages/export")
        assert (whole.headers["content-type"], whole.text[0]) == ("text/csv; charset=utf-8", "\ufeff")
        rows = list(csv.DictReader(whole.text[1:].splitlines()))
        assert [row["message"] for row in rows] == ["other", "'=today", "yesterday"]
        day = {"from": "2026-06-08", "to": "2026-06-08", "status": ""}
        shown = client.get("/messages", params=day).text
        assert ("=today" in shown, "other" in shown, "yesterday" in shown) == (True, True, False)
        assert len(client.get("/messages/export", params=day).text.splitlines()) == 3
        assert client.get("/messages/export", params={"search": "x"}).status_code == 422
        assert client.get("/messages/export", params={"from": "soon"}).status_code == 422


def test_lists_follow_what_happens(browse, ali, phone, send) -> None:
    visitor = browse(ali)
    visitor.open("/messages")
    visitor.says("There is no message yet.")
    visitor.is_live()
    send("Appears by itself")
    visitor.says("Appears by itself")
    visitor.says("Messages: 1")
    visitor.open("/")
    visitor.says("Messages that wait to be sent: 1.")


def test_a_conversation_is_read_and_answered_without_a_reload(browse, ali, phone, sql) -> None:
    phone.sync()
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/conversations")
    visitor.says("Nobody has written")
    visitor.is_live()
    phone.receive("+998901112233", "Is it open?")
    visitor.says("Is it open?")
    visitor.is_accessible()
    page.get_by_role("link", name="+998901112233").click()
    visitor.is_live()
    phone.receive("+998901112233", "Hello?")
    visitor.says("Hello?")
    page.fill("#message", "Yes, come in")
    visitor.submit("Send")
    visitor.says("Yes, come in")
    visitor.is_accessible()
    visitor.picture("conversation")
    [message] = phone.pull()
    assert message["phoneNumbers"] == ["+998901112233"]
    visitor.open("/conversations")
    assert page.locator(".unread").count() == 0


def test_contacts_and_groups(browse, ali, client, tmp_path) -> None:
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/groups")
    page.fill("#name", "Customers")
    visitor.submit("Make it")
    visitor.is_accessible()
    file = tmp_path / "people.csv"
    file.write_text("name,phone\nLaylo,+998901112233\nNobody,12\n", encoding="utf-8")
    visitor.open("/contacts")
    page.set_input_files("#file", file)
    page.select_option("#import-group", label="Customers")
    page.get_by_role("button", name="Import").click()
    visitor.says("1 contacts imported, 1 rows left out.")
    visitor.open("/contacts")
    visitor.is_accessible()
    page.fill("#new-number", "nonsense")
    visitor.submit("Add")
    visitor.says("must be a valid phone number")
    visitor.complaints.clear()
    page.get_by_role("link", name="Laylo").click()
    visitor.is_accessible()
    page.fill("#email", "laylo@example.com")
    visitor.submit("Save")
    [contact] = client.get("/api/contacts").json()["data"]["data"]
    assert (contact["email"], [group["name"] for group in contact["groups"]]) == ("laylo@example.com", ["Customers"])
    page.get_by_role("link", name="Customers").click()
    visitor.is_accessible()
    visitor.submit("Take out Laylo")
    visitor.says("Nobody is in it yet.")
    page.fill("#add", "laylo")
    visitor.submit("Search")
    page.get_by_label("Laylo").check()
    visitor.submit("Add")
    visitor.says("1 contacts")


def test_a_webhook_that_fails_is_seen_mended_and_replayed(browse, ali, configured, sql) -> None:
    from app.webhooks.guard import check_address

    configured(WEBHOOK_ALLOWED_NETWORKS="127.0.0.0/8")
    check_address.cache_clear()
    visitor = browse(ali)
    page = visitor.page
    with Receiver() as receiver:
        receiver.behaviour = answer(500, b"<b>no such table</b>")
        visitor.open("/webhooks")
        page.fill("#webhook_url_status", "nonsense")
        page.locator("form", has=page.locator("#webhook_url_status")).evaluate("form => form.noValidate = true")
        visitor.submit("Save")
        assert page.locator("#webhook_url_status-wrong").inner_text().strip()
        visitor.complaints.clear()
        page.fill("#webhook_url_status", receiver.url())
        visitor.submit("Save")
        visitor.submit("Test the status webhook")
        visitor.says("The receiver did not accept the test.")
        visitor.says("<b>no such table</b>")
        message = add_message(sql, ali)
        [number] = sql.execute(
            "INSERT INTO webhook_deliveries (webhook_id, user_id, event, hook, url, message_id, state, error, body,"
            " finished_at) VALUES (gen_random_uuid(), %s, 'status', 'status', %s, %s, 'failed', 'HTTP 500', '{}',"
            " clock_timestamp()) RETURNING id",
            (ali.id, receiver.url("/wrong"), message),
        ).fetchone()
        sql.execute(
            "INSERT INTO webhook_attempts (delivery_id, url, status_code, answer, duration_ms)"
            " VALUES (%s, %s, 500, '<b>no such table</b>', 12)",
            (number, receiver.url("/wrong")),
        )
        visitor.open("/webhooks?state=failed")
        visitor.is_accessible()
        page.get_by_role("link", name=receiver.url("/wrong")).click()
        visitor.says("<b>no such table</b>")
        visitor.is_accessible()
        visitor.submit("Deliver again")
        page.locator(".badge.pending").first.wait_for()
    assert sql.execute("SELECT state, url FROM webhook_deliveries").fetchone() == ("pending", receiver.url())
    check_address.cache_clear()


def set_rules_of_sending(visitor, sql) -> None:
    page = visitor.page
    form = page.locator("form[action='/settings/sending']")
    page.fill("#allowed-from", "09:00")
    page.fill("#allowed-to", "20:30")
    page.uncheck("#day-sun")
    page.fill("#cap-messages", "3")
    page.fill("#country_zones", "us America/Chicago\nKZ Nowhere")
    with page.expect_navigation():
        form.get_by_role("button", name="Save").click()
    assert page.locator("[id='frequency_cap[days]-wrong']").inner_text() == "The frequency cap.days field is required."
    assert "time zone" in page.locator("#country_zones-wrong").inner_text()
    visitor.complaints.clear()
    assert (page.input_value("#cap-messages"), page.is_checked("#day-sun")) == ("3", False)
    page.fill("#cap-days", "7")
    page.fill("#same_content_minutes", "60")
    page.fill("#country_zones", "us America/Chicago")
    page.check("#sticky_phone")
    visitor.is_accessible()
    with page.expect_navigation():
        form.get_by_role("button", name="Save").click()
    columns = "allowed_hours, frequency_cap, same_content_minutes, sticky_phone, country_zones"
    hours = {"from": "09:00", "to": "20:30", "days": ["mon", "tue", "wed", "thu", "fri", "sat"], "zone": "recipient"}
    expected = (hours, {"messages": 3, "days": 7}, 60, True, {"US": "America/Chicago"})
    assert sql.execute(f"SELECT {columns} FROM users").fetchone() == expected
    page.fill("#allowed-from", "")
    page.fill("#allowed-to", "")
    with page.expect_navigation():
        form.get_by_role("button", name="Save").click()
    assert sql.execute(f"SELECT {columns} FROM users").fetchone() == (None, *expected[1:])


def test_settings_password_sessions_and_the_end(browse, ali, secret, api, sql) -> None:
    visitor = browse(ali)
    page = visitor.page
    ali.token(kind="session")
    visitor.open("/settings")
    visitor.is_accessible()
    page.fill("#default_region", "uz")
    page.uncheck("#failover")
    visitor.submit("Save")
    visitor.says("Saved.")
    assert sql.execute("SELECT default_region, failover, keep_inbound FROM users").fetchone() == ("UZ", False, True)
    set_rules_of_sending(visitor, sql)
    visitor.submit("Sign out everywhere else")
    assert sql.execute("SELECT count(*) FROM tokens").fetchone() == (1,)
    page.fill("#current_password", "wrong")
    page.fill("#password", "battery staple")
    page.fill("#password_confirmation", "battery staple")
    visitor.submit("Change the password")
    visitor.says("The password is incorrect.")
    visitor.complaints.clear()
    page.fill("#current_password", secret)
    page.fill("#password", "battery staple")
    page.fill("#password_confirmation", "battery staple")
    visitor.submit("Change the password")
    visitor.says("Your password is changed.")
    visitor.open("/plan")
    visitor.is_accessible()
    visitor.open("/settings")
    page.get_by_text("Delete the account").last.click()
    page.fill("#delete-password", "battery staple")
    visitor.submit("Delete everything")
    visitor.says("Your account is deleted.")
    assert until(lambda: sql.execute("SELECT deleted_at IS NOT NULL FROM users").fetchone()) == (True,)


EARLIER = """
    INSERT INTO {table} SELECT {user}, {now} - n * interval '1 {unit}', kind, weight * (10 + (n * 31) % 50) {more}
    FROM generate_series(1, {n}) n, (VALUES ('sent', 10), ('delivered', 9), ('failed', 1)) kinds (kind, weight)
"""


def test_the_overview(browse, ali, sql: psycopg.Connection) -> None:
    hours = {"table": "usage_hours", "now": "date_trunc('hour', now())", "unit": "hour", "n": 23, "more": ""}
    days = {"table": "usage_totals", "now": "current_date", "unit": "day", "n": 29, "more": ", 0"}
    for kept in (hours, days):
        sql.execute(EARLIER.format(user=ali.id, **kept))
    add_phone(sql, ali, name="Pixel 7", default=True)
    add_message(sql, ali)
    add_message(sql, ali, status="failed", error_message="Send result: RESULT_ERROR_NO_SERVICE")
    visitor = browse(ali)
    visitor.open("/")
    visitor.says("Pixel 7")
    assert visitor.page.locator(".chart svg").count() == 2
    visitor.picture("overview")
    visitor.resize("narrow")
    visitor.picture("overview-narrow")
    visitor.resize("wide")
    visitor.page.get_by_text("As a table").first.click()
    assert visitor.page.get_by_role("cell", name="410").is_visible()
    visitor.is_accessible()
    add_message(sql, ali, status="failed")
    row = visitor.page.get_by_role("row", name="Today")
    until(lambda: visitor.page.evaluate("htmx.trigger(document.body, 'live-messages')") or "2" in row.inner_text())


def test_opt_outs(browse, ali, client, tmp_path) -> None:
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/opt-outs")
    page.fill("#phone_number", "12")
    visitor.submit("Opt out")
    visitor.says("must be a valid phone number")
    visitor.complaints.clear()
    page.fill("#phone_number", "+998901112233")
    page.fill("#note", "Asked by phone")
    visitor.submit("Opt out")
    file = tmp_path / "old.csv"
    file.write_text("phone\n+998901112244\n", encoding="utf-8")
    page.set_input_files("#file", file)
    page.get_by_role("button", name="Import").click()
    visitor.says("1 numbers added, 0 were there before, 0 rows left out.")
    visitor.open("/opt-outs")
    visitor.is_accessible()
    page.fill("#opt_out_words", "Basta\nNo more")
    page.fill("#opt_out_reply", "You get no more messages.")
    visitor.submit("Save")
    settings = client.get("/api/opt-outs/settings").json()["data"]
    assert (settings["opt_out_words"], settings["keywords"]) == (["Basta", "No more"], True)
    page.get_by_text("Let it be sent to again").nth(1).click()
    visitor.submit("Let it be sent to again")
    assert [each["phone_number"] for each in client.get("/api/opt-outs").json()["data"]["data"]] == ["+998901112233"]


def test_operators_see_what_does_not_work_and_nobody_else_that_there_is_a_page(browse, ali, other, sql) -> None:
    from app.core import heartbeat
    from app.core.outbound import get_redis

    sql.execute("UPDATE users SET is_operator = true WHERE id = %s", (ali.id,))
    for kind in heartbeat.NEEDED:
        heartbeat.note(get_redis(), kind, f"{kind}-1@here")
    visitor = browse(ali)
    visitor.open("/operators")
    visitor.says("Everything works.")
    visitor.is_accessible()
    get_redis().delete("alive:dispatch")
    visitor.says("No worker takes tasks from the queue dispatch.")
    add_phone(sql, ali, name="Silent")
    visitor.open("/")
    visitor.says("No worker takes tasks from the queue dispatch.")
    visitor.page.locator(".badge.offline").wait_for()
    visitor.open("/operators/users")
    visitor.is_accessible()
    visitor.page.get_by_role("row", name="other@example.com").get_by_text("Free").click()
    visitor.page.fill(f"#months-{other.id}", "2")
    visitor.page.get_by_role("row", name="other@example.com").get_by_role("button", name="Give").click()
    visitor.says("Saved.")
    assert sql.execute("SELECT premium_expires_at > now() FROM users WHERE id = %s", (other.id,)).fetchone() == (True,)
    visitor.open("/operators/doctor")
    visitor.says("no worker takes tasks from it")
    visitor.is_accessible()
    stranger = browse(other)
    for path in ("/operators", "/operators/users", "/operators/now", "/operators/doctor", "/flower/"):
        stranger.open(path)
        stranger.says("There is no such page")
    stranger.complaints.clear()


def test_an_operator_blocks_an_account_and_lets_it_be_used_again(browse, ali, other, api, sql) -> None:
    from app import erasing
    from app.accounts.passwords import hash_password
    from app.core.database import transaction

    sql.execute("UPDATE users SET is_operator = true WHERE id = %s", (ali.id,))
    sql.execute("UPDATE users SET password_hash = %s WHERE id = %s", (hash_password(PASSWORD), other.id))
    phone, key = add_phone(sql, other, default=True), other.token()
    sent = api.post("/api/sms", headers=key, json={"recipient_number": "+998901112233", "message": "Wait"})
    login = {"email": other.email, "password": PASSWORD}
    visitor = browse(ali)
    visitor.open("/operators/users")
    row = visitor.page.get_by_role("row", name=other.email)
    assert visitor.page.get_by_role("row", name=ali.email).get_by_text("Block").count() == 0
    row.get_by_text("Block").first.click()
    visitor.is_accessible()
    with visitor.page.expect_navigation():
        row.get_by_role("button", name="Block").click()
    visitor.says("Blocked.")
    with transaction() as session:
        erasing.erase(session)
    status = "SELECT status FROM messages WHERE id = %s"
    assert sql.execute(status, (sent.json()["data"]["id"],)).fetchone() == ("cancelled",)
    for headers in (key, other.headers):
        answer = api.post("/api/sms", headers=headers, json={"recipient_number": "+998901112233", "message": "No"})
        assert (answer.status_code, api.get("/api/account", headers=headers).status_code) == (401, 401)
    refused = api.post("/api/login", json=login)
    assert (refused.status_code, refused.json()["message"]) == (403, ACCOUNT_BLOCKED.sentence)
    assert sql.execute("SELECT removed_at FROM devices WHERE id = %s", (phone,)).fetchone() == (None,)
    visitor.submit("Unblock")
    visitor.says("The account can be used again.")
    assert api.get("/api/account", headers=key).status_code == 200
    assert api.post("/api/login", json=login).status_code == 200


@pytest.fixture
def flower(gateway, database, configured, free_port, tmp_path):
    """Flower, known to the gateway."""
    port = free_port()
    command = commands.flower("127.0.0.1", port, str(tmp_path / "flower.state"))
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "FLOWER_BASIC_AUTH": "smsfleet:se/cret"}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        configured(FLOWER_URL=f"http://smsfleet:se%2Fcret@127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}/flower/"
        process.terminate()


def test_flower_opens_for_operators_without_its_password(browse, ali, other, flower, sql) -> None:
    def status(client, path="/flower/", method="GET", **headers):
        return client.request(method, path, headers=headers).status_code

    sql.execute("UPDATE users SET is_operator = true WHERE id = %s", (ali.id,))
    visitor = browse(ali)
    cookie = {"smsfleet_session": ali.headers["Authorization"].removeprefix("Bearer ")}
    with httpx.Client(base_url=visitor.url, cookies=cookie) as client:
        assert client.get("/flower/").status_code in {200, 503}
        until(lambda: status(client) == 200)
        assert httpx.get(flower).status_code == 401
        table = "/flower/tasks/datatable?draw=1&start=0&length=10&search[value]=&order[0][column]=0&order[0][dir]=asc"
        assert client.get(f"{table}&columns[0][data]=name").json()["recordsTotal"] == 0
        for whence in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            assert status(client, "/flower/api/task/revoke/1", "POST", **whence) == 422
        ours = {"Sec-Fetch-Site": "same-origin"}
        assert status(client, "/flower/api/worker/pool/grow/nobody?n=1", "POST", **ours) == 404
        assert status(client, "/flower/api/task/revoke/1", "POST", **ours) == 200
    done = "SELECT details->>'path', actor_id FROM audit_events WHERE action = 'flower_used'"
    assert sql.execute(done).fetchall() == [("api/task/revoke/1", ali.id)]
    visitor.open("/operators")
    visitor.page.get_by_role("link", name="Flower").click()
    visitor.says("Workers")
    visitor.page.get_by_role("link", name="Tasks").click()
    visitor.says("No tasks have been received.")
    other_cookie = {"smsfleet_session": other.headers["Authorization"].removeprefix("Bearer ")}
    for cookies in (other_cookie, None):
        with httpx.Client(base_url=visitor.url, cookies=cookies) as client:
            assert {status(client, method=method) for method in ("GET", "POST")} == {404}


def test_a_message_is_sent_later(browse, ali, phone, client) -> None:
    visitor = browse(ali)
    visitor.open("/send")
    visitor.page.fill("#recipients", "+998901112233")
    visitor.page.fill("#message", "Tomorrow")
    visitor.page.fill("#send_at", "2020-01-01T09:00")
    visitor.submit("Send")
    assert visitor.page.locator("#send_at-wrong").inner_text().strip()
    visitor.complaints.clear()
    visitor.page.fill("#send_at", "2027-01-01T09:00")
    visitor.submit("Send")
    visitor.says("The message is scheduled for")


def test_the_browser_and_then_the_account_choose_the_language(browse, ali, phone, send, settings_of) -> None:
    settings_of(phone, send_delay_seconds=600, device_name="Pixel")
    with phone.stream():
        send("zero")
        phone.pull()
        message = send("one")
        visitor = browse(ali, locale="ru-RU")
        visitor.open(f"/messages/{message['id']}")
        assert visitor.page.locator("html").get_attribute("lang") == "ru"
        visitor.says("Pixel отправляет одно сообщение раз в 600 секунд; это следующее.")
    visitor.open("/settings")
    visitor.page.select_option("#language", "uz")
    visitor.page.locator("form", has=visitor.page.locator("#language")).get_by_role("button").click()
    visitor.says("Sozlamalar")
    visitor.is_accessible()


def make_campaign(visitor) -> None:
    """A draft for the people of a workbook as people have them, with one row that is left out."""
    page = visitor.page
    visitor.open("/campaigns")
    visitor.says("There is no campaign yet.")
    page.get_by_role("link", name="New campaign").click()
    page.fill("#name", "Spring sale")
    page.fill("#message", "Salom {name}: {sum}")
    visitor.is_accessible()
    visitor.submit("On to the recipients")
    page.set_input_files("#file", WORKBOOK)
    page.get_by_role("button", name="Upload").click()
    visitor.says("2 added, 1 left out.")
    visitor.says("Salom Иван: 0.3")
    visitor.is_accessible()
    page.get_by_role("link", name="1 rows left out").click()
    visitor.says("its last digits are lost")
    visitor.is_accessible()
    page.get_by_role("link", name="Spring sale").click()
    page.fill("#rate_per_minute", "6000")
    page.fill("#stop-share", "50")
    page.fill("#stop-last", "20")
    visitor.submit("Save")


def moves_to(visitor, counts: str) -> None:
    """It comes down the stream: the page does not ask."""
    visitor.says(counts)
    assert "/now/" not in visitor.page.evaluate(
        "performance.getEntriesByType('resource').map((each) => each.name).join()"
    )


def test_a_campaign_from_a_workbook_to_its_end_on_a_phones_screen(browse, ali, phone, client, work, sql) -> None:
    from app.campaigns import supervising
    from app.messages.dispatch import routing

    sql.execute("UPDATE users SET default_region = 'UZ'")
    visitor = browse(ali, size="narrow")
    page = visitor.page
    make_campaign(visitor)
    [campaign] = client.get("/api/campaigns").json()["data"]["data"]
    assert (campaign["rate_per_minute"], campaign["stop_rule"]) == (6000, {"failed_share": 0.5, "of_last": 20})
    visitor.submit("Dry run")
    visitor.says("The first message:")
    visitor.is_accessible()
    with phone.stream():
        visitor.submit("Start the campaign")
        visitor.says("0 of 2")
        visitor.is_live()
        work(supervising.look, ali.id)
        work(routing.route_waiting, ali.id)
        first, second = sorted(phone.pull(), key=lambda message: message["phoneNumbers"])
        assert (first["textMessage"]["text"], first["phoneNumbers"]) == ("Salom Иван: 0.3", ["+998901112233"])
        phone.send(first["id"])
        moves_to(visitor, "1 of 2")
        page.reload()
        visitor.resize("wide")
        visitor.picture("campaign")
        visitor.resize("narrow")
        visitor.submit("Pause")
        visitor.says("You paused the campaign.")
        work(supervising.look, ali.id)
        assert {message["id"] for message in phone.pull()} <= {second["id"]}
        visitor.submit("Resume")
        visitor.is_live()
        phone.report(first["id"], "Delivered")
        phone.send(second["id"])
        visitor.says("2 of 2")
        work(supervising.look, ali.id)
        visitor.open("/campaigns/" + str(campaign["id"]))
        visitor.says("finished")
        page.locator(".chart polyline").first.wait_for(state="attached")
        visitor.is_accessible()
    exported = page.request.get(f"{page.url}/recipients?format=csv").text()
    assert "delivered" in exported.splitlines()[1]
    page.get_by_role("link", name="Recipients", exact=True).click()
    visitor.says("Оля")
    visitor.is_accessible()
    page.get_by_role("link", name="Spring sale").click()
    visitor.submit("Duplicate")
    page.get_by_text("Delete the campaign").first.click()
    visitor.submit("Delete the campaign")
    visitor.says("Removed.")


def test_a_second_factor_is_asked_for_and_a_code_is_good_once(browse, ali, secret, sql) -> None:
    from app.accounts import second_factor

    visitor = browse(ali)
    page = visitor.page
    visitor.open("/settings/second-factor")
    visitor.is_accessible()
    shared = page.input_value("#secret")

    def code(ahead=0):
        [now] = sql.execute("SELECT EXTRACT(epoch FROM clock_timestamp())::bigint / 30").fetchone()
        return second_factor.code_of(shared, now + ahead)

    page.fill("#code", "000000" if code() != "000000" else "000001")
    page.fill("#current_password", secret)
    visitor.submit("Ask for a code from now on")
    visitor.says("The code is wrong.")
    visitor.complaints.clear()
    page.fill("#code", code(-1))
    page.fill("#current_password", secret)
    visitor.submit("Ask for a code from now on")
    recovery = page.inner_text("#codes").split()
    assert len(recovery) == 10
    visitor.is_accessible()

    other = browse()
    other.open("/sign-in")

    def sign_in(given=None):
        other.page.fill("#email", ali.email)
        other.page.fill("#password", secret)
        if given:
            other.page.fill("#code", given)
        other.submit("Sign in")

    sign_in()
    other.says("Enter the code of your authenticator app")
    other.is_accessible()
    sign_in(code(1))
    other.says("First steps")
    used = code(1)
    other.submit("Sign out")
    sign_in()
    sign_in(used)
    other.says("wrong or was already used")
    sign_in(recovery[3])
    other.says("First steps")
    other.submit("Sign out")
    sign_in()
    sign_in(recovery[3])
    other.says("wrong or was already used")
    other.complaints.clear()
    page.goto(f"{visitor.url}/settings")
    visitor.says("Recovery codes left: 9.")
    page.fill("#factor-password", secret)
    visitor.submit("Ask for the password alone")
    assert sql.execute("SELECT totp_secret, recovery_codes FROM users").fetchone() == (None, None)
