"""Figures of a phone and its SIM cards: sent, delivered, failed by reason, and how long it took; by UTC day.

Kept as account figures are (`accounts.usage`): changes are inserted as deltas, upkeep folds them into totals, a read
sums both. Times are counted in classes of a fourth of an octave, of which a median can be taken over any days.

    sent       an SMS left; `detail` is the class of the time since the phone was given it
    delivered  `detail` is the class of the time since it left; counted to the day it left
    failed     a try failed; `detail` is the reason's code
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.accounts.usage import delivery_rate
from app.core.arrays import transposed, unnest
from app.core.database import in_place
from app.devices import health
from app.devices.failures import OF_PHONE, REASONS
from app.devices.models import DeviceDelta


class Kind(StrEnum):
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"


# (device, SIM slot, day, kind, detail).
Key = tuple[int, int, date, Kind, str]

# To be put in front of a statement that changes messages: one more statement a batch would be felt.
_DELTA = ("device_id", "sim_slot", "day", "kind", "detail", "n")
_FIGURES = {f"figure_{name}": getattr(DeviceDelta, name) for name in _DELTA}
INSERT = f"INSERT INTO device_deltas ({', '.join(_DELTA)}) SELECT * FROM {unnest(**_FIGURES)}"  # noqa: S608 - names of columns


def parameters(counts: Mapping[Key, int]) -> dict[str, list[Any]]:
    """What `INSERT` takes."""
    return transposed([(*key, n) for key, n in counts.items() if n], *_FIGURES)


def time_class(begin: datetime | None, end: datetime | None) -> str:
    """The class of a duration; `""` where it is not known."""
    if begin is None or end is None:
        return ""
    return str(round(4 * math.log2(max((end - begin).total_seconds(), 0.1))))


# Sorted by key, so that two workers lock the totals in one order and never deadlock.
_FOLD = text(f"""
    WITH taken AS (
        DELETE FROM device_deltas WHERE {in_place("device_deltas", "ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED")}
        RETURNING device_id, sim_slot, day, kind, detail, n),
    added AS (
        INSERT INTO device_totals (device_id, day, sim_slot, kind, detail, n)
        SELECT device_id, day, sim_slot, kind, detail, sum(n) FROM taken
        GROUP BY device_id, day, sim_slot, kind, detail ORDER BY device_id, day, sim_slot, kind, detail
        ON CONFLICT (device_id, day, sim_slot, kind, detail) DO UPDATE SET n = device_totals.n + excluded.n)
    SELECT device_id, sim_slot, count(*) AS deltas,
           CAST(COALESCE(sum(n) FILTER (WHERE kind = 'sent'), 0) AS bigint) AS sent,
           CAST(COALESCE(sum(n) FILTER (WHERE kind = 'failed' AND detail = ANY(:of_phone)), 0) AS bigint) AS failed,
           mode() WITHIN GROUP (ORDER BY detail) FILTER (WHERE kind = 'failed' AND detail = ANY(:of_phone)) AS reason
    FROM taken GROUP BY device_id, sim_slot
""")  # noqa: S608 - constants


def fold(session: Session, limit: int) -> int:
    """Add at most `limit` deltas to the totals, and evaluate the phones' health by them; how many it took.

    Safe in any number of workers at once.
    """
    results = session.execute(_FOLD, {"most": limit, "of_phone": OF_PHONE}).all()
    health.evaluate(session, results)
    return sum(row.deltas for row in results)


class FailureCount(BaseModel):
    """How many attempts failed for one reason."""

    reason_code: str = Field(examples=["no_service"])
    reason: str = Field(examples=["The SIM card has no mobile service."])
    count: int = Field(examples=[1])


class DeviceToday(BaseModel):
    """Today's figures in short."""

    sent: int = Field(examples=[8])
    delivered: int = Field(examples=[7])
    failed: int = Field(examples=[1])
    delivery_rate: int | float = Field(description="Per cent of what was sent", examples=[87.5])


class DevicePeriod(DeviceToday):
    """Figures of some days. `failed` counts attempts, so it may include messages that another phone then sent."""

    failures: list[FailureCount]
    median_seconds_to_send: float | None = Field(
        description="From handing the message to the phone until it was sent; null if unknown", examples=[4.8]
    )
    median_seconds_to_deliver: float | None = Field(
        description="From sent to delivered; null if unknown", examples=[2.4]
    )


class DevicePeriods(BaseModel):
    """Today, and the last 7 and 30 days including today, in UTC."""

    today: DevicePeriod
    last_7_days: DevicePeriod
    last_30_days: DevicePeriod


