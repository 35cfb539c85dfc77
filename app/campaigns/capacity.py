"""What the phones of a campaign could send, and when they would be done: by pace, limits, hours and rate.

An estimate for people, not the pace itself: phones are taken to be as fast as they were seen to be, and days as spans
of 24 hours from the start on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import BigInteger, RowMapping, text
from sqlalchemy.orm import Session

from app.campaigns import eligibility
from app.campaigns.models import Campaign
from app.campaigns.rate import interval
from app.campaigns.recipient_schemas import DryRunPhone
from app.core.allowed_hours import OF_ACCOUNT, OF_RECIPIENT, Keeper
from app.core.arrays import array
from app.core.hours import next_closing, next_opening
from app.devices import sims
from app.devices.presence import ONLINE
from app.messages.dispatch.limits import PERIODS
from app.messages.dispatch.pace import Pace, seconds_each

_DAY = timedelta(days=1)
_MAX_DAYS = 366
_PHONES = text(f"""
    SELECT d.id, COALESCE(d.device_name, d.registered_name) AS name, d.limits, d.sim_selection, d.default_sim_slot,
           d.sim_cards, d.send_delay_seconds, d.send_delay_spread_seconds, s.send_window, {ONLINE} AS online
    FROM devices d JOIN device_state s ON s.device_id = d.id
    WHERE d.user_id = :user AND d.removed_at IS NULL AND d.is_active
      AND (:any OR d.id = ANY({array(BigInteger(), "ids")}))
    ORDER BY d.id
""")  # noqa: S608 - constants
_USED = text(f"""
    SELECT device_id, sim_slot, sum(segments) AS per_month,
           sum(segments) FILTER (WHERE released_at > clock_timestamp() - interval '1 day') AS per_day
    FROM device_releases
    WHERE device_id = ANY({array(BigInteger(), "ids")}) AND released_at > clock_timestamp() - interval '30 days'
    GROUP BY device_id, sim_slot
""")  # noqa: S608 - a constant


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone that would send: how many segments a second, and how many its limits leave and allow in a period."""

    id: int
    name: str
    online: bool
    slots: Sequence[int]
    per_second: float
    per_day: int | None
    left_today: int | None
    left_this_month: int | None

    def shown(self) -> DryRunPhone:
        return DryRunPhone(
            id=self.id,
            name=self.name,
            online=self.online,
            sim_slots=list(self.slots),
            messages_per_hour=round(self.per_second * 3600),
            left_today=self.left_today,
            left_this_month=self.left_this_month,
        )


def phones_of(session: Session, user_id: int, campaign: Campaign) -> tuple[datetime, list[Phone]]:
    """The database's time, and the active phones that the campaign may use."""
    named = campaign.devices if isinstance(campaign.devices, list) else [campaign.devices]
    ids = [number for number in named if isinstance(number, int)]
    rows = session.execute(_PHONES, {"user": user_id, "any": not ids, "ids": ids}).mappings().all()
    used: dict[int, dict[int, RowMapping]] = {}
    for row in session.execute(_USED, {"ids": [row["id"] for row in rows]}).mappings():
        used.setdefault(row["device_id"], {})[row["sim_slot"]] = row
    now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now, [_phone(row, campaign.sim_slot, used.get(row["id"], {})) for row in rows]


_LIMITED = text("""
    SELECT EXISTS (SELECT FROM devices WHERE user_id = :user AND removed_at IS NULL AND is_active
                   AND CAST(limits AS text) ~ 'per_(day|month)')
""")


def is_limited(session: Session, user_id: int) -> bool:
    """Whether any of the user's active phones, or a SIM card of one, has a limit for a day or a month."""
    return bool(session.scalar(_LIMITED, {"user": user_id}))


