"""What pages tell beside their main job: the audit log, a phone's rate, who opted out, what is found, what would go."""

import html
import re

import pytest

from tests.integration.web.test_safety import browser, token_of
from tests.support.messages_of import add_message, add_phone

pytestmark = pytest.mark.needs_browser


def test_an_owner_reads_the_audit_log_and_an_operator_that_of_everybody(browse, ali, other, client, api, sql) -> None:
    for number in range(52):
        assert client.put("/api/settings", json={"same_content_minutes": number + 1}).status_code == 200
    client.post("/api/tokens", json={"name": "Shop", "abilities": ["sms:send"]})
    api.post("/api/tokens", headers=other.headers, json={"name": "Theirs", "abilities": ["sms:send"]})
    sql.execute("UPDATE users SET time_zone = 'Asia/Tashkent' WHERE id = %s", (ali.id,))
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/settings")
    page.get_by_role("link", name="What was done to the account").click()
    visitor.says("name: Shop; abilities: sms:send")
    visitor.is_accessible()
    [at] = sql.execute(
        "SELECT to_char(max(created_at) AT TIME ZONE 'Asia/Tashkent', 'YYYY-MM-DD HH24:MI') FROM audit_events"
        " WHERE user_id = %s",
        (ali.id,),
    ).fetchone()
    assert page.locator("tbody time").first.inner_text() == at
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("link", name="Older").click()
    page.wait_for_url("**cursor=**")
    assert page.locator("tbody tr").count() == 3
    page.select_option("#action", "key_created")
    visitor.submit("Filter")
    assert page.locator("tbody th").inner_text().startswith("made an API key")
    page.fill("#from", "2001-01-01")
    page.fill("#to", "2001-01-02")
    visitor.submit("Filter")
    visitor.says("Choose another action or other days.")
    visitor.open("/operators/audit")
    visitor.says("There is no such page")
    visitor.complaints.clear()

    sql.execute("UPDATE users SET is_operator = true WHERE id = %s", (ali.id,))
    visitor.open("/operators")
    page.get_by_role("link", name="Audit log").click()
    page.select_option("#action", "key_created")
    visitor.submit("Filter")
    visitor.says(other.email)
    assert page.locator("tbody tr").count() == 2
    visitor.is_accessible()
    russian = browse(other, locale="ru-RU")
    russian.open("/audit")
    russian.page.locator("tbody").get_by_text("создан ключ API").wait_for()
    assert russian.page.locator("tbody tr").count() == 1


def test_a_phones_delivery_rate_by_day_is_a_chart_and_a_table(browse, ali, sql) -> None:
    phone = add_phone(sql, ali, name="Pixel")
    visitor = browse(ali)
    visitor.open(f"/phones/{phone}")
    assert visitor.page.get_by_role("heading", name="Delivery rate by day").count() == 0
    sql.execute(
        "INSERT INTO device_totals (device_id, day, sim_slot, kind, detail, n)"
        " SELECT %(id)s, CAST(now() AT TIME ZONE 'UTC' AS date) - ago, 0, kind, detail, n"
        " FROM (VALUES (1, 'sent', '5', 40), (1, 'delivered', '7', 30), (3, 'sent', '5', 5),"
        " (3, 'failed', 'no_service', 2), (40, 'sent', '5', 9)) AS counted(ago, kind, detail, n)",
        {"id": phone},
    )
    sql.execute(
        "INSERT INTO device_deltas (device_id, day, sim_slot, kind, detail, n)"
        " VALUES (%s, CAST(now() AT TIME ZONE 'UTC' AS date) - 1, 1, 'delivered', '7', 2)",
        (phone,),
    )
    visitor.open(f"/phones/{phone}")
    assert visitor.page.locator(".chart svg rect.c2").count() == 1
    visitor.page.get_by_text("As a table").click()
    rows = visitor.page.locator(".chart tbody tr")
    assert rows.count() == 30
    assert rows.nth(28).locator("td").all_inner_texts() == ["80", "40", "32", "0"]
    assert rows.nth(26).locator("td").all_inner_texts() == ["0", "5", "0", "2"]
    visitor.is_accessible()