class SimStats(DevicePeriods):
    """Figures of one SIM card, by its slot."""

    sim_slot: int = Field(examples=[0])


class DeviceStats(DevicePeriods):
    """Figures of a phone, and of each of its SIM cards that sent or failed."""

    sims: list[SimStats]


_DAYS = {"today": 1, "last_7_days": 7, "last_30_days": 30}
_SUMS = text("""
    WITH clock AS (SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) AS today),
    parts AS (
        SELECT device_id, sim_slot, day, kind, detail, n FROM device_totals, clock
        WHERE device_id = ANY(:devices) AND day > today - CAST(:days AS integer)
        UNION ALL
        SELECT device_id, sim_slot, day, kind, detail, n FROM device_deltas, clock
        WHERE device_id = ANY(:devices) AND day > today - CAST(:days AS integer))
    SELECT device_id, sim_slot, kind, detail,
           CAST(COALESCE(sum(n) FILTER (WHERE day = today), 0) AS bigint) AS today,
           CAST(COALESCE(sum(n) FILTER (WHERE day > today - 7), 0) AS bigint) AS last_7_days,
           CAST(sum(n) AS bigint) AS last_30_days
    FROM parts, clock GROUP BY device_id, sim_slot, kind, detail
""")


def of_device(session: Session, device_id: int) -> DeviceStats:
    """Everything that is counted of a phone."""
    rows = session.execute(_SUMS, {"devices": [device_id], "days": max(_DAYS.values())}).all()
    slots = sorted({row.sim_slot for row in rows})
    sims = [SimStats(sim_slot=slot, **_periods([row for row in rows if row.sim_slot == slot])) for slot in slots]
    return DeviceStats(**_periods(rows), sims=sims)


_BY_DAY = text("""
    SELECT day, kind, CAST(sum(n) AS bigint) AS n FROM (
        SELECT day, kind, n FROM device_totals WHERE device_id = :device AND day >= :since
        UNION ALL
        SELECT day, kind, n FROM device_deltas WHERE device_id = :device AND day >= :since) AS parts
    GROUP BY day, kind
""")


def by_day(session: Session, device_id: int, since: date) -> dict[tuple[date, Kind], int]:
    """What was sent, delivered and failed on each day (UTC) from `since` on."""
    rows = session.execute(_BY_DAY, {"device": device_id, "since": since})
    return {(row.day, Kind(row.kind)): row.n for row in rows}


def today(session: Session, device_ids: Collection[int]) -> dict[int, DeviceToday]:
    """Today's figures of phones, in short."""
    sums: dict[int, dict[str, int]] = {device: defaultdict(int) for device in device_ids}
    for row in session.execute(_SUMS, {"devices": sorted(sums), "days": 1}):
        sums[row.device_id][row.kind] += row.today
    return {device: DeviceToday(**_brief(kinds)) for device, kinds in sums.items()}


def _periods(rows: Collection[Row[Any]]) -> dict[str, DevicePeriod]:
    return {name: _period([(row.kind, row.detail, getattr(row, name)) for row in rows]) for name in _DAYS}


def _period(counted: list[tuple[str, str, int]]) -> DevicePeriod:
    by_kind: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for kind, detail, n in counted:
        by_kind[kind][detail] += n
    failures = sorted(by_kind[Kind.FAILED].items(), key=lambda item: (-item[1], item[0]))
    return DevicePeriod(
        **_brief({kind: sum(details.values()) for kind, details in by_kind.items()}),
        failures=[
            FailureCount(reason_code=code, reason=REASONS[code].sentence, count=n) for code, n in failures if n > 0
        ],
        median_seconds_to_send=_median(by_kind[Kind.SENT]),
        median_seconds_to_deliver=_median(by_kind[Kind.DELIVERED]),
    )


def _brief(kinds: Mapping[str, int]) -> dict[str, Any]:
    sent, delivered = kinds.get(Kind.SENT, 0), kinds.get(Kind.DELIVERED, 0)
    rate = delivery_rate(delivered, sent)
    return {"sent": sent, "delivered": delivered, "failed": kinds.get(Kind.FAILED, 0), "delivery_rate": rate}


def _median(classes: Mapping[str, int]) -> float | None:
    known = sorted((int(name), n) for name, n in classes.items() if name and n > 0)
    passed, half = 0, sum(n for _, n in known) / 2
    for number, n in known:
        passed += n
        if passed >= half:
            seconds = Decimal(2 ** (number / 4))
            return float(round(seconds, 1))
    return None
