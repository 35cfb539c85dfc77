"""What a spreadsheet would run does not get into a CSV, and comes back from one as it was."""

import io

import pytest

from app.files.csv_output import csv_lines, harmless, number_or_text
from app.files.table import open_table

FORMULAS = ["=1+1", "+cmd|'/c calc'!A0", "-2+3", "@SUM(A1)", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(1)"]


@pytest.mark.parametrize("text", [*FORMULAS, "\t=1", "\r=1", "\n=1"])
def test_a_formula_is_a_text(text) -> None:
    assert harmless(text) == number_or_text(text) == f"'{text}"


@pytest.mark.parametrize("text", ["+998901234567", "998901234567", "Laylo", "1=1"])
def test_numbers_and_other_texts_stay_as_they_are(text) -> None:
    assert number_or_text(text) == text


@pytest.mark.parametrize("text", ["=5", "-5", "@5", "+", "+1+1", "=\u0665"])
def test_what_only_looks_like_a_number_is_a_text(text) -> None:
    assert number_or_text(text) == f"'{text}"


def test_an_import_reads_them_as_they_were() -> None:
    lines = [("phone", "name"), *((f"+99890123456{place}", harmless(text)) for place, text in enumerate(FORMULAS))]
    table = open_table(io.BytesIO(csv_lines(lines).encode()), max_rows=100, region=None)
    assert [cells[1] for _, cells in table.rows] == FORMULAS
