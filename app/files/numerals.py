"""A workbook's numbers and dates, which both are numbers in it, as their owner sees them."""

import re
from datetime import datetime, timedelta

# Those of the formats that every spreadsheet program knows by number.
_DATES = frozenset(map(str, (*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59))))
_LITERALS = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?!h+\]|m+\]|s+\])[^\]]*\]')
_LAST_DAY = 2_958_466  # the end of the year 9999
_EXACT = 1e15


def is_date_format(number: str, code: str | None) -> bool:
    """Whether a cell with this number format shows a date or a time."""
    if code is None:
        return number in _DATES
    return any(letter in "ymdhs" for letter in _LITERALS.sub("", code).lower().replace("general", ""))


def shown_number(text: str) -> str:
    """Without the exponent and the fraction of nothing that programs write: `998901112233.0` is a whole number."""
    if text.isdigit():
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    if value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return format(value, ".15g")


def shown_date(text: str, *, from_1904: bool) -> str:
    """A date, a time, or both, as in ISO 8601."""
    try:
        days = float(text)
    except ValueError:
        return text
    if not 0 <= days < _LAST_DAY:
        return shown_number(text)
    # The first programs took 1900 for a leap year, so that day 60 is one that never was.
    begin = datetime(1904, 1, 1) if from_1904 else datetime(1899, 12, 30)  # noqa: DTZ001 - a sheet has no time zone
    moment = begin + timedelta(seconds=round(days * 86_400))
    if days < 1:
        return moment.strftime("%H:%M:%S").removesuffix(":00")
    if float(days).is_integer():
        return moment.date().isoformat()
    return moment.strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")
