"""CSV as spreadsheets of all countries write it, row by row."""

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from app.files.encoding import as_utf8
from app.files.errors import unreadable
from app.files.limits import MAX_LINE_LENGTH

Row = tuple[int, list[str]]

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 100


def rows(file: BinaryIO, charset: str | None = None) -> Iterator[Row]:
    """Each record with the line on which it begins; blank ones are left out."""
    lines = _lines(file, charset)
    sample = list(itertools.islice(lines, _SAMPLE_LINES))
    skipped = 0
    # What Excel writes, and reads, where the country's own separator is another.
    if sample and sample[0].lower().startswith("sep=") and len(sample[0].strip("\r\n")) == len("sep=") + 1:
        delimiter, skipped = sample[0][4], 1
    else:
        delimiter = _delimiter(sample)
    return _records(itertools.chain(sample[skipped:], lines), delimiter, skipped)


def _lines(file: BinaryIO, charset: str | None) -> Iterator[str]:
    text = io.TextIOWrapper(as_utf8(file, charset), "utf-8", newline="")
    number = 0
    while line := text.readline(MAX_LINE_LENGTH):
        number += 1
        if len(line) == MAX_LINE_LENGTH:
            raise unreadable(f"Line {number} of the file is too long.")
        yield line


class _Counted:
    """Lines for a CSV reader, which takes as many as a record has."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines = lines
        self.number = number
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            yield line
        self.ended = True


def _records(lines: Iterator[str], delimiter: str, before: int) -> Iterator[Row]:
    counted = _Counted(lines, before)
    reader = csv.reader(counted, delimiter=delimiter, skipinitialspace=True)
    while True:
        began = counted.number + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            raise _never_closed(began) from None
        if cells is None:
            return
        if counted.ended:
            raise _never_closed(began)
        if any(cells):
            yield began, cells


def _never_closed(line: int) -> Exception:
    return unreadable(f"A quotation mark that opens in line {line} of the file is never closed.")


def _delimiter(sample: list[str]) -> str:
    """The character that cuts most of the first records into the same number of cells, more than one."""
    best, best_score = _DELIMITERS[0], (0.0, 0)
    for delimiter in _DELIMITERS:
        try:
            widths = [
                len(cells) for cells in csv.reader(sample, delimiter=delimiter, skipinitialspace=True) if any(cells)
            ]
        except csv.Error:
            continue
        width, times = Counter(widths).most_common(1)[0] if widths else (1, 0)
        cuts = sum(line.count(delimiter) for line in sample)
        score = (times / len(widths), width) if width > 1 else (0.0, cuts)
        if score > best_score:
            best, best_score = delimiter, score
    return best
