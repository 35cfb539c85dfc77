"""Campaigns at work: what one of 1,000,000 costs another account, whether pauses and cancels hold, and one end to end
beside the same as a bulk.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import mean, median
from typing import Any

import psycopg

from app.campaigns.fleet import MAX_STOCK
from app.local.installation import Installation
from benchmarks.campaign import campaign, phones, wait
from benchmarks.gateway import Account, Figure, check, load, percentile, timed

# Single sends of another account, at fixed times.
EVERY_SECONDS = 0.02
# What 300 phones send that take three seconds for an SMS.
RATE_PER_MINUTE = 6000
_SAMPLE_SECONDS = 0.05
_GIVEN_SINCE = """
    SELECT count(*) FROM messages m LEFT JOIN message_queue q ON q.message_id = m.id
    WHERE m.campaign_id = %s AND COALESCE(q.released_at, m.released_at) > %s
"""
_WAITING = "SELECT count(*) FROM message_queue WHERE user_id = %s AND stage = 0"
_MADE = "SELECT message_id FROM messages WHERE user_id = %s"


class AtWork:
    """A campaign that was prepared, and what is asked of it."""

    def __init__(self, account: Account, path: str) -> None:
        self.account, self.path = account, path
        self.id = int(path.rpartition("/")[2])

    @classmethod
    def of_numbers(cls, account: Account, numbers: list[str], **fields: Any) -> "AtWork":
        draft = {"name": "Bench", "message": "A campaign", "device_id": "active", **fields}
        path = f"/api/campaigns/{account.call('POST', '/api/campaigns', draft)['id']}"
        if numbers:
            added = account.call("PUT", f"{path}/recipients", {"recipients": numbers})["added"]
            check("recipients", added, len(numbers))
        return cls(account, path)

    def ask(self, verb: str) -> dict[str, int]:
        """The counts in its answer."""
        counts: dict[str, int] = self.account.call("POST", f"{self.path}/{verb}", {})["counts"]
        return counts

    def change(self, **fields: Any) -> None:
        self.account.call("PATCH", self.path, fields)

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.account.call("GET", self.path)["counts"]
        return counts

    def wait_for(self, on_air: int) -> None:
        wait(lambda: _on_air(self.counts()) >= on_air, self.counts)

    def stop(self, verb: str, sql: psycopg.Connection) -> float:
        """Pause or cancel it; the milliseconds that took. Nothing may be given out once it has answered."""
        took = timed(lambda: self.ask(verb))
        [(since,)] = sql.execute("SELECT clock_timestamp()").fetchall()
        wait(lambda: self.counts()["given"] == 0, self.counts)
        check(f"given out after the {verb}", sql.execute(_GIVEN_SINCE, [self.id, since]).fetchall(), [(0,)])
        return took


def _on_air(counts: dict[str, int]) -> int:
    return counts["given"] + counts["sent"] + counts["delivered"] + counts["failed"]


def stopped(running: Installation, account: Account, path: str, recipients: int, *, smoke: bool) -> list[Figure]:
    """Pause one campaign again and again while twenty phones send it; then the prepared one, which is cancelled."""
    fewer, times, singles = (2000, 2, 20) if smoke else (50_000, 10, 750)
    with phones(account, "array") as ledger, psycopg.connect(running.database_url, autocommit=True) as sql:
        pauses = _paused(AtWork.of_numbers(account, _numbers(fewer)), sql, fewer, times)
        sent = [entry.message_id for entry in ledger()]
        check("on air", (len(sent), len(set(sent))), (fewer, fewer))
        return [*pauses, *_beside_others(AtWork(account, path), Account(running), sql, recipients, singles)]


def _paused(work: AtWork, sql: psycopg.Connection, recipients: int, times: int) -> list[Figure]:
    took = []
    work.ask("start")
    for turn in range(times):
        work.wait_for(recipients * turn // times + 1)
        took.append(work.stop("pause", sql))
        work.ask("resume")
    wait(lambda: work.counts()["delivered"] == recipients, work.counts)
    return [
        Figure(
            f"pause of a campaign of {recipients:,}, twenty phones at work, the slowest of {times}",
            max(took),
            "ms",
            "< 1,000 ms",
            f"median {median(took):.0f} ms; 0 given out later",
        )
    ]


def _beside_others(
    work: AtWork, other: Account, sql: psycopg.Connection, recipients: int, singles: int
) -> list[Figure]:
    """What another account feels of it, slow and fast; its progress, and its end."""
    other.enroll()
    _singles(other, singles)  # opens connections and makes plans
    alone = _singles(other, singles)
    work.change(rate_per_minute=RATE_PER_MINUTE)
    work.ask("start")
    work.wait_for(50)
    paced = _singles(other, singles)
    empty = AtWork.of_numbers(work.account, [])
    reads, of_empty = zip(*((timed(work.counts), timed(empty.counts)) for _ in range(50)), strict=True)
    work.change(rate_per_minute=None)
    work.wait_for(recipients // 200 + 100)
    fast = _singles(other, singles)
    cancelled = work.stop("cancel", sql)
    counts = work.counts()
    check("recipients", _on_air(counts) + counts["not_made"] + counts["cancelled"], recipients)
    name = f"a campaign of {recipients:,}"
    return [
        *_compared(f"{name}, 100 messages a second", paced, alone),
        *_compared(f"{name}, as fast as twenty phones can", fast, alone),
        Figure(
            f"{name}, 100 messages a second, read with its progress, median",
            median(reads),
            "ms",
            "< 10 ms",
            f"{median(of_empty):.1f} ms of one without recipients: {median(reads) / median(of_empty):.2f} times",
        ),
        Figure(
            f"cancel of {recipients:,}, twenty phones at work", cancelled / 1000, "s", "≤ 10 s", "0 given out later"
        ),
    ]


def _singles(account: Account, requests: int) -> list[float]:
    """The milliseconds of single sends, sorted."""
    sent = load(f"{account.url}/api/sms", account.tokens, requests, every=EVERY_SECONDS)
    check("answers", set(sent.statuses), {"201"})
    return sorted(latency for _, latency in sent.calls)


def _compared(name: str, beside: list[float], alone: list[float]) -> Iterator[Figure]:
    for percent, told in ((50, "median"), (99, "p99")):
        here, there = percentile(beside, percent), percentile(alone, percent)
        ratio = f"{there:.1f} ms without it: {here / there:.2f} times"
        yield Figure(f"another account's single send beside {name}, {told}", here, "ms", "", ratio)


def end_to_end(running: Installation, *, smoke: bool) -> list[Figure]:
    """A campaign between two bulks of the same."""
    messages = 200 if smoke else 100_000
    waiting: list[int] = []

    @contextmanager
    def by_campaign(account: Account, numbers: list[str], callback: str) -> Iterator[Callable[[], set[str]]]:
        AtWork.of_numbers(account, numbers, callback_url=callback).ask("start")
        with _sampled(account, waiting):
            yield lambda: _made(account)

    before, _ = campaign(running, messages, "array")
    rate, tasks = campaign(running, messages, "array", by_campaign)
    after = before if smoke else campaign(running, messages, "array")[0]
    told = ", ".join(f"{name} {count}" for name, count in tasks.most_common(3))
    bulks = f"{before:,.0f} messages/s before it, {after:,.0f} after it"
    return [
        Figure(f"a campaign of {messages:,} from upload to last callback", rate, "messages/s"),
        Figure("share of the same through POST /api/sms/bulk", rate / mean([before, after]), "times", "≥ 0.9", bulks),
        Figure(f"Celery tasks for a campaign of {messages:,}", tasks.total(), "", "< 3,000", told),
        Figure("messages of it that wait at once", max(waiting), "", f"≤ {MAX_STOCK:,}", f"of {len(waiting)} looks"),
    ]


def _made(account: Account) -> set[str]:
    with psycopg.connect(account.database_url) as sql:
        return {str(row[0]) for row in sql.execute(_MADE, [account.user_id])}


def _numbers(many: int) -> list[str]:
    return [f"+99890{number:07d}" for number in range(many)]


@contextmanager
def _sampled(account: Account, waiting: list[int]) -> Iterator[None]:
    """Looks all the time how many messages wait."""
    over = threading.Event()

    def look() -> None:
        with psycopg.connect(account.database_url, autocommit=True) as sql:
            while not over.wait(_SAMPLE_SECONDS):
                waiting.extend(row[0] for row in sql.execute(_WAITING, [account.user_id]))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