def test_a_phones_page_says_what_holds_its_next_message_back(
    browse, ali, phone, send, settings_of, device_number
) -> None:
    settings_of(phone, send_delay_seconds=600, device_name="Pixel")
    with phone.stream():
        send("zero")
        phone.pull()
        message = send("one")
        visitor = browse(ali)
        visitor.open(f"/phones/{device_number(phone)}")
        visitor.says("Pixel sends one message every 600 seconds; this message is next. Expected to leave in")
        visitor.is_accessible()
        visitor.page.get_by_role("link", name="The next message:").click()
        visitor.page.wait_for_url(f"**/messages/{message['id']}")


def test_who_opted_out_is_told_in_the_conversation_and_talks_are_found(browse, ali, phone, client) -> None:
    client.post("/api/contacts", json={"phone_number": "+998901112233", "name": "Laylo"})
    client.post("/api/contacts", json={"phone_number": "+998901112244", "name": "Botir"})
    phone.sync()
    visitor = browse(ali)
    page = visitor.page
    phone.receive("+998901112233", "Is it open?")
    visitor.open("/conversations/%2B998901112233")
    visitor.says("Is it open?")
    visitor.is_live()
    phone.receive("+998901112233", "STOP")
    visitor.says("They wrote “STOP” and get nothing more from you.")
    visitor.is_accessible()
    for words, found, others in (("laylo", 1, 0), ("stop", 1, 0), ("botir", 0, 1), ("+998901112255", 0, 1)):
        visitor.open("/conversations")
        page.fill("#search", words)
        visitor.submit("Search")
        assert page.locator(".clip").count() == found, words
        assert page.locator("section .list li").count() == others, words
    visitor.is_accessible()
    page.get_by_role("link", name="+998901112255").click()
    visitor.says("No messages with this number yet.")


def test_before_its_end_an_account_is_told_what_goes_with_it(browse, ali, client, sql) -> None:
    add_phone(sql, ali, default=True)
    client.post("/api/contacts", json={"phone_number": "+998901112233", "name": "Laylo"})
    client.post("/api/sms", json={"recipient_number": "+998901112233", "message": "Hello"})
    visitor = browse(ali)
    visitor.open("/settings")
    visitor.page.locator("summary", has_text="Delete the account").click()
    visitor.says("Messages: 1. Contacts: 1. Phones: 1. API keys: 0.")


def test_processes_that_are_late_or_died_are_told_by_name(browse, ali, sql) -> None:
    from app.core import heartbeat
    from app.core.outbound import get_redis

    sql.execute("UPDATE users SET is_operator = true WHERE id = %s", (ali.id,))
    broker = get_redis()
    for kind in heartbeat.NEEDED:
        heartbeat.begin(broker, kind, f"{kind}-1@here")
        heartbeat.note(broker, kind, f"{kind}-1@here")
    assert heartbeat.deaths(broker) == {}
    visitor = browse(ali)
    visitor.open("/operators")
    visitor.says("Everything works.")
    heartbeat.begin(broker, "dispatch", "dispatch-1@here")
    visitor.says("dispatch-1@here died and was started again")
    heartbeat.note(broker, "webhooks", "webhooks-2@here")
    heartbeat.end(broker, "webhooks", "webhooks-2@here")
    heartbeat.begin(broker, "webhooks", "webhooks-2@here")
    assert set(heartbeat.deaths(broker)) == {"dispatch-1@here"}
    broker.zadd("alive:webhooks", {"webhooks-2@here": broker.time()[0] - 20})
    visitor.says("webhooks-2@here was last heard of 2")
    visitor.page.get_by_role("row", name="webhooks-2@here").get_by_text("late", exact=True).wait_for()
    visitor.is_accessible()


