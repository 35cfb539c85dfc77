"""The page for people, in a real browser."""

from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.integration.conftest import Account, Gateway
from tests.integration.docs.chromium import chromium
from tests.support.messages_of import add_phone

pytestmark = pytest.mark.needs_browser

SEND = 'section[id$="tag/sms/POST/api/sms"]'


def test_the_page_shows_requests_in_four_languages_and_sends_one(
    gateway: Gateway, ali: Account, sql: psycopg.Connection, tmp_path: Path
) -> None:
    add_phone(sql, ali, default=True)
    with chromium(tmp_path) as page:
        page.open(f"{gateway.url}/docs#tag/sms/POST/api/sms")
        page.wait_for(f"document.querySelector('{SEND}')?.innerText.includes('curl -X POST')")
        page.screenshot(tmp_path / "page.png")

        sample = f"document.querySelector('{SEND}').innerText"
        option, shown = "document.querySelector('[role=option]')", "curl"
        for language, telling in (
            ("JavaScript", "await fetch("),
            ("PHP", "curl_setopt_array("),
            ("Python", "requests.post("),
            ("curl", "curl -X POST"),
        ):
            page.press(
                f'{SEND} [data-testid="client-picker"]', shown, until="!!document.querySelector('[role=option]')"
            )
            page.click('[role="option"]', language)
            page.wait_for(f"{sample}.includes({telling!r}) && !{option}")
            shown = language

        opened = "[...document.querySelectorAll('[role=dialog]')].some(e => e.innerText.includes('Send'))"
        page.press(f"{SEND} button", "Test Request", until=opened)
        page.screenshot(tmp_path / "client.png")
        page.evaluate("document.querySelector('[role=dialog] input[type=password], [role=dialog] input')?.focus()")
        token = ali.headers["Authorization"].removeprefix("Bearer ")
        page.type(token)
        page.click("[role=dialog] button", "Send")
        page.wait_for("document.querySelector('[role=dialog]').innerText.includes('201')")
        page.screenshot(tmp_path / "answer.png")

        origins = {urlsplit(url).netloc for url in page.requested if not url.startswith(("data:", "blob:"))}
        assert origins == {urlsplit(gateway.url).netloc}, page.requested
        assert page.complaints == []
    assert sql.execute("SELECT user_id, my_id FROM messages").fetchall() == [(ali.id, "order-1001")]
