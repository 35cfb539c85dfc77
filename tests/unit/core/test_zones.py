import subprocess
import sys
from datetime import UTC, datetime

import pytest

from app.core.hours import Hours
from app.core.zones import Source, Zoning, region_of, zones_of

ALL_DAYS = frozenset(range(7))
DAYTIME = Hours(9 * 60, 20 * 60, ALL_DAYS)
WINTER = datetime(2026, 11, 26, 12, tzinfo=UTC)


def zoning(number, hours=DAYTIME, own=None, of_countries=None):
    return zones_of(number, hours, WINTER, own=own, of_countries=of_countries or {}, otherwise="Asia/Tashkent")


@pytest.mark.parametrize(
    ("number", "zones", "source"),
    [
        ("+998901234567", ("Asia/Tashkent",), Source.PREFIX),
        ("+12125550123", ("America/New_York",), Source.PREFIX),
        ("+13105550123", ("America/Los_Angeles",), Source.PREFIX),
        ("+18085550123", ("Pacific/Honolulu",), Source.PREFIX),
        ("+77011234567", ("Asia/Almaty",), Source.PREFIX),  # since 2024 all of Kazakhstan has one clock
        ("+79161234567", ("Europe/Moscow",), Source.PREFIX),
        ("+18005550123", ("America/New_York",), Source.GUESS),
        ("+78001234567", ("Asia/Almaty", "Europe/Moscow"), Source.SHARED),
        ("+521234567890", ("America/Mexico_City", "America/Tijuana"), Source.SHARED),
        ("+61412345678", ("Australia/Sydney",), Source.PREFIX),
        ("+881612345678", ("Asia/Tashkent",), Source.GUESS),  # a satellite's
        ("+2101234567", ("Asia/Tashkent",), Source.GUESS),  # nobody's
    ],
)
def test_the_zones_of_a_number(number, zones, source):
    found = zoning(number)
    assert found.source is source
    assert found.names[0] == zones[0] if source is Source.PREFIX else set(zones) <= set(found.names)


def test_what_is_known_better_goes_first():
    toll_free, countries = "+18005550123", {"RU": "Asia/Omsk", "US": "America/Chicago"}
    assert zoning(toll_free, own="Asia/Tokyo", of_countries=countries) == Zoning(("Asia/Tokyo",), Source.CONTACT)
    assert zoning(toll_free, of_countries=countries) == Zoning(("America/Chicago",), Source.COUNTRY)
    # Of several calling codes' countries its own, and before what the zones share.
    assert zoning("+78001234567", of_countries=countries) == Zoning(("Asia/Omsk",), Source.COUNTRY)
    # The only zone of a prefix is no matter of opinion.
    assert zoning("+12125550123", of_countries=countries).source is Source.PREFIX


def test_hours_are_shared_where_three_or_more_of_them_are():
    russian = "+78001234567"  # two hours apart
    assert zoning(russian, Hours(9 * 60, 14 * 60, ALL_DAYS)).source is Source.SHARED
    assert zoning(russian, Hours(9 * 60, 14 * 60 - 1, ALL_DAYS)) == Zoning(("Europe/Moscow",), Source.GUESS)
    # Where every minute is allowed, the clocks may be as far apart as they like.
    assert zoning("+18005550123", Hours(0, 0, ALL_DAYS)).source is Source.SHARED


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("+79161234567", "RU"),
        ("+77011234567", "KZ"),
        ("+14165550123", "CA"),
        ("+18765550123", "JM"),
        ("+11112223333", "US"),  # nobody's number, of the main country
        ("+998901234567", "UZ"),
        ("+881612345678", ""),
        ("+2101234567", ""),
    ],
)
def test_the_country_of_a_number(number, region):
    assert region_of(number) == region
    assert region_of(number) == region  # and once more, from what was found


def test_the_table_is_read_when_it_is_needed_and_not_before():
    loaded = (
        "import sys, app.main, app.core.zones; sys.exit(any('phonenumbers.tzdata' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
