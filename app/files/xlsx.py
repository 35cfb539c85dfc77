"""The first sheet of an XLSX workbook, row by row.

Read with expat, streamed and within limits, whatever the file says of itself: see docs/decisions/021.
"""

import re
import struct
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO
from xml.parsers import expat

from app.files.errors import unreadable
from app.files.limits import (
    MAX_CELL_LENGTH,
    MAX_COLUMNS,
    MAX_SHARED_BYTES,
    MAX_SHARED_STRINGS,
    MAX_SHEET_ROWS,
    MAX_STYLES,
    MAX_XLSX_BYTES,
    MAX_ZIP_DIRECTORY,
)
from app.files.numerals import is_date_format, shown_date, shown_number

Row = tuple[int, list[str]]
Attributes = dict[str, str]
Start = Callable[[str, Attributes], None]

_CHUNK = 64 * 1024
# What expat may hold without having made sense of it: one tag with its attributes.
_MAX_TAG = 1024 * 1024
_BROKEN = "The file is not a readable XLSX workbook."
_TOO_LARGE = "The workbook is too large once it is unpacked."


_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    expat.ExpatError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
)


def rows(file: BinaryIO) -> Iterator[Row]:
    """Each row that has anything in it, with its number in the sheet; dates as ISO 8601, formulas as their results."""
    try:
        with zipfile.ZipFile(_Guarded(file)) as archive:
            package = _Package(archive)
            sheet, dates_from_1904 = _first_sheet(package)
            strings = _shared_strings(package)
            yield from _Sheet(strings, _date_styles(package), dates_from_1904=dates_from_1904).read(package, sheet)
    except _UNREADABLE:
        # Encrypted, compressed in another way, cut off, or not what it says it is.
        raise unreadable(_BROKEN) from None


class _Guarded:
    """The file, of which nothing large is read at once: the directory of an archive is read as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = MAX_ZIP_DIRECTORY) -> bytes:
        if size > MAX_ZIP_DIRECTORY:
            raise unreadable(_TOO_LARGE)
        return self._file.read(size if size >= 0 else MAX_ZIP_DIRECTORY)


class _Package:
    """The parts of a workbook; what is unpacked of all of them is counted."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._left = MAX_XLSX_BYTES

    def has(self, part: str) -> bool:
        return part in self._archive.NameToInfo

    def feed(self, part: str, parser: expat.XMLParserType) -> Iterator[None]:
        """Parse a part, chunk by chunk. Raises `Invalid`, and what zipfile and expat raise."""
        if not self.has(part):
            raise unreadable(_BROKEN)
        info = self._archive.getinfo(part)
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise unreadable(_BROKEN)
        fed = 0
        parser.StartDoctypeDeclHandler = _refuse_doctype
        with self._archive.open(info) as stream:
            while chunk := stream.read(_CHUNK):
                fed += len(chunk)
                self._left -= len(chunk)
                if self._left < 0 or fed - parser.CurrentByteIndex > _MAX_TAG:
                    raise unreadable(_TOO_LARGE)
                parser.Parse(chunk, False)  # noqa: FBT003 - expat's own signature
                yield
        parser.Parse(b"", True)  # noqa: FBT003 - as above
        yield

    def each(self, part: str, start: Start) -> None:
        """Call `start` with the local name and the attributes of every element of a part."""

        def local(name: str, attributes: Attributes) -> None:
            start(name.rpartition(" ")[2], {key.rpartition(" ")[2]: value for key, value in attributes.items()})

        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = local
        for _ in self.feed(part, parser):
            pass


def _refuse_doctype(*_: Any) -> None:
    raise unreadable(_BROKEN)


def _first_sheet(package: _Package) -> tuple[str, bool]:
    """The part with the first sheet that is shown, and whether days are counted from 1904."""
    sheets: list[Attributes] = []
    targets: dict[str, str] = {}
    flags: list[str] = []

    def in_workbook(name: str, attributes: Attributes) -> None:
        if name == "sheet" and attributes.get("state", "visible") == "visible" and not sheets:
            sheets.append(attributes)
        elif name == "workbookPr":
            flags.append(attributes.get("date1904", "0"))

    def in_relations(name: str, attributes: Attributes) -> None:
        if name == "Relationship" and sheets and attributes.get("Id") == sheets[0].get("id"):
            targets["sheet"] = attributes.get("Target", "")

    package.each("xl/workbook.xml", in_workbook)
    package.each("xl/_rels/workbook.xml.rels", in_relations)
    if "sheet" not in targets:
        raise unreadable("The workbook has no sheet with rows.")
    target = targets["sheet"]
    return (target.lstrip("/") if target.startswith("/") else f"xl/{target}"), flags[:1] in (["1"], ["true"])


def _date_styles(package: _Package) -> frozenset[int]:
    """Which cell styles show a date or a time."""
    if not package.has("xl/styles.xml"):
        return frozenset()
    codes: dict[str, str] = {}
    formats: list[str] = []
    inside: list[str] = [""]

    def start(name: str, attributes: Attributes) -> None:
        if name == "numFmt":
            codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif name in {"cellXfs", "cellStyles", "dxfs"}:
            inside[0] = name
        elif name == "xf" and inside[0] == "cellXfs":
            formats.append(attributes.get("numFmtId", "0"))
        if len(formats) > MAX_STYLES or len(codes) > MAX_STYLES:
            raise unreadable(_TOO_LARGE)

    package.each("xl/styles.xml", start)
    return frozenset(place for place, number in enumerate(formats) if is_date_format(number, codes.get(number)))


