"""What pages cost with 10,000,000 messages, 200 phones and 100 campaigns of one user behind them.

The median of each page over real HTTP, one after the other, before 10,000 messages and before all, and what it takes
the API process of the processor, which says more on a machine that does other things. Then one page shows a running
campaign, as a browser does: it holds the stream, down which comes what moves, as often as it can, because there are
news all the time, and asks for what the page asks by itself. What the API process costs more than while nobody looks,
before and after, is the page's.
"""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import NamedTuple

import psycopg
import redis

from app.core.http_client import Client
from app.core.outbound import SAME_NEWS_SECONDS
from app.core.task_names import PAGES_CHANNEL
from app.local.installation import Installation, Shape
from benchmarks.gateway import Account, CheckFailedError, Figure, check, installation, timed
from benchmarks.history import fill

FEW, MESSAGES, PHONES, CAMPAIGNS = 10_000, 10_000_000, 200, 100
RECIPIENTS = 20_000
PAGES = (
    "/",
    "/overview/now",
    "/phones",
    "/messages",
    "/messages?status=failed",
    "/messages?number=%2B998900000000",
    "/campaigns",
    "/campaigns/{campaign}",
    "/campaigns/{campaign}/rest",
    "/campaigns/{campaign}/figures",
    "/now/campaigns/{campaign}",
    "/campaigns/{campaign}/recipients",
    "/conversations",
    "/contacts",
    "/operators",
)
# As four processes tell them.
NEWS_SECONDS = SAME_NEWS_SECONDS / 4
# Times a page is open, two minutes each, with as much before, between and after them.
WINDOWS = 2
# What the page asks for by itself, and first after so many seconds; then as its answer says. The counts it does not
# while it is told of them.
ASKED = {"/campaigns/{campaign}/rest": 60, "/campaigns/{campaign}/figures": 10}
_DELAY = re.compile(r"delay:(\d+)s")


def run(*, smoke: bool = False, messages: int = MESSAGES) -> list[Figure]:
    few, messages, phones, campaigns, times = (
        (1000, 10_000, 5, 3, 3) if smoke else (FEW, messages, PHONES, CAMPAIGNS, 30)
    )
    with ExitStack() as stack:
        running = stack.enter_context(installation(Shape(api=1, flower=False)))
        account = Account(running)
        for number in range(phones):
            account.enroll(f"bench/phone-{number}")
        writing = [device["id"] for device in account.call("GET", "/api/devices")][:5]
        fill(account, writing, few)
        campaign = _campaigns(account, campaigns, 100 if smoke else RECIPIENTS)
        client = stack.enter_context(_browser(account))
        process = running.processes["api-1"].pid
        before = _medians(client, process, campaign, times)
        fill(account, writing, messages - few)
        taken = _medians(client, process, campaign, times)
        cost = _cost_of_a_page(running, account, client, campaign, 3 if smoke else 120)
    dearest = max(taken, key=lambda page: taken[page].time)
    beside = f"{dearest}; median of {len(taken)} pages {median(cost.time for cost in taken.values()):.0f} ms"
    return [
        Figure(f"the slowest page, {messages:,} messages", taken[dearest].time, "ms", "< 100", beside),
        *(
            Figure(
                f"page {page}, {messages:,} messages",
                cost.time,
                "ms",
                "",
                f"{before[page].time:.1f} ms with {few:,}: {cost.time / before[page].time:.2f} times;"
                f" of the API's processor {cost.processor:.1f} and {before[page].processor:.1f} ms",
            )
            for page, cost in taken.items()
        ),
        Figure("CPU of the API while a page shows a running campaign", cost, "ms a second", "< 1"),
    ]


_OTHERS = """
    WITH made AS (
        INSERT INTO campaigns (user_id, name, status, message, recipients, started_at, finished_at)
        SELECT %(user)s, 'Campaign ' || i, 'finished', 'Hello', 50000, now(), now() FROM generate_series(2, %(n)s) i
        RETURNING id)
    INSERT INTO campaign_totals (campaign_id, device_id, result, reason, n)
    SELECT id, device, 'delivered', '', 1000 FROM made, generate_series(1, 50) device
"""


