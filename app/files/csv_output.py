"""CSV as the gateway writes it: every field quoted, and nothing that a spreadsheet would run."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

# What spreadsheets take for the beginning of a formula; some take the wide forms of the signs too.
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
_BEGINNINGS = (*FORMULA, "\t", "\r", "\n")
_NUMBER = re.compile(r"\+?[0-9]+")


def harmless(value: str | None) -> str:
    """A text of users: one that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if value and value.startswith(_BEGINNINGS) else value or ""


def number_or_text(value: str | None) -> str:
    """As `harmless` for what is mostly a phone number, which keeps its `+`."""
    return value if value and _NUMBER.fullmatch(value) else harmless(value)


def csv_lines(lines: Iterable[Sequence[str]]) -> str:
    """The lines as one text."""
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(lines)
    return buffer.getvalue()
