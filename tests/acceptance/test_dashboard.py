"""What operators see of a real installation whose parts die."""

import os
import re
import signal

import httpx
import pytest
from playwright.sync_api import Browser

from tests.acceptance.running import processes_of
from tests.support.browser import SIZES, Visitor
from tests.support.strict_phone import StrictPhone
from tests.support.waiting import until

pytestmark = pytest.mark.needs_browser

LINK = re.compile(r"Sign in, once and within ten minutes: (\S+)")


def test_a_worker_that_is_killed_and_a_phone_that_goes_silent_are_told_in_words(up, chromium: Browser) -> None:
    running = up()
    url = running.ready()
    page = chromium.new_context(viewport=SIZES["wide"]).new_page()
    visitor = Visitor(page, url, "wide")
    page.set_default_timeout(90_000)
    page.goto(until(lambda: LINK.search(running.output))[1])
    for field, value in {"name": "Ali", "email": "ali@example.com", "password": "correct horse"}.items():
        page.fill(f"#{field}", value)
    page.fill("#password_confirmation", "correct horse")
    visitor.submit("Make the account")
    visitor.submit("Pair a phone")
    phone = StrictPhone(url)
    phone.register(page.input_value("#private"))
    with phone.stream():
        visitor.says("is connected.")
        visitor.open("/operators")
        visitor.says("Everything works.")
        [worker] = [pid for pid, line in processes_of(running.data_dir).items() if line.startswith("worker-webhooks")]
        os.kill(worker, signal.SIGKILL)
    phone.close()
    visitor.says("died and was started again")
    assert "webhooks-1@" in page.locator(".note.wait").inner_text()
    visitor.open("/")
    visitor.says("died and was started again")
    page.locator(".badge.offline").wait_for()
    assert page.locator(".badge.offline").inner_text() == "offline"
    assert httpx.get(url + "/health/ready").status_code == 200
    assert visitor.complaints == []
    page.context.close()
    assert running.end() == 0
