"""Figures: how much was accepted, sent, delivered, spent, by UTC day; exact, and as quick with any number of messages.

Who changes something inserts deltas (`count`), so that concurrent sends of one user share no row. Upkeep adds them to
the totals (`fold`). A read sums totals and unfolded deltas in one statement, which sees each change exactly once.

    outbound   ACCEPTED ──▶ SENT (left pending; the day of its DELIVERED or FAILED too) or CANCELLED
    inbound    RECEIVED
    deleted    HIDDEN_<status>, beside the others: takes nothing off the figures, only off what lists show
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.models import UsageDelta
from app.core import metrics
from app.core.arrays import transposed, unnest
from app.core.database import in_place
from app.core.envelope import plain_number


class UsageKind(StrEnum):
    """What is counted. A correction is a negative count on the day that was counted to."""

    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RECEIVED = "received"
    HIDDEN_PENDING = "hidden_pending"
    HIDDEN_SENT = "hidden_sent"
    HIDDEN_DELIVERED = "hidden_delivered"
    HIDDEN_FAILED = "hidden_failed"
    HIDDEN_CANCELLED = "hidden_cancelled"
    HIDDEN_RECEIVED = "hidden_received"

    @classmethod
    def hidden(cls, status: str) -> "UsageKind":
        """The kind that counts deleted messages of `status`."""
        return cls(f"hidden_{status}")


# Of what happens to a message at a phone the figures of phones tell more.
_EVENTS = {UsageKind.ACCEPTED, UsageKind.CANCELLED, UsageKind.RECEIVED}

Delta = tuple[int, date, UsageKind, int, Decimal | int]

_DELTA = ("user_id", "day", "kind", "n", "amount")
_DELTAS = {f"usage_{name}": getattr(UsageDelta, name) for name in _DELTA}
# Also to be put in front of a statement that changes messages.
INSERT = f"INSERT INTO usage_deltas ({', '.join(_DELTA)}) SELECT * FROM {unnest(**_DELTAS)}"  # noqa: S608 - names of columns
_COUNT = text(INSERT)


def count(session: Session, deltas: Iterable[Delta]) -> None:
    """Note changes: (user, UTC day, kind, how many, money), the changes of a whole batch in one insert."""
    counted = parameters(session, deltas)
    if counted["usage_n"]:
        session.execute(_COUNT, counted)


def parameters(session: Session, deltas: Iterable[Delta]) -> dict[str, list[Any]]:
    """What `INSERT` takes for these changes; that they were asked for is counted by metrics."""
    sums: dict[tuple[int, date, UsageKind], tuple[int, Decimal]] = {}
    for user_id, day, kind, n, amount in deltas:
        had_n, had_amount = sums.get((user_id, day, kind), (0, Decimal(0)))
        sums[user_id, day, kind] = (had_n + n, had_amount + amount)
    for (_, _, kind), (n, _) in sums.items():
        if kind in _EVENTS:
            metrics.count(session, kind, n)
    return transposed([(*key, n, amount) for key, (n, amount) in sums.items() if n or amount], *_DELTAS)


# Sorted by key, so that two workers lock the totals in one order and never deadlock.
_FOLD = text(f"""
    WITH taken AS (
        DELETE FROM usage_deltas WHERE {in_place("usage_deltas", "ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED")}
        RETURNING user_id, day, kind, n, amount),
    added AS (
        INSERT INTO usage_totals (user_id, day, kind, n, amount)
        SELECT user_id, day, kind, sum(n), sum(amount) FROM taken
        GROUP BY user_id, day, kind ORDER BY user_id, day, kind
        ON CONFLICT (user_id, day, kind)
        DO UPDATE SET n = usage_totals.n + excluded.n, amount = usage_totals.amount + excluded.amount),
    drawn AS (
        INSERT INTO usage_hours (user_id, hour, kind, n)
        SELECT user_id, date_trunc('hour', clock_timestamp()), kind, sum(n) FROM taken
        WHERE kind IN ('sent', 'delivered', 'failed') GROUP BY user_id, kind ORDER BY user_id, kind
        ON CONFLICT (user_id, hour, kind) DO UPDATE SET n = usage_hours.n + excluded.n)
    SELECT count(*) FROM taken
""")  # noqa: S608 - constants


def fold(session: Session, limit: int) -> int:
    """Add at most `limit` deltas to the totals, and to those of this hour; how many it took.

    Safe in any number of workers at once.
    """
    taken: int = session.execute(_FOLD, {"most": limit}).scalar_one()
    return taken


@dataclass(frozen=True, slots=True)
class Sums:
    """Count and money of one kind, in all and in the current UTC day, week (from Monday) and month."""

    total: int = 0
    today: int = 0
    week: int = 0
    month: int = 0
    amount: Decimal = Decimal(0)
    amount_today: Decimal = Decimal(0)
    amount_month: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Figures:
    """A user's sums by kind."""

    kinds: dict[UsageKind, Sums] = field(default_factory=dict)

    def __getitem__(self, kind: UsageKind) -> Sums:
        return self.kinds.get(kind, Sums())


