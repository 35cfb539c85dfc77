"""Files as people really have them: each oddity in a small file of its own under tests/data/files."""

import contextlib
import csv
import io
import itertools
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import Invalid
from app.files.recipients import MAX_LISTED, LeftOut, with_numbers
from app.files.table import open_table
from app.files.words import EMAIL, NAME, NOTES

DATA = Path(__file__).parents[2] / "data" / "files"
TWO = ["+998901112233", "+998901112234"]


def read(source, **more):
    file = io.BytesIO(source) if isinstance(source, bytes) else (DATA / source).open("rb")
    with file:
        left_out = LeftOut()
        table = open_table(file, max_rows=more.pop("max_rows", 1000), region="UZ", **more)
        return table, list(with_numbers(table, "UZ", left_out)), left_out


def refusal(source, **more) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as raised:
        read(source, **more)
    return raised.value.errors


@pytest.mark.parametrize(
    ("name", "columns", "column", "first"),
    [
        ("windows-1251.csv", ["Имя", "Телефон"], 1, "Иван"),
        ("utf-8-bom.csv", ["Имя", "Телефон"], 1, "Иван"),
        ("utf-16.csv", ["Имя", "Телефон"], 1, "Иван"),
        ("utf-16-be-without-mark.csv", ["Имя", "Телефон"], 1, "Иван"),
        ("windows-1252.csv", ["Größe", "Handy"], 1, "Müller"),
        ("pipes.csv", ["name", "mobile"], 1, "Ali"),
        ("tabs.tsv", ["name", "mobile"], 1, "Ali"),
        ("sep-line.csv", ["name", "mobile"], 1, "Ali, the 1st; son"),
        ("quoted-line-ends.csv", ["name", "notes", "phone"], 2, "Ali"),
        ("old-mac-line-ends.csv", ["name", "phone"], 1, "Ali"),
        ("no-header.csv", ["column 1", "column 2"], 1, "Ali"),
        ("numbers-alone.txt", ["column 1"], 0, "+998901112233"),
        ("same-header-twice.csv", ["name", "phone", "name 2", "column 4"], 1, "Ali"),
        ("identifiers-beside.csv", ["id", "phone"], 1, "998901112200"),
        ("blank-lines.csv", ["name", "phone"], 1, "Ali"),
        ("prefixed-without-references.xlsx", ["phone"], 0, "998901112233"),
    ],
)
def test_each_oddity_is_read(name, columns, column, first):
    table, rows, left_out = read(name)
    assert (table.columns, table.number_column) == (columns, column)
    assert [number for _, number, _ in rows] == TWO
    assert rows[0][2][0] == first
    if name != "blank-lines.csv":
        assert left_out.total == 0


def test_a_line_is_the_one_on_which_its_row_begins():
    assert [line for line, _, _ in read("quoted-line-ends.csv")[1]] == [2, 4]
    assert [line for line, _, _ in read("blank-lines.csv")[1]] == [5, 9]
    assert [line for line, _, _ in read("sep-line.csv")[1]] == [3, 4]
    assert [line for line, _, _ in read("no-header.csv")[1]] == [1, 2]


def test_what_spreadsheets_do_to_numbers():
    _, rows, left_out = read("spreadsheet-numbers.csv")
    assert [(line, number) for line, number, _ in rows] == [
        (2, "+998901112233"),
        (3, "+998901112234"),
        (6, "+998901112235"),
        (7, "+447700900123"),
    ]
    assert left_out.reasons == {"invalid": 2, "empty": 1}
    assert [(row.line, row.value) for row in left_out.rows] == [(4, "9.98901E+11"), (5, ""), (8, "call me")]
    assert "last digits are lost" in left_out.rows[0].sentence


def test_a_workbook():
    """Shared and inline texts, formulas, dates, booleans, errors, hidden sheets, and a far cell with a style only."""
    table, rows, left_out = read("oddities.xlsx")
    assert table.columns == ["Имя", "Телефон", "born", "last", "sum"]
    assert rows == [
        (2, "+998901112233", ["Иван", "998901112233", "1990-01-01", "2026-03-01 14:30", "0.3"]),
        (5, "+998901112234", ["Оля", "901112234", "TRUE", "", "12.5"]),
    ]
    assert [(row.line, row.value) for row in left_out.rows] == [(6, "9.98901E+11")]


def test_columns_are_found_by_what_they_are_called():
    for header, expected in (
        ("Phone Number;Full Name;E-mail;Notes", (1, 2, 3)),
        ("Номер телефона;ФИО;Эл. почта;Примечание", (1, 2, 3)),
        ("Telefon raqami;Ism;Email;Izoh", (1, 2, 3)),
        ("Teléfono;Nombre;Correo electrónico;Notas", (1, 2, 3)),
        ("Cep Telefonu;İsim;E-posta;Notlar", (1, 2, 3)),
        ("Handynummer;Vorname Name;E-Mail;Bemerkung", (1, 2, 3)),
        ("رقم الجوال;الاسم;البريد;ملاحظات", (1, 2, 3)),
        ("x;y;z;w", (None, None, None)),
    ):
        table, rows, _ = read(f"{header}\n901112233;Ali;a@example.com;x\n".encode())
        assert table.number_column == 0
        assert (table.guess(NAME), table.guess(EMAIL), table.guess(NOTES)) == expected, header
        assert len(rows) == 1


