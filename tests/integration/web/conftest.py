"""A browser at the gateway: the accounts and phones are real, and what a page complains about fails its test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.integration.conftest import Account, Gateway
from tests.support.browser import SIZES, Visitor


@pytest.fixture
def browse(
    chromium: Browser, gateway: Gateway, database: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Visitor]]:
    """Open a window: of a stranger, or of an account that is signed in."""
    monkeypatch.setattr("app.core.outbound.SAME_NEWS_SECONDS", 0.1)
    monkeypatch.setattr("app.web.live.RESTS", dict.fromkeys(("messages", "phones", "campaigns"), 0.2))
    contexts: list[BrowserContext] = []
    visitors: list[Visitor] = []

    def make(account: Account | None = None, *, size: str = "wide", **options: Any) -> Visitor:
        options = {"viewport": SIZES[size], "locale": "en-GB", "bypass_csp": False} | options
        context = chromium.new_context(**options)
        contexts.append(context)
        if account is not None:
            token = account.headers["Authorization"].removeprefix("Bearer ")
            context.add_cookies([{"name": "smsfleet_session", "value": token, "url": gateway.url}])
        visitor = Visitor(context.new_page(), gateway.url, size)
        visitors.append(visitor)
        return visitor

    yield make
    complaints = [each for visitor in visitors for each in visitor.complaints]
    for context in contexts:
        context.close()
    assert complaints == []
