"""What a part of a page keeps when it is brought up to date while somebody works with it."""

import pytest

from app.core.outbound import get_redis
from app.core.task_names import PAGES_CHANNEL
from tests.support.messages_of import add_message, add_phone

pytestmark = pytest.mark.needs_browser

FOCUSED = "document.activeElement.textContent.trim()"


def tell(visitor, topic) -> None:
    visitor.page.evaluate("topic => htmx.trigger(document.body, `live-${topic}`)", topic)


def test_the_focus_stays_on_a_phones_card(browse, ali, sql) -> None:
    add_phone(sql, ali, name="First")
    add_phone(sql, ali, name="Second")
    visitor = browse(ali)
    for path, topic in (("/phones", "phones"), ("/", "phones")):
        visitor.open(path)
        visitor.page.get_by_role("link", name="Second").focus()
        name = f"Phone of {path}"
        add_phone(sql, ali, name=name)
        tell(visitor, topic)
        visitor.says(name)
        assert visitor.page.evaluate(FOCUSED) == "Second"
        visitor.page.keyboard.press("Enter")
        visitor.page.wait_for_url("**/phones/*")


def test_the_focus_stays_on_a_message_though_its_row_moves(browse, ali, sql) -> None:
    chosen = add_message(sql, ali, recipient_number="+998901112200")
    visitor = browse(ali)
    visitor.open("/messages")
    link = visitor.page.get_by_role("link", name="+998901112200")
    link.focus()
    newer = add_message(sql, ali, recipient_number="+998901112200", message="Newer")
    tell(visitor, "messages")
    visitor.says("Newer")
    assert link.evaluate_all("links => links.map((each) => each.getAttribute('href'))") == [
        f"/messages/{newer}",
        f"/messages/{chosen}",
    ]
    assert visitor.page.evaluate("document.activeElement.getAttribute('href')") == f"/messages/{chosen}"


def test_a_campaigns_button_keeps_the_focus_and_what_is_open_stays_open(browse, ali, client, sql) -> None:
    campaign = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    sql.execute("UPDATE campaigns SET status = 'running', recipients = 20, started_at = clock_timestamp()")
    sql.execute(
        "INSERT INTO campaign_totals (campaign_id, device_id, result, reason, n) VALUES (%s, 0, 'uncertain', '', 3)",
        (campaign,),
    )
    visitor = browse(ali)
    page = visitor.page
    visitor.open(f"/campaigns/{campaign}")
    visitor.is_live()
    page.locator("summary", has_text="may have been sent").click()
    for name in ("Pause", "Also those that may have been sent"):
        page.get_by_role("button", name=name).focus()
        [shown] = sql.execute("UPDATE campaigns SET recipients = recipients + 1 RETURNING recipients").fetchone()
        get_redis().publish(f"{PAGES_CHANNEL}{ali.id}", "campaigns")
        visitor.says(f"3 of {shown}")
        assert page.evaluate(FOCUSED) == name
