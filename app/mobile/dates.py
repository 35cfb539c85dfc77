"""Dates as phones write and read them."""

import re
from datetime import UTC, datetime
from typing import Any

_MAX_LENGTH = 64
# Android before 7 writes zones west of UTC as `+-5:00`.
_OLD_ZONE = re.compile(r"([+-]{1,2})(\d{1,2}):(\d\d)$")


def milliseconds(moment: datetime) -> str:
    """`2026-11-22T07:00:00.000Z`: the app takes the digits behind the second for milliseconds, however many."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def read_date(value: Any) -> datetime | None:
    """A phone's date, None where it is none; without a zone it is UTC."""
    if not isinstance(value, str) or len(value) > _MAX_LENGTH:
        return None
    try:
        moment = _read(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _read(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return datetime.fromisoformat(_OLD_ZONE.sub(_clean_zone, value))


def _clean_zone(found: re.Match[str]) -> str:
    sign = "-" if "-" in found[1] else "+"
    return f"{sign}{found[2]:0>2}:{found[3]}"