class _Strings:
    """The texts that cells refer to, one behind the other: as objects they would take three times the room."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("Q", [0])

    def append(self, text: str) -> None:
        self._bytes += text.encode("utf-8", "replace")
        self._ends.append(len(self._bytes))
        if len(self._bytes) > MAX_SHARED_BYTES or len(self._ends) > MAX_SHARED_STRINGS:
            raise unreadable(_TOO_LARGE)

    def __getitem__(self, place: str) -> str:
        number = int(place)
        if not 0 <= number < len(self._ends) - 1:
            raise unreadable(_BROKEN)
        return self._bytes[self._ends[number] : self._ends[number + 1]].decode()


class _Text:
    """Collects the text of elements, up to what a cell can hold."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self._parser = parser
        self._parts: list[str] = []
        self._length = 0

    def begin(self) -> None:
        self._parser.CharacterDataHandler = self._add

    def pause(self) -> None:
        self._parser.CharacterDataHandler = None

    def take(self) -> str:
        self.pause()
        text = "".join(self._parts)
        self._parts.clear()
        self._length = 0
        return text

    def _add(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_CELL_LENGTH:
            raise unreadable(f"The workbook has a cell of more than {MAX_CELL_LENGTH} characters.")
        self._parts.append(text)


def _parser() -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    return parser


def _shared_strings(package: _Package) -> _Strings:
    strings = _Strings()
    part = "xl/sharedStrings.xml"
    if not package.has(part):
        return strings
    parser = _parser()
    text = _Text(parser)
    # How a text is to be spoken (rPh) is not what it says.
    spoken = [0]

    def start(name: str, _: Attributes) -> None:
        kind = name.rpartition(":")[2]
        if kind == "rPh":
            spoken[0] += 1
        elif kind == "t" and not spoken[0]:
            text.begin()

    def end(name: str) -> None:
        kind = name.rpartition(":")[2]
        if kind == "t":
            text.pause()
        elif kind == "rPh":
            spoken[0] -= 1
        elif kind == "si":
            strings.append(text.take())

    parser.StartElementHandler, parser.EndElementHandler = start, end
    for _ in package.feed(part, parser):
        pass
    return strings


_REFERENCE = re.compile(r"([A-Z]{1,3})[0-9]{1,7}")
_LETTERS = 26


def _column(reference: str) -> int:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise unreadable(_BROKEN)
    column = 0
    for letter in found[1]:
        column = column * _LETTERS + ord(letter) - 64
    return column - 1


class _Sheet:
    """Reads a sheet's rows out of its XML."""

    def __init__(self, strings: _Strings, date_styles: frozenset[int], *, dates_from_1904: bool) -> None:
        self._strings = strings
        self._date_styles = date_styles
        self._from_1904 = dates_from_1904
        self._columns: dict[str, int] = {}
        self._found: list[Row] = []
        self._number = 0
        self._rows = 0
        self._cells: list[str] = []
        self._cell: Mapping[str, str] = {}
        self._column = -1

    def read(self, package: _Package, part: str) -> Iterator[Row]:
        parser = _parser()
        self._text = _Text(parser)

        def root(name: str, _: Attributes) -> None:
            # Some programs write a prefix in front of every name; to look for it each time would cost the others.
            if ":" in name:
                parser.StartElementHandler = lambda name, attributes: self._start(name.rpartition(":")[2], attributes)
                parser.EndElementHandler = lambda name: self._end(name.rpartition(":")[2])
            else:
                parser.StartElementHandler, parser.EndElementHandler = self._start, self._end

        parser.StartElementHandler = root
        for _ in package.feed(part, parser):
            yield from self._found
            self._found.clear()

    def _start(self, name: str, attributes: Attributes) -> None:
        if name == "c":
            self._cell = attributes
            self._column += 1
            if reference := attributes.get("r"):
                letters = reference.rstrip("0123456789")
                column = self._columns.get(letters)
                if column is None:
                    column = self._columns[letters] = _column(reference)
                self._column = column
        elif name in {"v", "t"}:
            self._text.begin()
        elif name == "row":
            number = attributes.get("r", "")
            self._number = int(number) if number else self._number + 1
            self._column = -1
            self._rows += 1
            if max(self._rows, self._number) > MAX_SHEET_ROWS:
                raise unreadable(f"The sheet has more than {MAX_SHEET_ROWS} rows.")

    def _end(self, name: str) -> None:
        if name in {"v", "t"}:
            self._text.pause()
        elif name == "c":
            if text := self._text.take():
                self._put(self._value(text))
        elif name == "row" and self._cells:
            self._found.append((self._number, self._cells))
            self._cells = []

    def _put(self, value: str) -> None:
        cells, column = self._cells, self._column
        if column >= MAX_COLUMNS:
            raise unreadable(f"The sheet has more than {MAX_COLUMNS} columns.")
        if column < len(cells):
            cells[column] = value
            return
        while len(cells) < column:
            cells.append("")
        cells.append(value)

    def _value(self, text: str) -> str:
        kind = self._cell.get("t", "n")
        if kind == "s":
            return self._strings[text]
        if kind == "e":
            return ""
        if kind == "b":
            return "TRUE" if text == "1" else "FALSE"
        if kind != "n":
            return text
        style = self._cell.get("s", "")
        if style and int(style) in self._date_styles:
            return shown_date(text, from_1904=self._from_1904)
        return shown_number(text)