def test_a_phone_that_fails_says_so_in_the_language_of_the_page(browse, ali, sql) -> None:
    phone = add_phone(sql, ali, name="Pixel")
    sql.execute(
        "INSERT INTO device_health (device_id, sim_slot, sent, failed, failing_since, rests_until, reason)"
        " VALUES (%s, 0, 0, 9, now(), now() + interval '5 minutes', 'no_service')",
        (phone,),
    )
    visitor = browse(ali, locale="ru-RU")
    for path in ("/phones", f"/phones/{phone}", "/"):
        visitor.open(path)
        visitor.says("Большинство последних сообщений SIM-карты 1 не отправлено")
        assert "The SIM card" not in visitor.page.locator("main").inner_text()
    visitor.open("/phones")
    visitor.submit("Подключить телефон")
    visitor.says("вкладке Home включите Cloud server")
    assert "Install" not in visitor.page.locator("main").inner_text()


@pytest.mark.parametrize("sender", ["..", ".", "a/../b", "x/now", "50%25 off", "Магазин №1"])
def test_a_sender_of_any_name_has_a_conversation(browse, ali, sql, sender) -> None:
    add_message(sql, ali, direction="inbound", sender_number=sender, message="Sale today")
    visitor = browse(ali)
    visitor.open("/conversations")
    visitor.page.get_by_role("link", name=sender, exact=True).click()
    visitor.page.get_by_role("heading", name=sender, exact=True).wait_for()
    visitor.says("Sale today")
    visitor.is_live()
    add_message(sql, ali, direction="inbound", sender_number=sender, message="And tomorrow")
    visitor.page.evaluate("htmx.trigger(document.body, 'live-messages')")
    visitor.says("And tomorrow")
    visitor.open("/conversations")
    assert visitor.page.locator(".unread").count() == 0


# How wide the narrowest cell of the first table is, and how much of the table is cut off.
FIT = """() => {
    const table = document.querySelector('main table'), { scrollWidth, clientWidth } = table.parentElement;
    return [Math.min(...[...table.querySelectorAll('tbody *')].map((cell) => cell.offsetWidth)),
        scrollWidth - clientWidth];
}"""


def test_figures_fit_on_a_phones_screen_in_longer_words(browse, ali, sql) -> None:
    phone = add_phone(sql, ali)
    visitor = browse(ali, size="narrow", locale="ru-RU")
    for path in ("/", f"/phones/{phone}"):
        visitor.open(path)
        visitor.says("Сегодня")
        narrowest, cut = visitor.page.evaluate(FIT)
        assert (narrowest > 60, cut) == (True, 0), path


def test_an_operator_stays_where_the_user_stands(gateway, ali, other, sql, monkeypatch) -> None:
    monkeypatch.setattr("app.web.operators._USERS_SHOWN", 1)
    sql.execute("UPDATE users SET is_operator = true, time_zone = 'Asia/Tashkent' WHERE id = %s", (ali.id,))
    sql.execute("UPDATE users SET premium_expires_at = '2050-01-01T20:00Z' WHERE id = %s", (other.id,))
    here = f"/operators/users?after={ali.id}"
    with browser(gateway, ali) as mine:
        page = mine.get(here).text
        assert "2050-01-02 01:00" in page
        form = {"form_token": token_of(mine, here), "months": "5000"}
        actions = [html.unescape(each) for each in re.findall(rf'action="(/operators/users/{other.id}/[^"]+)"', page)]
        refused = mine.post(actions[0], data=form)
        assert re.search(r'id="months-\d+" name="months" [^>]*value="5000"[^>]* aria-invalid="true"', refused.text)
        assert refused.text.count("must not be greater than 1200") == 1
        assert 'class="note bad"' not in refused.text
        assert mine.post(actions[1], data=form).headers["location"] == f"{here}&done=blocked"
