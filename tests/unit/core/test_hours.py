from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.hours import DAY, Hours, is_open, next_closing, next_opening, spread

ALL_DAYS = frozenset(range(7))
WORKDAYS = frozenset(range(5))


def hours(opens: str, closes: str, days: frozenset[int] = ALL_DAYS) -> Hours:
    def minutes(clock: str) -> int:
        return int(clock[:2]) * 60 + int(clock[3:])

    return Hours(minutes(opens), minutes(closes), days)


def at(text: str, zone: str = "UTC", fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("window", "zone", "now", "opening"),
    [
        # Plain days.
        (hours("09:00", "20:00"), "Asia/Tashkent", "2026-11-26T08:59:59", "2026-11-26T09:00"),
        (hours("09:00", "20:00"), "Asia/Tashkent", "2026-11-26T09:00", "2026-11-26T09:00"),
        (hours("09:00", "20:00"), "Asia/Tashkent", "2026-11-26T20:00", "2026-11-27T09:00"),
        # Ends of months and of years, and the leap day.
        (hours("09:00", "20:00"), "Asia/Tashkent", "2026-11-30T23:00", "2026-12-01T09:00"),
        (hours("09:00", "20:00"), "Asia/Tashkent", "2026-12-31T23:00", "2027-01-01T09:00"),
        (hours("09:00", "20:00"), "Asia/Tashkent", "2028-02-28T21:00", "2028-02-29T09:00"),
        (hours("09:00", "20:00"), "Asia/Tashkent", "2027-02-28T21:00", "2027-03-01T09:00"),
        # Days of the week: 27 November 2026 is a Friday.
        (hours("09:00", "20:00", WORKDAYS), "Europe/Berlin", "2026-11-27T20:00", "2026-11-30T09:00"),
        (hours("09:00", "20:00", frozenset({2})), "Europe/Berlin", "2026-11-25T20:00", "2026-12-02T09:00"),
        # Over midnight a window belongs to the day it opened on.
        (hours("22:00", "02:00", frozenset({4})), "Europe/Berlin", "2026-11-28T01:59", "2026-11-28T01:59"),
        (hours("22:00", "02:00", frozenset({4})), "Europe/Berlin", "2026-11-28T02:00", "2026-12-04T22:00"),
        (hours("22:00", "02:00", frozenset({4})), "Europe/Berlin", "2026-11-27T01:00", "2026-11-27T22:00"),
        # A whole day.
        (hours("00:00", "00:00", frozenset({6})), "Europe/Berlin", "2026-11-27T12:00", "2026-11-29T00:00"),
        # Clocks set forward over the opening: it opens with the change.
        (hours("02:30", "20:00"), "Europe/Berlin", "2027-03-28T01:59", "2027-03-28T03:00"),
        (hours("09:00", "20:00"), "America/New_York", "2027-03-14T01:00", "2027-03-14T09:00"),
        # Set back: the hour comes twice.
        (hours("09:00", "20:00"), "America/New_York", "2026-11-01T00:30", "2026-11-01T09:00"),
        (hours("02:30", "20:00"), "Europe/Berlin", "2026-10-25T02:00", "2026-10-25T02:30"),
        # By half an hour, and at midnight.
        (hours("09:00", "20:00"), "Australia/Lord_Howe", "2027-04-03T21:00", "2027-04-04T09:00"),
        (hours("00:15", "06:00"), "Africa/Cairo", "2027-04-29T23:50", "2027-04-30T01:00"),
        # A zone that changed its rules: Almaty went to UTC+5, and Mexico gave up summer time.
        (hours("00:15", "06:00"), "Asia/Almaty", "2024-02-29T22:00", "2024-03-01T00:15"),
        (hours("09:00", "20:00"), "America/Mexico_City", "2023-04-01T21:00", "2023-04-02T09:00"),
        # Samoa left out the 30th of December 2011, a Friday.
        (hours("09:00", "20:00", frozenset({4})), "Pacific/Apia", "2011-12-29T21:00", "2012-01-06T09:00"),
    ],
)
def test_the_next_opening(window, zone, now, opening):
    assert next_opening(window, [zone], at(now, zone)) == at(opening, zone)


