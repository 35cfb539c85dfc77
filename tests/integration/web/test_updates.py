"""What a part of a page keeps when it is brought up to date while somebody works with it."""

import pytest
from playwright.sync_api import Route

from app.accounts.passwords import hash_password
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
    for name in ("Pause", "Also send again those that may have been sent"):
        page.get_by_role("button", name=name).focus()
        [shown] = sql.execute("UPDATE campaigns SET recipients = recipients + 1 RETURNING recipients").fetchone()
        get_redis().publish(f"{PAGES_CHANNEL}{ali.id}", "campaigns")
        visitor.says(f"3 of {shown}")
        assert page.evaluate(FOCUSED) == name


@pytest.mark.parametrize("page_of", ["send", "conversation"])
def test_what_was_typed_when_the_session_ended_is_there_after_signing_in(browse, ali, client, sql, page_of) -> None:
    sql.execute("UPDATE users SET password_hash = %s WHERE id = %s", (hash_password("correct horse"), ali.id))
    group = client.post("/api/contact-groups", json={"name": "All"}).json()["data"]["id"]
    add_message(sql, ali, direction="inbound", sender_number="+998901112200", message="Hello?")
    path = {"send": "/send?to=%2B998901112200", "conversation": "/conversations/%2B998901112200"}[page_of]
    visitor = browse(ali)
    page = visitor.page
    visitor.open(path)
    page.fill("#message", "Yes")
    if page_of == "send":
        page.check(f"#group-{group}")
        visitor.says("SMS parts")
    client.post("/api/logout")
    with page.expect_navigation(url="**/sign-in?**"):
        page.press("#message", "!")
        tell(visitor, "messages")
    page.fill("#email", ali.email)
    page.fill("#password", "correct horse")
    visitor.submit("Sign in")
    assert page.url == visitor.url + path
    assert page.input_value("#message") == "Yes!"
    if page_of == "send":
        assert page.input_value("#recipients") == "+998901112200"
        assert page.is_checked(f"#group-{group}")
    page.reload()
    assert page.input_value("#message") == ""


def test_what_was_posted_when_the_session_had_ended_is_there_after_signing_in(browse, ali, client, sql) -> None:
    """Of pages that ask for nothing by themselves; what was posted and taken does not come back."""
    sql.execute("UPDATE users SET password_hash = %s WHERE id = %s", (hash_password("correct horse"), ali.id))
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/opt-outs?done=saved")
    page.fill("#note", "first")
    page.fill("#phone_number", "+998901112200")
    visitor.submit("Opt out")
    assert (page.url, page.input_value("#note")) == (f"{visitor.url}/opt-outs?done=saved", "")
    page.fill("#note", "by phone")
    page.fill("#phone_number", "+998901112201")
    client.post("/api/logout")
    visitor.submit("Opt out")
    page.fill("#email", ali.email)
    page.fill("#password", "correct horse")
    visitor.submit("Sign in")
    assert (page.input_value("#note"), page.input_value("#phone_number")) == ("by phone", "+998901112201")
    page.reload()
    assert page.input_value("#note") == ""


def test_what_was_typed_is_nobody_elses(browse, ali, other, client, sql) -> None:
    sql.execute("UPDATE users SET password_hash = %s", (hash_password("correct horse"),))
    visitor = browse(ali)
    page = visitor.page
    visitor.open("/send")
    page.fill("#message", "Yes")
    visitor.says("SMS parts")
    client.post("/api/logout")
    with page.expect_navigation(url="**/sign-in?**"):
        page.press("#message", "!")
    page.fill("#email", other.email)
    page.fill("#password", "correct horse")
    visitor.submit("Sign in")
    assert (page.url, page.input_value("#message")) == (f"{visitor.url}/send", "")
    assert page.evaluate("sessionStorage.getItem('typed')") is None


def test_who_clicks_twice_asks_once(browse, ali, tmp_path) -> None:
    visitor = browse(ali)
    page = visitor.page

    def twice(button, path):
        """Click again while the answer to the first click is on its way."""
        asked: list[Route] = []
        page.route(f"**{path}", lambda route: asked.append(route))  # noqa: PLW0108 - a built-in cannot be a handler
        page.get_by_role("button", name=button, exact=True).hover()
        for _ in range(2):
            page.mouse.down()
            page.mouse.up()
            page.wait_for_timeout(200)
        assert [route.request.method for route in asked] == ["POST"]
        asked[0].continue_()

    visitor.open("/campaigns/new")
    page.fill("#name", "Sale")
    page.fill("#message", "Hello")
    twice("On to the recipients", "/campaigns")
    visitor.says("1. Recipients")
    file = tmp_path / "people.csv"
    file.write_text("phone\n+998901112233\n+998901112234\n", encoding="utf-8")
    page.set_input_files("#file", file)
    twice("Upload", "/recipients")
    visitor.says("2 added, 0 left out.")
