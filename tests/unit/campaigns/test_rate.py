"""A campaign's rate, over ten minutes of looks that come when they come."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from app.campaigns import rate
from app.campaigns.models import Campaign

START = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = 600


def looks(latest: float) -> Iterator[datetime]:
    """About one a second, the next after at most `latest` seconds."""
    drawn = random.Random(latest)
    at = 0.0
    while at < SECONDS:
        yield START + timedelta(seconds=at)
        at += drawn.uniform(2 - latest, latest)


def made(per_minute: int, latest: float, waiting: int = 0) -> list[datetime]:
    campaign = Campaign(next_slot_at=None)
    times = []
    for now in looks(latest):
        n = rate.allowed(campaign, per_minute, waiting, now)
        rate.spend(campaign, per_minute, n, now)
        times += [now] * n
    return times


@pytest.mark.parametrize("latest", [1.0, 1.05, 1.5, 2.0])
@pytest.mark.parametrize("per_minute", [1, 7, 30, 31, 60, 120, 300, 599, 6000, 100_000])
def test_a_rate_is_used_and_no_minute_has_more(per_minute, latest):
    times = made(per_minute, latest)
    assert len(times) >= int(SECONDS / 62 * per_minute)
    for first, last in zip(times, times[per_minute:], strict=False):
        assert last - first >= timedelta(minutes=1)


def test_what_was_not_made_for_long_does_not_come_at_once():
    campaign = Campaign(next_slot_at=START - timedelta(hours=1))
    assert rate.allowed(campaign, 600, 0, START) == 20


def test_what_waits_does_not_gather():
    assert len(made(600, 1.0, waiting=20)) == 0
    assert rate.allowed(Campaign(next_slot_at=None), 600, 15, START) == 5
    assert rate.allowed(Campaign(next_slot_at=None), 6, 1, START) == 1