def _phone(row: RowMapping, slot: int | None, used: Mapping[int, RowMapping]) -> Phone:
    slots = [slot] if slot is not None else [row["default_sim_slot"]]
    if slot is None and row["sim_selection"] == "alternate":
        slots = sims.slots(row["sim_cards"]) or slots
    limits: Mapping[str, Any] = row["limits"] or {}
    of_sims = [limits.get("sims", {}).get(str(each), {}) for each in slots]
    per_second = 1 / seconds_each(cast("Pace", row))
    for name in ("per_minute", "per_hour"):
        if (most := _allowed(name, limits, of_sims)) is not None:
            per_second = min(per_second, most / PERIODS[name].total_seconds())
    left = {
        name: _allowed(
            name, limits, of_sims, sum(each[name] or 0 for each in used.values()), [used.get(each) for each in slots]
        )
        for name in ("per_day", "per_month")
    }
    return Phone(
        row["id"],
        row["name"],
        row["online"],
        slots,
        per_second,
        _allowed("per_day", limits, of_sims),
        left["per_day"],
        left["per_month"],
    )


def _allowed(
    name: str,
    limits: Mapping[str, Any],
    of_sims: Sequence[Mapping[str, Any]],
    used: int = 0,
    used_of_sims: Sequence[RowMapping | None] = (),
) -> int | None:
    """What the phone's limit leaves, or all of those of its SIM cards together; None where nothing limits it."""
    left = [] if limits.get(name) is None else [limits[name] - used]
    if all(each.get(name) is not None for each in of_sims):
        of_cards = [row[name] or 0 if row else 0 for row in used_of_sims] or [0] * len(of_sims)
        left.append(sum(max(each[name] - spent, 0) for each, spent in zip(of_sims, of_cards, strict=True)))
    return max(min(left), 0) if left else None


def ends_at(
    session: Session,
    campaign: Campaign,
    phones: Sequence[Phone],
    messages: int,
    segments: int,
    starts_at: datetime,
) -> datetime | None:
    """When the last of the messages would leave; None where no phone may send, or beyond a year."""
    if not messages:
        return starts_at
    keeper = eligibility.keepers(session, [campaign.id]).get(campaign.id)
    each = max(segments / messages, 1)  # segments of a message
    left, months = float(messages), {phone.id: phone.left_this_month for phone in phones}
    at = starts_at
    for day in range(_MAX_DAYS):
        spans = list(_open(keeper, at, at + _DAY))
        seconds = sum((end - begin).total_seconds() for begin, end in spans)
        total = 0.0
        for phone in phones:
            budgets = [phone.left_today if day == 0 else phone.per_day, months[phone.id]]
            sent = min([phone.per_second * seconds, *(most / each for most in budgets if most is not None)])
            total += sent
            if (month := months[phone.id]) is not None:
                months[phone.id] = max(month - int(sent * each), 0)
        if campaign.rate_per_minute:
            total = min(total, timedelta(seconds=seconds) / interval(campaign.rate_per_minute))
        if total >= left:
            rate = sum(phone.per_second for phone in phones)
            if campaign.rate_per_minute:
                rate = min(rate, timedelta(seconds=1) / interval(campaign.rate_per_minute))
            return _within(spans, left / rate)
        left -= total
        at += _DAY
    return None


def _within(spans: Sequence[tuple[datetime, datetime]], seconds: float) -> datetime:
    """The moment when so many seconds of the spans have passed."""
    for begin, end in spans:
        length = (end - begin).total_seconds()
        if seconds <= length:
            return begin + timedelta(seconds=seconds)
        seconds -= length
    return spans[-1][1]


def _open(keeper: Keeper | None, begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """When the campaign's hours are open between two moments. Recipients' own zones are not told apart here."""
    if keeper is None:
        yield begin, end
        return
    zone = keeper.account_zone if keeper.zone in {OF_RECIPIENT, OF_ACCOUNT} else keeper.zone
    at = begin
    while at < end and (opening := next_opening(keeper.hours, (zone,), at)) is not None and opening < end:
        at = min(next_closing(keeper.hours, (zone,), opening) or end, end)
        yield opening, at
