"""The rows of a table that have a usable phone number, and an account of those that have none."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.core.numbers import explain_refusal, normalize_number
from app.files.table import Table, clean_number

MAX_LISTED = 10_000
_MAX_SHOWN_VALUE = 64


@dataclass(frozen=True, slots=True)
class LeftOutRow:
    """`sentence` says what the reason, `code`, is in this row."""

    line: int
    value: str
    code: str
    sentence: str


@dataclass
class LeftOut:
    """Rows that are left out: how many for each reason, and the first with their line, the value and a sentence."""

    reasons: Counter[str] = field(default_factory=Counter)
    rows: list[LeftOutRow] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many there are, the unlisted ones too."""
        return self.reasons.total()

    def add(self, reason: str, line: int, value: str, sentence: str) -> None:
        self.reasons[reason] += 1
        if len(self.rows) < MAX_LISTED:
            self.rows.append(LeftOutRow(line, value[:_MAX_SHOWN_VALUE], reason, sentence))


def with_numbers(table: Table, region: str | None, left_out: LeftOut) -> Iterator[tuple[int, str, list[str]]]:
    """Each row's line, number in E.164 and cells. National numbers are read by `region`."""
    column = table.number_column
    for line, cells in table.rows:
        written = cells[column] if column < len(cells) else ""
        number = normalize_number(clean_number(written), region)
        if number is None:
            reason = "invalid" if written else "empty"
            left_out.add(reason, line, written, explain_refusal(clean_number(written), region))
        else:
            yield line, number, cells
