"""Workbooks made to exhaust a server: each is refused, in little time and memory."""

import contextlib
import io
import resource
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import Invalid
from app.files import xlsx
from app.files.limits import MAX_SHEET_ROWS

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
BOOK = f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets><sheet name="A" sheetId="1" r:id="x"/></sheets></workbook>'
RELATIONS = f'<Relationships xmlns="{PACKAGE}"><Relationship Id="x" Target="worksheets/sheet1.xml"/></Relationships>'
MB = 1024 * 1024


def packed(sheet, strings=None, *, method=zipfile.ZIP_DEFLATED, more=0) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("xl/workbook.xml", BOOK)
        archive.writestr("xl/_rels/workbook.xml.rels", RELATIONS)
        for name, content in (("xl/worksheets/sheet1.xml", sheet), ("xl/sharedStrings.xml", strings)):
            if content is not None:
                with archive.open(name, "w") as part:
                    for piece in content:
                        part.write(piece)
        for number in range(more):
            archive.writestr(f"{number}", "")
    file.seek(0)
    return file


def sheet(*rows: bytes):
    return [f'<worksheet xmlns="{MAIN}"><sheetData>'.encode(), *rows, b"</sheetData></worksheet>"]


def refusal(file) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Invalid) as raised:
        for _ in xlsx.rows(file):
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024
    return raised.value.errors["file"][0]


ONE = b'<row r="1"><c r="A1"><v>1</v></c></row>'
TOO_LARGE = "The workbook is too large once it is unpacked."
BROKEN = "The file is not a readable XLSX workbook."


def test_a_plain_one_is_read():
    assert list(xlsx.rows(packed(sheet(ONE)))) == [(1, ["1"])]


def test_a_distant_cell():
    """The fast library of that name builds the rectangle between the two: 157 GB, for a file of a kilobyte."""
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    assert refusal(packed(sheet(ONE, far))) == "The sheet has more than 256 columns."


def test_what_unpacks_to_a_lot(monkeypatch):
    monkeypatch.setattr(xlsx, "MAX_XLSX_BYTES", 8 * MB)
    assert refusal(packed(sheet(*[b" " * MB] * 9))) == TOO_LARGE


def test_shared_strings(monkeypatch):
    monkeypatch.setattr(xlsx, "MAX_SHARED_BYTES", 4 * MB)
    long = [f'<sst xmlns="{MAIN}">'.encode(), *[b"<si><t>" + b"x" * 30_000 + b"</t></si>"] * 200, b"</sst>"]
    assert refusal(packed(sheet(ONE), long)) == TOO_LARGE
    monkeypatch.setattr(xlsx, "MAX_SHARED_STRINGS", 100)
    assert refusal(packed(sheet(ONE), [f'<sst xmlns="{MAIN}">'.encode(), b"<si/>" * 200, b"</sst>"])) == TOO_LARGE


def test_a_tag_and_a_cell_without_an_end():
    assert refusal(packed(sheet(b'<row r="', *[b"1" * MB] * 50))) == TOO_LARGE
    cell = refusal(packed(sheet(b'<row><c t="inlineStr"><is><t>', *[b"x" * MB] * 50)))
    assert cell == "The workbook has a cell of more than 32767 characters."


def test_more_rows_than_there_can_be(monkeypatch):
    assert refusal(packed(sheet(b'<row r="9999999"/>'))) == f"The sheet has more than {MAX_SHEET_ROWS} rows."
    monkeypatch.setattr(xlsx, "MAX_SHEET_ROWS", 1000)
    assert refusal(packed(sheet(b"<row/>" * 1001))) == "The sheet has more than 1000 rows."


def test_entities():
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    assert refusal(packed([bomb, *sheet(b"<row><c><v>&b;</v></c></row>")])) == BROKEN


def test_a_directory_of_many_files():
    assert refusal(packed(sheet(ONE), more=10_000)) == TOO_LARGE


def test_other_ways_of_packing_and_broken_parts():
    assert refusal(packed(sheet(ONE), method=zipfile.ZIP_LZMA)) == BROKEN
    for row in (
        b'<row r="x"/>',
        b"<row><c r='1A'><v>1</v></c></row>",
        b"<row><c t='s'><v>5</v></c></row>",
        b"<row><c t='s'><v>-1</v></c></row>",
        b"<row><c s='x'><v>1</v></c></row>",
        b"<row><c>",
    ):
        assert refusal(packed(sheet(row))) == BROKEN, row
    assert refusal(packed(None)) == BROKEN
    whole = packed(sheet(ONE)).getvalue()
    assert refusal(io.BytesIO(whole[:-30])) == BROKEN
    assert refusal(io.BytesIO(whole[:100] + b"x" * 20 + whole[120:])) == BROKEN


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_workbook_is_read_or_refused(data):
    raw = bytearray(
        packed(sheet(ONE, b'<row><c t="s" s="1"><v>0</v></c></row>'), [b"<sst><si><t>x</t></si></sst>"]).getvalue()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Invalid):
        list(xlsx.rows(io.BytesIO(bytes(raw))))