_FIGURES = text("""
    WITH clock AS (SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) AS today),
    parts AS (
        SELECT day, kind, n, amount FROM usage_totals WHERE user_id = :user_id
        UNION ALL
        SELECT day, kind, n, amount FROM usage_deltas WHERE user_id = :user_id)
    SELECT kind,
           CAST(sum(n) AS bigint),
           CAST(COALESCE(sum(n) FILTER (WHERE day = today), 0) AS bigint),
           CAST(COALESCE(sum(n) FILTER (WHERE day >= CAST(date_trunc('week', today) AS date)), 0) AS bigint),
           CAST(COALESCE(sum(n) FILTER (WHERE day >= CAST(date_trunc('month', today) AS date)), 0) AS bigint),
           sum(amount),
           COALESCE(sum(amount) FILTER (WHERE day = today), 0),
           COALESCE(sum(amount) FILTER (WHERE day >= CAST(date_trunc('month', today) AS date)), 0)
    FROM parts, clock GROUP BY kind
""")


def figures(session: Session, user_id: int) -> Figures:
    """Everything that is counted of a user, by the database's clock."""
    rows = session.execute(_FIGURES, {"user_id": user_id})
    return Figures({UsageKind(kind): Sums(*numbers) for kind, *numbers in rows})


_BY_DAY = text("""
    SELECT day, kind, CAST(sum(n) AS bigint) AS n FROM (
        SELECT day, kind, n FROM usage_totals WHERE user_id = :user_id AND day > :since
        UNION ALL
        SELECT day, kind, n FROM usage_deltas WHERE user_id = :user_id AND day > :since) AS parts
    GROUP BY day, kind
""")


def by_day(session: Session, user_id: int, days: int) -> dict[tuple[date, UsageKind], int]:
    """What was counted on each of the last days (UTC), by day and kind."""
    since = session.scalar(text("SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)")) - timedelta(days=days)
    rows = session.execute(_BY_DAY, {"user_id": user_id, "since": since})
    return {(row.day, UsageKind(row.kind)): row.n for row in rows}


_BY_HOUR = text("""
    SELECT hour, kind, CAST(sum(n) AS bigint) AS n FROM (
        SELECT hour, kind, n FROM usage_hours WHERE user_id = :user_id AND hour >= :since
        UNION ALL
        SELECT date_trunc('hour', clock_timestamp()), kind, n FROM usage_deltas
        WHERE user_id = :user_id AND kind IN ('sent', 'delivered', 'failed')) AS parts
    GROUP BY hour, kind
""")


def by_hour(session: Session, user_id: int, since: datetime) -> dict[tuple[datetime, UsageKind], int]:
    """What was sent, delivered and failed in each hour, by when it was reported."""
    rows = session.execute(_BY_HOUR, {"user_id": user_id, "since": since})
    return {(row.hour, UsageKind(row.kind)): row.n for row in rows}


@dataclass(frozen=True, slots=True)
class Visible:
    """How many messages lists show, in all, by direction and by status."""

    by_status: dict[str, int]

    @property
    def inbound(self) -> int:
        return self.by_status["received"]

    @property
    def outbound(self) -> int:
        return self.total - self.inbound

    @property
    def total(self) -> int:
        return sum(self.by_status.values())


_VISIBLE = text("""
    SELECT kind, CAST(sum(n) AS bigint) FROM (
        SELECT kind, n FROM usage_totals WHERE user_id = :user_id
        UNION ALL
        SELECT kind, n FROM usage_deltas WHERE user_id = :user_id) AS parts
    GROUP BY kind
""")


def visible(session: Session, user_id: int) -> Visible:
    """Exact totals of the user's message lists."""
    n = dict.fromkeys(UsageKind, 0)
    n.update({UsageKind(kind): number for kind, number in session.execute(_VISIBLE, {"user_id": user_id})})
    sent, delivered, failed = n[UsageKind.SENT], n[UsageKind.DELIVERED], n[UsageKind.FAILED]
    stored = {
        "pending": n[UsageKind.ACCEPTED] - sent - n[UsageKind.CANCELLED],
        "sent": sent - delivered - failed,
        "delivered": delivered,
        "failed": failed,
        "cancelled": n[UsageKind.CANCELLED],
        "received": n[UsageKind.RECEIVED],
    }
    return Visible({status: number - n[UsageKind.hidden(status)] for status, number in stored.items()})


def delivery_rate(delivered: int, sent: int) -> int | float:
    """Per cent of what was sent, one decimal; 0 where nothing was."""
    if not sent:
        return 0
    return plain_number((Decimal(100 * delivered) / sent).quantize(Decimal("0.1"), ROUND_HALF_UP))
