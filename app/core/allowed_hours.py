"""Allowed hours as they are set, and what they come to for one number after another."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from app.core.hours import DAYS, Hours, Weekday, next_closing, next_opening, zone_names
from app.core.validation import Strict, fault
from app.core.zones import Source, Zoning, zones_of

OF_RECIPIENT, OF_ACCOUNT = "recipient", "account"
# Of an account that has set none.
DEFAULT_ZONE = "UTC"
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


def _clock(value: str) -> str:
    # The end of a day is the beginning of the next.
    if value == "24:00":
        return "00:00"
    if not _CLOCK.fullmatch(value):
        raise fault("The {name} field must be a time like 09:00.")
    return value


def _zone(value: str) -> str:
    if value not in zone_names():
        raise fault("The {name} field must be a time zone like Asia/Tashkent.")
    return value


def zone_or_word(value: str) -> str:
    """A time zone by name, or a word for whose it is."""
    return value if value in {OF_RECIPIENT, OF_ACCOUNT} else _zone(value)


Clock = Annotated[str, Field(max_length=5), AfterValidator(_clock)]
ZoneName = Annotated[str, Field(max_length=64), AfterValidator(_zone)]


class AllowedHours(Strict):
    """From when until when messages may go out, by whose clock."""

    opens: Clock = Field(alias="from", examples=["09:00"])
    closes: Clock = Field(
        alias="to", description="Up to `from` or earlier: on the next day; the same: the whole day", examples=["20:00"]
    )
    days: Annotated[list[Weekday], Field(min_length=1)] = Field(
        default=list(DAYS), description="Days that the hours begin on", examples=[["mon", "tue", "wed", "thu", "fri"]]
    )
    zone: Annotated[str, Field(max_length=64), AfterValidator(zone_or_word)] = Field(
        default=OF_RECIPIENT,
        description="`recipient`, `account` (its `time_zone`), or a time zone by name",
        examples=[OF_RECIPIENT],
    )

    def stored(self) -> dict[str, Any]:
        """As it is shown, each day once and in order."""
        return {"from": self.opens, "to": self.closes, "days": [day for day in DAYS if day in self.days],
                "zone": self.zone}  # fmt: skip


class Window(NamedTuple):
    """When the hours open next, at once where they are open, and when they close then; None for never."""

    opening: datetime
    closing: datetime | None


# When hours that never open, because those of several have nothing in common, are looked at again.
_NEVER = timedelta(days=1)


@dataclass(slots=True)
class Keeper:
    """Allowed hours with what an account has set about zones; remembers what it found while it is used."""

    hours: Hours
    zone: str
    account_zone: str
    of_countries: Mapping[str, str]
    _windows: dict[tuple[tuple[str, ...], datetime], Window] = field(default_factory=dict)

    @classmethod
    def of(
        cls, stored: Mapping[str, Any], account_zone: str | None, of_countries: Mapping[str, str] | None
    ) -> "Keeper":
        """From allowed hours as they are stored, and the account's columns."""
        days = frozenset(DAYS.index(day) for day in stored["days"])
        hours = Hours(_minutes(stored["from"]), _minutes(stored["to"]), days)
        return cls(hours, stored["zone"], account_zone or DEFAULT_ZONE, of_countries or {})

    def zoning(self, number: str, own: str | None, at: datetime) -> Zoning:
        """By whose clocks a number is served; `own` is its contact's zone, if any."""
        if self.zone == OF_ACCOUNT:
            return Zoning((self.account_zone,), Source.SET)
        if self.zone != OF_RECIPIENT:
            return Zoning((self.zone,), Source.SET)
        return zones_of(number, self.hours, at, own=own, of_countries=self.of_countries, otherwise=self.account_zone)

    def window(self, number: str, own: str | None, at: datetime) -> Window:
        """When the number may be sent to, from `at` on."""
        return self.window_in(self.zoning(number, own, at).names, at)

    @property
    def is_of_recipients(self) -> bool:
        """Whether each number is served by a clock of its own."""
        return self.zone == OF_RECIPIENT

    def window_in(self, zones: tuple[str, ...], at: datetime) -> Window:
        """As `window`, for zones that are known."""
        known = self._windows.get((zones, at))
        if known is None:
            opening = next_opening(self.hours, zones, at) or at + _NEVER
            known = Window(opening, next_closing(self.hours, zones, opening))
            self._windows[zones, at] = known
        return known


def common_window(keepers: Sequence[Keeper], number: str, own: str | None, at: datetime) -> Window:
    """When a number may be sent to by all of several hours."""
    opening = at
    while opening < at + _NEVER * 7:
        windows = [keeper.window(number, own, opening) for keeper in keepers]
        latest = max(window.opening for window in windows)
        if latest == opening:
            return Window(opening, min((window.closing for window in windows if window.closing), default=None))
        opening = latest
    return Window(at + _NEVER, None)


def _minutes(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])
