"""How much an account's phones can take: when a message sent now would go, when all that waits is done, and what the
limits leave.

An estimate from pace, limits and queue as they are now; nobody knows which phone goes offline in an hour.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import interval
from app.core.envelope import Timestamp
from app.core.lanes import Lane
from app.devices import sims
from app.devices.health import RESTING
from app.devices.models import Device
from app.devices.presence import ONLINE
from app.messages.dispatch import pace
from app.messages.dispatch.limits import PERIODS
from app.messages.states import Stage

_MAX_SAMPLED = 1000


class Left(BaseModel):
    """SMS parts that the limits still allow, in sliding windows; null without a limit."""

    left_today: int | None = Field(description="Within 24 hours", examples=[180])
    left_this_month: int | None = Field(description="Within 30 days", examples=[4200])


class SimCapacity(Left):
    sim_slot: int = Field(examples=[0])


class DeviceCapacity(Left):
    """A phone. Its SIM cards are those it has told of, and those that have limits."""

    device_id: int = Field(examples=[5])
    device_name: str = Field(examples=["Pixel 7"])
    online: bool
    waiting: int = Field(description="Messages that it was assigned and has not been given", examples=[12])
    per_hour: float = Field(description="Messages an hour, by its delay or by what it was seen to send", examples=[720])
    next_at: Timestamp | None = Field(description="When it could take a single message; null while it is offline")
    sims: list[SimCapacity]


class Capacity(BaseModel):
    """Phones that are disabled have no part in it."""

    next_at: Timestamp | None = Field(
        description="When a single message that names no phone would go if it were sent now; null: no phone is online"
    )
    done_at: Timestamp | None = Field(
        description="When everything that waits now will have gone; null: no phone is online, or not within a year"
    )
    waiting: int = Field(description="Messages that no phone was given yet", examples=[48])
    scheduled: int = Field(
        description="Messages held for their time: `send_at`, or the next allowed hours", examples=[0]
    )
    last_due_at: Timestamp | None = Field(description="When the last of them is due", examples=[None])
    devices: list[DeviceCapacity]


_PHONES = text(f"""
    SELECT d.id, d.device_name, d.send_delay_seconds, d.send_delay_spread_seconds, d.limits, d.sim_cards,
           s.send_window, s.next_slot_at, s.held_until, {ONLINE} AS online, {RESTING} AS resting,
           d.id = u.default_device_id AND NOT u.sticky_phone AS is_default, q.waiting, q.single, q.in_flight
    FROM devices d JOIN device_state s ON s.device_id = d.id JOIN users u ON u.id = d.user_id, LATERAL (
        SELECT count(*) FILTER (WHERE q.stage = {Stage.WAITING}) AS waiting,
               count(*) FILTER (WHERE q.stage = {Stage.WAITING} AND q.lane = {Lane.SINGLE}) AS single,
               count(*) FILTER (WHERE {pace.IN_FLIGHT}) AS in_flight
        FROM message_queue q WHERE q.user_id = d.user_id AND q.device_id = d.id AND q.stage < {Stage.HELD}) q
    WHERE d.user_id = :user AND d.is_active AND d.removed_at IS NULL ORDER BY d.id
""")  # noqa: S608 - constants
_QUEUED = text(f"""
    SELECT clock_timestamp() AS now,
           count(*) FILTER (WHERE stage = {Stage.WAITING}) AS waiting,
           count(*) FILTER (WHERE stage = {Stage.WAITING} AND device_id = 0 AND lane = {Lane.SINGLE}) AS single,
           count(due_at) FILTER (WHERE stage = {Stage.HELD}) AS scheduled,
           max(due_at) FILTER (WHERE stage = {Stage.HELD}) AS last_due_at
    FROM message_queue WHERE user_id = :user AND stage IN ({Stage.WAITING}, {Stage.HELD})
""")  # noqa: S608 - constants
_SEGMENTS = text(f"""
    SELECT COALESCE(avg(COALESCE(m.segments, 1)), 1) FROM (
        SELECT message_id FROM message_queue WHERE user_id = :user AND stage = {Stage.WAITING} LIMIT {_MAX_SAMPLED}) q
    JOIN messages m ON m.id = q.message_id
""")  # noqa: S608 - constants
_USED = text(f"""
    SELECT device_id, sim_slot,
           {
    ", ".join(
        f"COALESCE(sum(segments) FILTER (WHERE released_at > clock_timestamp() - {interval(period)}), 0) AS {name}"
        for name, period in PERIODS.items()
    )
}
    FROM device_releases
    WHERE device_id = ANY(:devices) AND released_at > clock_timestamp() - {interval(PERIODS["per_month"])}
    GROUP BY device_id, sim_slot