def test_the_hour_that_comes_twice_is_judged_by_the_clock_both_times():
    window, zone = hours("02:30", "20:00"), "Europe/Berlin"
    second = at("2026-10-25T02:00", zone, fold=1)
    assert next_closing(window, [zone], at("2026-10-25T02:45", zone)) == second
    assert next_opening(window, [zone], second) == at("2026-10-25T02:30", zone, fold=1)


def test_the_next_closing():
    window = hours("09:00", "20:00", WORKDAYS)
    assert next_closing(window, ["Asia/Tashkent"], at("2026-11-26T10:00", "Asia/Tashkent")) == at("2026-11-26T15:00")
    assert next_closing(hours("00:00", "00:00"), ["Asia/Tashkent"], at("2026-11-26T10:00")) is None
    night = hours("20:00", "01:30")
    assert next_closing(night, ["Europe/Berlin"], at("2026-11-26T21:00", "Europe/Berlin")) == at("2026-11-27T00:30")


def test_several_zones_must_all_be_open():
    window, zones = hours("09:00", "20:00"), ["America/New_York", "America/Los_Angeles"]
    morning = at("2026-11-26T09:00", "America/New_York")
    assert next_opening(window, zones, morning) == at("2026-11-26T09:00", "America/Los_Angeles")
    noon = at("2026-11-26T12:00", "America/Los_Angeles")
    assert next_closing(window, zones, noon) == at("2026-11-26T20:00", "America/New_York")
    assert next_opening(hours("09:00", "10:00"), zones, noon) is None


def test_how_far_clocks_are_apart_depends_on_the_date():
    zones = ["America/Phoenix", "America/Denver"]
    assert spread(zones, at("2026-12-01T00:00")) == timedelta(0)
    assert spread(zones, at("2026-07-01T00:00")) == timedelta(hours=1)


ZONES = st.sampled_from(
    ["UTC", "Asia/Tashkent", "Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe",
     "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu", "Africa/Cairo", "America/Santiago"]
)  # fmt: skip
HOURS = st.builds(Hours, st.integers(0, DAY - 1), st.integers(0, DAY - 1), st.frozensets(st.integers(0, 6), min_size=1))
MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - its bounds have none
# About the changes of clocks, where most goes wrong.
CHANGES = st.builds(
    lambda year, day, minute: datetime(year, *day, tzinfo=UTC) + timedelta(minutes=minute),
    st.integers(2011, 2035),
    st.sampled_from([(3, 8), (3, 26), (3, 31), (4, 2), (10, 26), (10, 30), (11, 1), (11, 6), (12, 29)]),
    st.integers(0, 7 * DAY),
)


@settings(max_examples=150, deadline=None)
@given(HOURS, st.lists(ZONES, min_size=1, max_size=2, unique=True), st.one_of(MOMENTS, CHANGES))
def test_nothing_between_now_and_the_opening_is_allowed_and_the_opening_is(window, zones, now):
    _is_the_first(next_opening(window, zones, now), window, zones, now, wanted=True)


@settings(max_examples=150, deadline=None)
@given(HOURS, ZONES, st.one_of(MOMENTS, CHANGES))
def test_everything_between_now_and_the_closing_is_allowed_and_the_closing_is_not(window, zone, now):
    _is_the_first(next_closing(window, [zone], now), window, [zone], now, wanted=False)


def _is_the_first(found, window, zones, now, *, wanted):
    """Compared with a look at the clock every quarter of an hour, and a second before."""
    moment = now
    while moment < (found or now + timedelta(days=9)):
        assert is_open(window, zones, moment) is not wanted
        moment += timedelta(minutes=15)
    if found is not None:
        assert is_open(window, zones, found) is wanted
        assert found == now or is_open(window, zones, found - timedelta(microseconds=1)) is not wanted