def test_an_apostrophe_goes_only_where_a_spreadsheet_puts_it():
    _, rows, _ = read(b"phone,name,notes\n'901112233,'=1+1,'90s kid '-x\n")
    assert rows == [(2, TWO[0], ["'901112233", "=1+1", "'90s kid '-x"])]


def test_a_column_can_be_named():
    file = b"a;b;\n901112233;901112234;x\n"
    for wanted in ("b", " B ", "2"):
        assert [number for _, number, _ in read(file, number_column=wanted)[1]] == ["+998901112234"]
    for wanted in ("c", "0", "4", "99999999999999999999"):
        sentence = "The phone number column is none of the file's columns: a, b, column 3."
        assert refusal(file, number_column=wanted) == {"phone_number_column": [sentence]}


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (b"", "The file has no rows."),
        (b"\n;;\n \n", "The file has no rows."),
        (b"name,city\nAli,Tashkent\n", "No column of phone numbers was found in the file."),
        (b'name,phone\n"Ali,901112233\nVali,901112234\n', "A quotation mark that opens in line 2 of the file"),
        (b'name,phone\n"' + b"x" * 200_000 + b'",901112234\n', "A quotation mark that opens in line 2 of the file"),
        ("é,phone\nx,901112233\n".encode() + b"\xe9,901112234\n", "Line 3 of the file is not valid UTF-8."),
        (b"phone\n901112233\n" + b"x" * 1_100_000, "Line 3 of the file is too long."),
        (b"phone\n901112233\n" + b"x," * 300, "Line 3 of the file has more than 256 columns."),
        (b"phone\n901112233\n" + b"x" * 40_000, "Line 3 of the file has a cell of more than 32767 characters."),
        (b"phone\n" + b"901112233\n" * 1001, "The file must not have more than 1000 rows."),
        (b"\xd0\xcf\x11\xe0" + b"x" * 100, "The file is an old .xls workbook or has a password."),
        (b"PK\x03\x04" + b"x" * 100, "The file is not a readable XLSX workbook."),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_read_is_told(source, sentence):
    (told,) = refusal(source)["file"]
    assert told.startswith(sentence)


def test_rows_left_out_are_counted_and_the_first_kept():
    _, rows, left_out = read(b"phone\n901112233\n" + b"nobody,x\n" * 10_500, max_rows=20_000)
    assert len(rows) == 1
    assert (left_out.total, len(left_out.rows)) == (10_500, MAX_LISTED)


class Endless(io.RawIOBase):
    """A file of many lines that is never in memory as a whole."""

    def __init__(self, lines) -> None:
        self._lines = lines
        self._begun = False

    def read(self, size=-1):
        if not self._begun:
            self._begun = size > 4
            return b"phone;name\n"[:size]
        return b"".join(itertools.islice(self._lines, 5000))

    def seek(self, *_):
        return 0


def test_memory_does_not_grow_with_the_file():
    """Of 50,000 lines, and of 300,000 empty ones at the end."""

    def lines():
        yield from (b"+99890%07d;Name %d\n" % (number, number) for number in range(50_000))
        yield from itertools.repeat(b";\n", 300_000)

    table = open_table(Endless(lines()), max_rows=50_000, region=None)
    next(table.rows)
    tracemalloc.start()
    count = sum(1 for _ in with_numbers(table, None, LeftOut()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 49_999
    assert peak < 4_000_000


@pytest.mark.parametrize("charset", ["windows-1254", "koi8-r", "nonsense", "unicode_escape", "utf-8"])
def test_a_declared_encoding_is_taken_where_it_is_one_of_text(charset):
    text = "Ad;Tel\nGökşen;901112233\n" if charset == "windows-1254" else "Имя;Тел\nЮлия;901112233\n"
    raw = text.encode(charset if charset in {"windows-1254", "koi8-r"} else "cp1251")
    _, rows, _ = read(raw, charset=charset)
    assert rows[0][2][0] == text.split("\n")[1].partition(";")[0]


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20), st.sampled_from(",;\t|"), ENCODINGS)
def test_whatever_is_in_the_cells_comes_back(pairs, delimiter, encoding):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(["name", "phone", "notes"])
    for number, (name, notes) in enumerate(pairs):
        writer.writerow([f"n{name}", f"+99890{number:07}", f"n{notes}"])
    _, rows, left_out = read(text.getvalue().encode(encoding))
    assert left_out.total == 0
    assert [(cells[0], cells[2]) for _, _, cells in rows] == [
        (f"n{name}".strip(), f"n{notes}".strip()) for name, notes in pairs
    ]


@given(
    st.binary(max_size=300) | st.binary(max_size=300).map(b"PK\x03\x04".__add__) | st.text(max_size=100).map(str.encode)
)
def test_no_bytes_are_more_than_a_refusal(raw):
    with contextlib.suppress(Invalid):
        read(raw)
