"""Rows of a CSV or XLSX file as a table: its columns by name, and which of them has the phone numbers."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from app.core.errors import Invalid
from app.core.numbers import normalize_number
from app.files import delimited, xlsx
from app.files.csv_output import FORMULA
from app.files.errors import unreadable
from app.files.limits import MAX_CELL_LENGTH, MAX_COLUMNS
from app.files.words import PHONE, joined, words_of

Row = tuple[int, list[str]]

_SAMPLE_ROWS = 200
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
# The apostrophe that keeps a spreadsheet from running a cell as a formula: `'=1+1`, `'+998…`.
_DISARMED = re.compile(rf"^'+(?=[{re.escape(FORMULA)}])")
# The formula that does the same: `="998…"`.
_AS_TEXT = re.compile(r'="([^"]*)"')
_PHONE_LIKE = re.compile(r"\+?[0-9]{7,17}([.,]0+)?|\+?[0-9]([.,][0-9]+)?[eE]\+?[0-9]{1,2}")
_NOT_DIGITS = re.compile(r"[\s\-()./\u00a0]+")
_MAX_NUMBER_LENGTH = 40
# A header that says "phone" outweighs half of the content; below the least it is not worth a guess.
_NAMED_BONUS = 0.6
_MIN_SCORE = 0.2


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` gives each row that is not blank with its line, as many cells in it as there are `columns`, or fewer.

    A column that has no name is `column 3`, a name that is there twice `name` and `name 2`.
    """

    columns: Sequence[str]
    number_column: int
    rows: Iterator[Row]

    def find(self, wanted: str, parameter: str) -> int:
        """The column that `wanted` names, by its header or its place from 1. Raises `Invalid`."""
        return _find(self.columns, wanted, parameter)

    def guess(self, words: frozenset[str]) -> int | None:
        """The column whose header is one of `words`, or else has one of them in it; not the numbers'."""
        others = [(place, name) for place, name in enumerate(self.columns) if place != self.number_column]
        whole = (place for place, name in others if joined(name) in words)
        partly = (place for place, name in others if words_of(name) & words)
        return next(itertools.chain(whole, partly), None)


def open_table(
    file: BinaryIO,
    *,
    max_rows: int,
    region: str | None,
    charset: str | None = None,
    number_column: str | None = None,
    parameter: str = "phone_number_column",
) -> Table:
    """The table in a file, CSV or XLSX by what is in it. Memory does not grow with the file. `rows` raises too.

    `number_column` names the column with the phone numbers, by header or by place from 1; without it it is found by its
    content. `parameter` is what the sender calls it. Raises `Invalid` for a file that cannot be read, or has no such
    column.
    """
    rows = _cleaned(_opened(file, charset))
    sample = list(itertools.islice(rows, _SAMPLE_ROWS))
    if not sample:
        raise unreadable("The file has no rows.")
    header = sample[0][1]
    width = max(len(cells) for _, cells in sample)
    names = [*header, *[""] * (width - len(header))]
    if number_column is None:
        column = _number_column(names, [cells for _, cells in sample], region, parameter)
    else:
        column = _find(_unique(names), number_column, parameter)
    has_header = not _looks_like_number(names[column])
    columns = _unique(names if has_header else [""] * width)
    return Table(columns, column, _at_most(max_rows, itertools.chain(sample[has_header:], rows)))


def _at_most(number: int, rows: Iterator[Row]) -> Iterator[Row]:
    yield from itertools.islice(rows, number)
    if next(rows, None) is not None:
        raise unreadable(f"The file must not have more than {number} rows.")


def _opened(file: BinaryIO, charset: str | None) -> Iterator[Row]:
    head = file.read(len(_ZIP))
    file.seek(0)
    if head == _ZIP:
        return xlsx.rows(file)
    if head == _OLE:
        raise unreadable("The file is an old .xls workbook or has a password. Save it as .xlsx without one, or as CSV.")
    return delimited.rows(file, charset)


def _cleaned(rows: Iterator[Row]) -> Iterator[Row]:
    for line, cells in rows:
        if len(cells) > MAX_COLUMNS:
            while cells and not cells[-1].strip():
                cells.pop()
            if len(cells) > MAX_COLUMNS:
                raise unreadable(f"Line {line} of the file has more than {MAX_COLUMNS} columns.")
        found = [cell.strip() for cell in cells]
        if not any(found):
            continue
        for place, cell in enumerate(found):
            if len(cell) > MAX_CELL_LENGTH:
                raise unreadable(f"Line {line} of the file has a cell of more than {MAX_CELL_LENGTH} characters.")
            if cell[:1] in {"'", "="}:
                found[place] = _as_text(cell)
        yield line, found


def _as_text(cell: str) -> str:
    formula = _AS_TEXT.fullmatch(cell)
    return formula[1].strip() if formula else _DISARMED.sub("", cell)


def _unique(names: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for place, written in enumerate(names, 1):
        name = base = " ".join(written.split()) or f"column {place}"
        again = 2
        while name in found:
            name = f"{base} {again}"
            again += 1
        found[name] = None
    return list(found)


def _find(columns: Sequence[str], wanted: str, parameter: str) -> int:
    plain = [name.casefold() for name in columns]
    name = " ".join(wanted.split()).casefold()
    if name in plain:
        return plain.index(name)
    if name.isdecimal() and len(name) <= len(str(MAX_COLUMNS)) and 0 < int(name) <= len(columns):
        return int(name) - 1
    sentence = f"The {parameter.replace('_', ' ')} is none of the file's columns: {', '.join(columns[:20])}."
    raise Invalid({parameter: [sentence]})


def _number_column(header: Sequence[str], sample: Sequence[Sequence[str]], region: str | None, parameter: str) -> int:
    """The column whose cells are phone numbers, of several alike the one whose header says so."""
    best, best_score = -1, 0.0
    for column, name in enumerate(header):
        cells = [row[column] for row in sample if column < len(row) and row[column]]
        score = sum(_likeness(cell, region) for cell in cells) / max(len(cells), 1)
        if words_of(name) & PHONE:
            score += _NAMED_BONUS
        if score > best_score:
            best, best_score = column, score
    if best_score < _MIN_SCORE:
        raise unreadable(f"No column of phone numbers was found in the file. Name it in {parameter}.")
    return best


def _likeness(cell: str, region: str | None) -> float:
    if len(cell) > _MAX_NUMBER_LENGTH:
        return 0.0
    if normalize_number(clean_number(cell), region):
        return 1.0
    return 0.5 if _looks_like_number(cell) else 0.0


def _looks_like_number(cell: str) -> bool:
    return _PHONE_LIKE.fullmatch(_NOT_DIGITS.sub("", clean_number(cell))) is not None


def clean_number(cell: str) -> str:
    """A number of a file as `numbers.normalize_number` takes it: without apostrophe, `+` in place of `00`."""
    bare = cell.lstrip("'\N{RIGHT SINGLE QUOTATION MARK}")
    return f"+{bare[2:]}" if bare.startswith("00") else bare