def _campaigns(account: Account, number: int, recipients: int) -> int:
    """So many campaigns, of which the last one runs; its number."""
    with psycopg.connect(account.database_url, autocommit=True) as connection:
        connection.execute("UPDATE users SET is_operator = true")
        connection.execute(_OTHERS, {"user": account.user_id, "n": number})
    made: int = account.call("POST", "/api/campaigns", {"name": "Now", "message": "Hello {name|there}"})["id"]
    people = [f"+99893{n:07}" for n in range(recipients)]
    account.call("PUT", f"/api/campaigns/{made}/recipients", {"recipients": people})
    check("status", account.call("POST", f"/api/campaigns/{made}/start")["status"], "running")
    return made


def _browser(account: Account) -> Client:
    session = account.client.headers["Authorization"].removeprefix("Bearer ")
    return Client(base_url=account.url, cookies={"smsfleet_session": session}, timeout=120)


class Cost(NamedTuple):
    """Of a page: the median time until it is there, and the API process's of the processor, both in milliseconds."""

    time: float
    processor: float


def _medians(client: Client, process: int, campaign: int, times: int) -> dict[str, Cost]:
    return {page: _cost(client, process, page.format(campaign=campaign), times) for page in PAGES}


def _cost(client: Client, process: int, page: str, times: int) -> Cost:
    def ask() -> None:
        check(page, client.get(page).status_code, 200)

    ask()
    before = _processor(process)
    taken = median(timed(ask) for _ in range(times))
    return Cost(taken, (_processor(process) - before) / times)


def _cost_of_a_page(running: Installation, account: Account, client: Client, campaign: int, seconds: float) -> float:
    """Milliseconds of the API process's time that a page costs in a second: by windows with it and without, in turn."""
    process = running.processes["api-1"].pid
    idle = [_used(process, seconds)]
    busy = []
    for _ in range(WINDOWS):
        with _open_page(running.redis_url, account.user_id, client, campaign, seconds):
            busy.append(_used(process, seconds))
        idle.append(_used(process, seconds))
    return max(median(busy) - median(idle), 0.001)


@contextmanager
def _open_page(redis_url: str, user: int, client: Client, campaign: int, seconds: float) -> Iterator[None]:
    """A page that is open for so long, at whose start it is loaded already."""
    ended = threading.Event()
    with ThreadPoolExecutor() as pool:
        pool.submit(_tell_news, redis_url, user, ended)
        follows = pool.submit(_follow, client, campaign, ended)
        asks = [
            pool.submit(_ask, client, path.format(campaign=campaign), min(first, seconds / 2), ended)
            for path, first in ASKED.items()
        ]
        try:
            yield
        finally:
            ended.set()
        if not all(each.result() for each in (follows, *asks)):
            raise CheckFailedError("the page was not told, or did not ask")


def _used(process: int, seconds: float) -> float:
    """Milliseconds of processor that it takes in a second, over so many seconds."""
    before, began = _processor(process), time.monotonic()
    time.sleep(seconds)
    return (_processor(process) - before) / (time.monotonic() - began)


def _processor(process: int) -> float:
    """How many milliseconds a process has had of the processor, by the clock that Linux keeps of it."""
    return time.clock_gettime((~process << 3) | 2) * 1000


def _tell_news(redis_url: str, user: int, ended: threading.Event) -> None:
    with redis.Redis.from_url(redis_url) as broker:
        while not ended.wait(NEWS_SECONDS):
            broker.publish(f"{PAGES_CHANNEL}{user}", "messages")


def _follow(client: Client, campaign: int, ended: threading.Event) -> int:
    """Take what comes down the stream; how often what moves came."""
    came = 0
    with client.stream("GET", f"/events?topics=campaigns&campaign={campaign}") as news:
        for line in news.iter_lines():
            if ended.is_set():
                break
            if line.startswith("event:"):
                check("event", line, "event: part")
                came += 1
    return came


def _ask(client: Client, page: str, first: float, ended: threading.Event) -> int:
    """Ask, and then as often as the answer says; how often it asked."""
    asked, wait = 0, first
    while not ended.wait(wait):
        answer = client.get(page)
        check(page, answer.status_code, 200)
        delay = _DELAY.search(answer.text)
        if delay is None:
            raise CheckFailedError(f"{page} does not say when to ask again")
        asked, wait = asked + 1, float(delay[1])
    return asked
