"""CSV as the gateway writes it: every field quoted, and nothing that a spreadsheet would run."""

import csv
import io
from collections.abc import Iterable, Sequence

# What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def harmless(value: str | None) -> str:
    """A text of users: one that a spreadsheet would run as a formula gets an apostrophe in front."""
    return f"'{value}" if value and value.startswith(_FORMULA) else value or ""


def csv_lines(lines: Iterable[Sequence[str]]) -> str:
    """The lines as one text."""
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows(lines)
    return buffer.getvalue()
