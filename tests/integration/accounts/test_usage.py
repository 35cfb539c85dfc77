"""Figures: exact whatever runs at once, by UTC day, with and without folding."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from app.accounts import usage
from app.accounts.usage import UsageKind
from app.core.database import transaction


@pytest.fixture
def today(sql) -> date:
    return sql.execute("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date").fetchone()[0]


def count(*deltas):
    with transaction() as session:
        usage.count(session, deltas)


def fold(limit=1000):
    with transaction() as session:
        return usage.fold(session, limit)


def figures(user_id):
    with transaction() as session:
        return usage.figures(session, user_id)


def hours(user_id):
    """Of this hour and the one before, by kind."""
    with transaction() as session:
        found = usage.by_hour(session, user_id, datetime.now(UTC) - timedelta(hours=2))
    sums = Counter()
    for (_, kind), n in found.items():
        sums[kind] += n
    return sums


def test_a_batch_is_one_row_per_user_day_and_kind(ali, sql, today):
    count(*[(ali.id, today, UsageKind.ACCEPTED, 1, Decimal("0.5"))] * 100, (ali.id, today, UsageKind.SENT, 1, 0))
    rows = sql.execute("SELECT kind, n, amount FROM usage_deltas ORDER BY kind").fetchall()
    assert rows == [("accepted", 100, Decimal(50)), ("sent", 1, Decimal(0))]


def test_changes_that_cancel_out_leave_no_row(ali, sql, today):
    count((ali.id, today, UsageKind.FAILED, 1, 0), (ali.id, today, UsageKind.FAILED, -1, 0))
    count()
    assert sql.execute("SELECT count(*) FROM usage_deltas").fetchone() == (0,)


def test_folding_changes_no_figure(ali, other, sql, today):
    for day in (today, today - timedelta(days=1), today - timedelta(days=400)):
        count((ali.id, day, UsageKind.ACCEPTED, 3, Decimal(300)), (other.id, day, UsageKind.ACCEPTED, 1, 1))
        count((ali.id, day, UsageKind.FAILED, 2, 0))
        count((ali.id, day, UsageKind.FAILED, -1, 0))
    before = figures(ali.id)
    assert (before[UsageKind.ACCEPTED].total, before[UsageKind.ACCEPTED].amount) == (9, Decimal(900))
    assert (before[UsageKind.FAILED].total, before[UsageKind.FAILED].today) == (3, 1)
    assert hours(ali.id) == {UsageKind.FAILED: 3}
    taken = []
    while n := fold(limit=4):
        taken.append(n)
        assert figures(ali.id) == before
        assert hours(ali.id) == {UsageKind.FAILED: 3}
    assert sum(taken) == 12
    assert fold() == 0
    assert sql.execute("SELECT count(*) FROM usage_deltas").fetchone() == (0,)
    count((ali.id, today, UsageKind.ACCEPTED, 1, 100))
    assert figures(ali.id)[UsageKind.ACCEPTED].total == 10


def test_weeks_begin_on_monday_and_days_are_utc(ali, sql, today):
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    for day in (today, monday, monday - timedelta(days=1), first, first - timedelta(days=1), today + timedelta(days=1)):
        count((ali.id, day, UsageKind.SENT, 1, 0))
    counted = [today, monday, monday - timedelta(days=1), first, first - timedelta(days=1), today + timedelta(days=1)]
    sent = figures(ali.id)[UsageKind.SENT]
    assert sent.total == 6
    assert sent.today == counted.count(today)
    assert sent.week == sum(day >= monday for day in counted)
    assert sent.month == sum(day >= first for day in counted)


def test_the_day_is_utc_whatever_the_server_is_set_to(ali, sql, today):
    count((ali.id, today, UsageKind.SENT, 1, 0))
    with transaction() as session:
        for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
            session.connection().exec_driver_sql(f"SET LOCAL timezone = '{zone}'")
            assert usage.figures(session, ali.id)[UsageKind.SENT].today == 1


def test_counting_and_folding_at_once_loses_and_doubles_nothing(ali, other, today):
    days = [today - timedelta(days=n) for n in range(5)]
    stop = threading.Event()

    def write(seed):
        source = random.Random(seed)
        for _ in range(40):
            day = source.choice(days)
            sent = [(user.id, day, UsageKind.SENT, 1, 0) for user in (ali, other)]
            # Accepted and sent in one transaction: no reader may ever see one without the other.
            count((ali.id, day, UsageKind.ACCEPTED, 1, 1), *sent)

    def until_stopped(work):
        found = []
        while not stop.is_set():
            found.append(work())
        return found

    with ThreadPoolExecutor(9) as pool:
        folders = [pool.submit(until_stopped, lambda: fold(limit=7)) for _ in range(3)]
        reader = pool.submit(until_stopped, lambda: figures(ali.id))
        for writer in [pool.submit(write, seed) for seed in range(5)]:
            writer.result()
        stop.set()
        assert sum(sum(folder.result()) for folder in folders) > 0
        assert all(seen[UsageKind.ACCEPTED].total == seen[UsageKind.SENT].total for seen in reader.result())
    while fold():
        pass
    sums = figures(ali.id)[UsageKind.ACCEPTED]
    assert (sums.total, sums.amount, figures(other.id)[UsageKind.SENT].total) == (200, Decimal(200), 200)


def test_lists_show_what_is_not_deleted(ali, today):
    count(
        (ali.id, today, UsageKind.ACCEPTED, 10, 0),
        (ali.id, today, UsageKind.CANCELLED, 2, 0),
        (ali.id, today, UsageKind.SENT, 5, 0),
        (ali.id, today, UsageKind.DELIVERED, 2, 0),
        (ali.id, today, UsageKind.FAILED, 1, 0),
        (ali.id, today, UsageKind.RECEIVED, 4, 0),
        (ali.id, today, UsageKind.hidden("received"), 1, 0),
        (ali.id, today, UsageKind.hidden("cancelled"), 1, 0),
    )
    with transaction() as session:
        visible = usage.visible(session, ali.id)
    assert visible.by_status == {"pending": 3, "sent": 2, "delivered": 2, "failed": 1, "cancelled": 1, "received": 3}
    assert (visible.total, visible.outbound, visible.inbound) == (12, 9, 3)


@pytest.mark.parametrize(
    ("delivered", "sent", "rate"), [(0, 0, 0), (7, 8, 87.5), (38, 40, 95), (230, 240, 95.8), (1, 3, 33.3), (2, 3, 66.7)]
)
def test_delivery_rate(delivered, sent, rate):
    found = usage.delivery_rate(delivered, sent)
    assert (found, type(found)) == (rate, type(rate))


def test_delivery_stats(ali, today):
    from app.accounts.account import delivery_stats

    count((ali.id, today, UsageKind.SENT, 8, 0), (ali.id, today, UsageKind.DELIVERED, 7, 0))
    count((ali.id, today, UsageKind.FAILED, 1, 0))
    with transaction() as session:
        stats = delivery_stats(session, ali.id)
    assert stats["today"] == {"sent": 8, "delivered": 7, "failed": 1, "delivery_rate": 87.5}
    assert list(stats) == ["today", "this_week", "this_month"]
