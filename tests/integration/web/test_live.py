"""The stream of an open page: when it is told of news."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from anyio import to_thread
from sqlalchemy import text

from app.core.database import transaction
from app.core.outbound import get_redis
from app.core.task_names import PAGES_CHANNEL
from app.web import campaign_now
from app.web.live import TOPICS, Pages, _Page
from tests.integration.conftest import Account, Gateway
from tests.support.waiting import until


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def opened(gateway: Gateway, account: Account, query: str = "topics=campaigns+phones") -> Iterator[Iterator[str]]:
    """The lines of the stream of a page that shows campaigns and phones, without empty ones."""
    cookies = {"smsfleet_session": account.headers["Authorization"].removeprefix("Bearer ")}
    with (
        httpx.Client(base_url=gateway.url, cookies=cookies, timeout=30) as browser,
        browser.stream("GET", f"/events?{query}") as stream,
    ):
        yield (line for line in stream.iter_lines() if line.strip(":"))


def tell(account: Account, topic: str) -> None:
    get_redis().publish(f"{PAGES_CHANNEL}{account.id}", topic)


@contextmanager
def telling(account: Account, topic: str) -> Iterator[None]:
    """News all the time."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(0.05):
            tell(account, topic)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_what_came_while_a_page_rested_is_told_at_the_end(gateway, ali, monkeypatch) -> None:
    monkeypatch.setattr("app.web.live.RESTS", {"messages": 0.3, "phones": 0.3, "campaigns": 0.3})
    with opened(gateway, ali) as events:
        with telling(ali, "messages"):
            assert "event: campaigns" in events
        tell(ali, "phones")
        assert "event: phones" in events


@pytest.mark.parametrize("who", ["ali", "other"])
def test_a_page_that_opens_while_all_others_rest_is_told_at_once(gateway, ali, other, who, monkeypatch) -> None:
    monkeypatch.setattr("app.web.live.RESTS", {"messages": 600.0, "phones": 600.0, "campaigns": 600.0})
    late = {"ali": ali, "other": other}[who]
    # Another topic might still come of the test before, and the page would rest from then.
    with opened(gateway, ali, "topics=campaigns") as events, telling(ali, "messages"):
        assert "event: campaigns" in events
        with opened(gateway, late, "topics=campaigns") as late_events, telling(late, "messages"):
            assert "event: campaigns" in late_events


@pytest.mark.anyio
async def test_news_reach_a_page_that_opens_while_another_ones_are_being_subscribed_to(database) -> None:
    """At each of the first steps of the loop, and at some of those on which it waits for the broker."""

    def has_receiver() -> int:
        return get_redis().publish(f"{PAGES_CHANNEL}2", "phones")

    steps, is_subscribed = 0, False
    while not is_subscribed:
        pages = Pages()
        async with pages.held():
            await pages._enter(1, _Page({}, TOPICS))
            for _ in range(steps):
                await asyncio.sleep(0)
            is_subscribed = pages._subscription is not None
            await pages._enter(2, _Page({}, TOPICS))
            await to_thread.run_sync(until, has_receiver, 10)
        steps += 1 + steps // 8
    assert steps > 3


def test_what_moves_of_a_campaign_comes_down_its_pages_stream(gateway, ali, client, monkeypatch) -> None:
    monkeypatch.setattr("app.web.live.RESTS", {"messages": 0.1, "phones": 0.1, "campaigns": 0.1})
    campaign = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    with opened(gateway, ali, f"topics=campaigns&campaign={campaign}") as lines, telling(ali, "messages"):
        assert "event: part" in lines
        assert "0 of 0" in next(line for line in lines if "<label" in line)


@pytest.mark.parametrize(("ran", "rest"), [(0.0, 5.0), (480.0, 8.0), (86_400.0, 10.0)])
def test_a_page_of_a_campaign_that_has_run_for_long_rests_longer(ran, rest) -> None:
    assert _Page({}, frozenset({"campaigns"}), "1", ran=ran).rest == pytest.approx(rest)


def test_a_page_is_told_how_long_its_campaign_has_run(ali, client, database) -> None:
    campaign = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    with transaction() as session:
        session.execute(text("UPDATE campaigns SET started_at = clock_timestamp() - interval '1 hour'"))
    cookie = f"smsfleet_session={ali.headers['Authorization'].removeprefix('Bearer ')}"
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/events",
        "query_string": b"",
        "server": ("127.0.0.1", 80),
        "headers": [(b"cookie", cookie.encode())],
    }
    part, ran = campaign_now.pushed(scope, str(campaign))
    assert b"0 of 0" in part
    assert 3600 <= ran < 7200


@pytest.mark.parametrize("gone", ["the session", "the campaign", "not theirs"])
def test_a_page_of_which_nothing_can_be_shown_any_more_asks_itself(
    gateway, ali, other, client, gone, monkeypatch
) -> None:
    monkeypatch.setattr("app.web.live.RESTS", {"messages": 0.1, "phones": 0.1, "campaigns": 0.1})
    campaign = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    who = other if gone == "not theirs" else ali
    with opened(gateway, who, f"topics=campaigns&campaign={campaign}") as lines:
        assert next(lines).startswith("retry:")
        if gone == "the campaign":
            client.delete(f"/api/campaigns/{campaign}")
        elif gone == "the session":
            client.post("/api/logout")
        with telling(who, "campaigns"):
            assert "event: campaigns" in lines  # after a part, perhaps, of when there was one