""")  # noqa: S608 - constants

# By limit: how much it allows, and how much of that is used.
Budget = Mapping[str, tuple[int, int]]


def of(session: Session, user_id: int) -> Capacity:
    """The capacity of an account's phones."""
    queued = session.execute(_QUEUED, {"user": user_id}).one()
    phones = [dict(row) for row in session.execute(_PHONES, {"user": user_id}).mappings()]
    used = _used(session, [phone["id"] for phone in phones if phone["limits"]])
    parts = float(session.execute(_SEGMENTS, {"user": user_id}).scalar_one())
    for phone in phones:
        phone["budgets"] = _budgets(phone, used)
        phone["next_at"] = _next_at(phone, queued.now, 0) if phone["online"] else None
    online = [phone for phone in phones if phone["online"] and not phone["resting"]]
    return Capacity(
        next_at=_first(online, queued.now, queued.single),
        done_at=_done_at(online, queued.now, queued.waiting * parts, parts),
        waiting=queued.waiting,
        scheduled=queued.scheduled,
        last_due_at=queued.last_due_at,
        devices=[_shown(phone) for phone in phones],
    )


def budgets(session: Session, device: Device) -> dict[int | None, Budget]:
    """What the limits of one phone count, under None, and those of its SIM cards by slot."""
    phone = {"id": device.id, "limits": device.limits, "sim_cards": device.sim_cards}
    return _budgets(phone, _used(session, [device.id] if device.limits else []))


def _used(session: Session, devices: Sequence[int]) -> dict[int, dict[int, dict[str, int]]]:
    """SMS parts that were released in each period, by phone and SIM slot."""
    found: dict[int, dict[int, dict[str, int]]] = {}
    for row in session.execute(_USED, {"devices": devices}).mappings() if devices else ():
        found.setdefault(row["device_id"], {})[row["sim_slot"]] = {name: int(row[name]) for name in PERIODS}
    return found


def _budgets(phone: Mapping[str, Any], used: Mapping[int, Mapping[int, Mapping[str, int]]]) -> dict[int | None, Budget]:
    """The limits of the phone, under None, and of its SIM cards by slot."""
    limits: Mapping[str, Any] = phone["limits"] or {}
    of_slots = used.get(phone["id"], {})
    of_sims = {int(slot): of_sim for slot, of_sim in limits.get("sims", {}).items()}
    found: dict[int | None, Budget] = {
        None: {
            name: (limits[name], sum(of_slot[name] for of_slot in of_slots.values()))
            for name in PERIODS
            if name in limits
        }
    }
    for slot in sorted({*sims.slots(phone["sim_cards"] or ()), *of_sims}):
        own = of_sims.get(slot, {})
        found[slot] = {name: (own[name], of_slots.get(slot, {}).get(name, 0)) for name in PERIODS if name in own}
    return found


def _next_at(phone: Mapping[str, Any], now: datetime, ahead: int) -> datetime:
    """When the phone could take a single message that so many others go before; those of many do not."""
    rate = cast("pace.Pace", phone)
    start: datetime = max(now, phone["held_until"] or now)
    if pace.is_paced(rate):
        start = max(start, phone["next_slot_at"] or start)
    elif phone["in_flight"] >= phone["send_window"]:
        ahead += 1
    return start + timedelta(seconds=pace.seconds_each(rate) * (phone["single"] + ahead))


def _first(online: Sequence[Mapping[str, Any]], now: datetime, single: int) -> datetime | None:
    """By the default phone, which takes it whatever the others have to do; else by the one that is free first."""
    default = [phone for phone in online if phone["is_default"]]
    able = default or online
    ahead = 0 if default or not able else single // len(able)
    return min((_next_at(phone, now, ahead) for phone in able), default=None)


def _done_at(online: Sequence[Mapping[str, Any]], now: datetime, parts: float, each: float) -> datetime | None:
    """When the phones will have sent so many SMS parts in messages of `each`, found by halving."""
    if not online:
        return None

    def sent_within(seconds: float) -> float:
        return sum(_within(phone, seconds, each) for phone in online)

    low, high = 0.0, pace.FORESEEN.total_seconds()
    if sent_within(high) < parts:
        return None
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (low, middle) if sent_within(middle) >= parts else (middle, high)
    return now + timedelta(seconds=high if parts else 0)


def _within(phone: Mapping[str, Any], seconds: float, each: float) -> float:
    """SMS parts that the phone sends in so many seconds, by its pace and by the limits of the whole of it."""
    able = [each * seconds / pace.seconds_each(cast("pace.Pace", phone))]
    for name, (limit, used) in phone["budgets"][None].items():
        able.append(max(0, limit - used) + limit * seconds / PERIODS[name].total_seconds())
    return min(able)


def _shown(phone: Mapping[str, Any]) -> DeviceCapacity:
    budgets: Mapping[int | None, Budget] = phone["budgets"]
    return DeviceCapacity(
        device_id=phone["id"],
        device_name=phone["device_name"],
        online=phone["online"],
        waiting=phone["waiting"],
        per_hour=round(3600 / pace.seconds_each(cast("pace.Pace", phone)), 1),
        next_at=phone["next_at"],
        sims=[SimCapacity(sim_slot=slot, **_left(budget)) for slot, budget in budgets.items() if slot is not None],
        **_left(budgets[None]),
    )


def _left(budget: Budget) -> dict[str, int | None]:
    """What is left within a day is not more than what is left within the month."""
    month = _left_of(budget, "per_month")
    return {
        "left_today": min((left for left in (_left_of(budget, "per_day"), month) if left is not None), default=None),
        "left_this_month": month,
    }


def _left_of(budget: Budget, name: str) -> int | None:
    if name not in budget:
        return None
    limit, used = budget[name]
    return max(0, limit - used)
