from datetime import UTC, datetime

import pytest

from app.core.allowed_hours import AllowedHours, Keeper
from app.core.errors import Invalid
from app.core.validation import read
from app.core.zones import Source

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def keeper(zone="recipient", account_zone="Europe/Berlin", of_countries=None, **hours):
    stored = read(AllowedHours, {"from": "09:00", "to": "20:00", "zone": zone, **hours}).stored()
    return Keeper.of(stored, account_zone, of_countries)


def test_what_is_stored_is_what_was_set_with_its_days_in_order():
    stored = read(AllowedHours, {"from": "22:00", "to": "24:00", "days": ["sun", "mon", "sun"]}).stored()
    assert stored == {"from": "22:00", "to": "00:00", "days": ["mon", "sun"], "zone": "recipient"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"from": "9:00"}, "from"),
        ({"to": "25:00"}, "to"),
        ({"to": "12:60"}, "to"),
        ({"days": []}, "days"),
        ({"days": ["monday"]}, "days.0"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "../etc/passwd"}, "zone"),
        ({"zones": "UTC"}, "zones"),
    ],
)
def test_bad_hours_are_refused_by_field(change, field):
    with pytest.raises(Invalid) as refused:
        read(AllowedHours, {"from": "09:00", "to": "20:00", **change})
    assert list(refused.value.errors) == [field]


def test_whose_clock_counts():
    number = "+998901234567"
    assert keeper().zoning(number, None, NOON).names == ("Asia/Tashkent",)
    assert keeper().zoning(number, "Asia/Tokyo", NOON).names == ("Asia/Tokyo",)
    assert keeper(zone="account").zoning(number, "Asia/Tokyo", NOON).names == ("Europe/Berlin",)
    assert keeper(zone="America/Lima").zoning(number, None, NOON).names == ("America/Lima",)
    assert keeper(account_zone=None).zoning("+881612345678", None, NOON).names == ("UTC",)
    assert keeper(of_countries={"US": "America/Boise"}).zoning("+18005550123", None, NOON).source is Source.COUNTRY


def test_the_window_of_a_number():
    open_now = keeper().window("+998901234567", None, NOON)  # 17:00 there
    assert open_now == (NOON, datetime(2026, 11, 26, 15, tzinfo=UTC))
    tomorrow = keeper().window("+81312345678", None, NOON)  # 21:00 there
    assert tomorrow == (datetime(2026, 11, 27, 0, tzinfo=UTC), datetime(2026, 11, 27, 11, tzinfo=UTC))
    assert keeper(**{"from": "00:00", "to": "24:00"}).window("+81312345678", None, NOON) == (NOON, None)
