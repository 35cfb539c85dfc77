"""Allowed hours: whether the clock on a wall shows an allowed time, when it does next, and when no longer.

Pure, and judged by what the clock shows. So a night when clocks are set back has its hour twice, and both times count;
one when they are set forward skips it, and a window that begins in what was skipped begins with the change.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from app.core.once import once

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Weekday, ...] = get_args(Weekday)
DAY = 24 * 60
# A week, and what a date that a zone left out and windows over midnight may add.
_HORIZON = timedelta(days=10)
# No zone changes its clocks twice within it.
_STEP = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Hours:
    """From `opens` until before `closes`, in minutes after midnight, on `days` (Monday is 0).

    A window that does not close later than it opens goes over midnight and belongs to the day it opened on; one that
    closes when it opens is a whole day.
    """

    opens: int
    closes: int
    days: frozenset[int]

    @property
    def minutes(self) -> int:
        """How long the window is."""
        return (self.closes - self.opens - 1) % DAY + 1

    def allow(self, shown: datetime) -> bool:
        """Whether what a clock shows is within a window."""
        minute, weekday = shown.hour * 60 + shown.minute, shown.weekday()
        if self.opens < self.closes:
            return weekday in self.days and self.opens <= minute < self.closes
        today = weekday in self.days and minute >= self.opens
        return today or ((weekday - 1) % 7 in self.days and minute < self.closes)


@once
def zone_names() -> frozenset[str]:
    """The names of time zones that may be set."""
    return frozenset(available_timezones())


def is_open(hours: Hours, zones: Collection[str], at: datetime) -> bool:
    """Whether the hours allow `at` in all of the zones."""
    return all(hours.allow(at.astimezone(ZoneInfo(zone))) for zone in zones)


def next_opening(hours: Hours, zones: Sequence[str], at: datetime) -> datetime | None:
    """The first moment from `at` on that the hours allow in all of the zones; None where there is none."""
    return _first(hours, zones, at, wanted=True)


def next_closing(hours: Hours, zones: Sequence[str], at: datetime) -> datetime | None:
    """The first moment from `at` on that they do not; None where every moment is allowed."""
    return _first(hours, zones, at, wanted=False)


def _first(hours: Hours, zones: Sequence[str], at: datetime, *, wanted: bool) -> datetime | None:
    at = at.astimezone(UTC)
    until = at + _HORIZON
    candidates = {at}
    for name in zones:
        candidates.update(_edges(hours, ZoneInfo(name), at, until))
        candidates.update(_changes(ZoneInfo(name), at, until))
    later = (moment for moment in sorted(candidates) if at <= moment <= until)
    return next((moment for moment in later if is_open(hours, zones, moment) is wanted), None)


def _edges(hours: Hours, zone: ZoneInfo, at: datetime, until: datetime) -> Iterator[datetime]:
    """When the zone's clock comes to an end of a window: twice where clocks were set back meanwhile."""
    day, last = at.astimezone(zone).date(), until.astimezone(zone).date()
    while day <= last:
        for minute in (hours.opens, hours.closes):
            yield from (_instant(day, minute, zone, fold) for fold in (0, 1))
        day += timedelta(days=1)


def _instant(day: date, minute: int, zone: ZoneInfo, fold: int) -> datetime:
    return datetime.combine(day, time(*divmod(minute % DAY, 60), fold=fold), zone).astimezone(UTC)


def _changes(zone: ZoneInfo, at: datetime, until: datetime) -> Iterator[datetime]:
    """When the zone's clocks are set to another offset, to the second."""
    while at < until:
        before, after = at, at + _STEP
        at = after
        if _offset(before, zone) == _offset(after, zone):
            continue
        while after - before > timedelta(seconds=1):
            middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
            before, after = (middle, after) if _offset(middle, zone) == _offset(before, zone) else (before, middle)
        yield after.replace(microsecond=0)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def spread(zones: Collection[str], at: datetime) -> timedelta:
    """How far the clocks of the zones are apart."""
    offsets = [_offset(at, ZoneInfo(zone)) for zone in zones]
    return max(offsets) - min(offsets)
