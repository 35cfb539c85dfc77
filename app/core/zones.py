"""Whose clock counts: the time zones of a phone number.

The table of prefixes is large and needed only where hours are kept, so it is read when it is first asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import phonenumbers
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from app.core.hours import Hours, spread

# What the zones of a number must share of a window for it to be kept in all of them.
_SHARED_ENOUGH = timedelta(hours=3)
# Within so many digits a number says to which of the countries of its calling code it belongs.
_AREA_DIGITS = 5
# The region of calling codes that are no country's.
_NO_COUNTRY = "001"

# Where most people of a country with several clocks live.
_LARGEST = {
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "CD": "Africa/Kinshasa",
    "CL": "America/Santiago",
    "EC": "America/Guayaquil",
    "ES": "Europe/Madrid",
    "FM": "Pacific/Pohnpei",
    "GL": "America/Nuuk",
    "ID": "Asia/Jakarta",
    "KI": "Pacific/Tarawa",
    "KZ": "Asia/Almaty",
    "MN": "Asia/Ulaanbaatar",
    "MX": "America/Mexico_City",
    "NZ": "Pacific/Auckland",
    "PF": "Pacific/Tahiti",
    "PG": "Pacific/Port_Moresby",
    "PT": "Europe/Lisbon",
    "RE": "Indian/Reunion",
    "RU": "Europe/Moscow",
    "US": "America/New_York",
    "YT": "Indian/Mayotte",
}


class Source(StrEnum):
    """How the zone of a number is known, the best first."""

    SET = "set"
    CONTACT = "contact"
    PREFIX = "prefix"
    COUNTRY = "country"
    SHARED = "shared"
    GUESS = "guess"


@dataclass(frozen=True, slots=True)
class Zoning:
    """Zones whose clocks must all allow a moment, and how they are known."""

    names: tuple[str, ...]
    source: Source


def zones_of(
    number: str, hours: Hours, at: datetime, *, own: str | None, of_countries: Mapping[str, str], otherwise: str
) -> Zoning:
    """The zones by which `hours` are kept for a number in E.164.

    Its contact's `own`; else the only one of its prefix; else what the account set for its country; else all that it
    may be in, where their clocks share three hours of the window or more; else the largest of its country, a guess.
    `otherwise` is for numbers of no country.
    """
    if own is not None:
        return Zoning((own,), Source.CONTACT)
    possible = of_prefix(number)
    if possible and not spread(possible, at):
        return Zoning(possible[:1], Source.PREFIX)
    region = region_of(number)
    if region in of_countries:
        return Zoning((of_countries[region],), Source.COUNTRY)
    if not possible:
        return Zoning((otherwise,), Source.GUESS)
    if timedelta(minutes=hours.minutes) - spread(possible, at) >= _SHARED_ENOUGH:
        return Zoning(possible, Source.SHARED)
    return Zoning((_LARGEST.get(region, possible[0]),), Source.GUESS)


def of_prefix(number: str) -> tuple[str, ...]:
    """The zones of the longest known prefix of the number; none where it belongs to no country."""
    from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX  # noqa: PLC0415 - large; see above

    digits = number[1 : TIMEZONE_LONGEST_PREFIX + 1]
    for length in range(len(digits), 0, -1):
        zones: tuple[str, ...] | None = TIMEZONE_DATA.get(digits[:length])
        if zones is not None:
            return zones
    return ()


def key_of(number: str, own: str | None) -> str:
    """What is known of a number's clock in a few characters, the same for all numbers of a prefix.

    `zones_of` takes it in a number's place; a contact's own zone stands for itself.
    """
    from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX  # noqa: PLC0415 - large; see above

    if own is not None:
        return own
    digits = number[1 : TIMEZONE_LONGEST_PREFIX + 1]
    known = (digits[:length] for length in range(len(digits), 0, -1) if digits[:length] in TIMEZONE_DATA)
    # Without a zone the number is of no country.
    return f"+{next(known, '000')}"


def region_of(number: str) -> str:
    """The country of the number (ISO 3166, two letters), "" where it has none."""
    for length in (1, 2, 3):
        regions = COUNTRY_CODE_TO_REGION_CODE.get(int(number[1 : length + 1]))
        if regions is not None:
            return _one_of(regions, number) if len(regions) > 1 else regions[0].replace(_NO_COUNTRY, "")
    return ""


def _one_of(regions: tuple[str, ...], number: str) -> str:
    """Which of the countries of one calling code; the main one for a number that is nobody's.

    Asked for the first number of each area only: it takes as long as everything else together.
    """
    area = number[: _AREA_DIGITS + 1]
    if area not in _regions:
        try:
            found: str | None = phonenumbers.region_code_for_number(phonenumbers.parse(number))
        except phonenumbers.NumberParseException:  # A prefix alone, as `key_of` gives it.
            found = None
        if found is None:
            return regions[0]
        _regions[area] = found
    return _regions[area]


_regions: dict[str, str] = {}
