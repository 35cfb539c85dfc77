"""Text files in whatever encoding they were saved, as UTF-8.

A byte order mark or NULs tell UTF-16. Anything else is UTF-8 for as long as it is valid. Where it ceases to be, and
all that came before was ASCII, it is a file of an older Windows program: Windows-1251 where whole words lie outside of
ASCII, as Russian ones do, and Windows-1252 where only single letters do, as in "Müller" and "Größe".
"""

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from app.files.errors import unreadable

_CHUNK = 256 * 1024
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# Encodings of text alone: Python's list has others, which unpack or run on.
_CHARSETS = re.compile(
    r"utf-16(-[lb]e)?|cp125[0-8]|cp86[26]|iso8859-\d+|koi8-[rtu]|mac-cyrillic|gb18030|big5|shift_jis|euc_kr"
)
_WORD = re.compile(rb"[A-Za-z\xa8\xaa\xaf\xb2\xb3\xb4\xb8\xba\xbf\xc0-\xff]+")
_ASCII_LETTER = re.compile(rb"[A-Za-z]")


def as_utf8(file: BinaryIO, charset: str | None = None) -> io.BufferedReader:
    """The text of `file` in UTF-8, without byte order mark and NULs. `charset` is what its sender says it is."""
    return io.BufferedReader(_Pieces(_pieces(file, charset)), _CHUNK)


class _Pieces(io.RawIOBase):
    """Pieces of bytes, as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]  # what the reader around it passes
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _pieces(file: BinaryIO, charset: str | None) -> Iterator[bytes]:
    head = file.read(_CHUNK)
    mark, encoding = next((each for each in _MARKS if head.startswith(each[0])), (b"", None))
    encoding = encoding or _utf16_of(head) or _declared(charset)
    chunks = _chunks(head[len(mark) :], file)
    if encoding is None or encoding == "utf-8":
        yield from _valid(chunks, legacy=not mark)
    else:
        yield from _recoded(chunks, encoding)


def _chunks(head: bytes, file: BinaryIO) -> Iterator[bytes]:
    while head:
        yield head
        head = file.read(_CHUNK)


def _utf16_of(head: bytes) -> str | None:
    """UTF-16 without its mark: of digits and separators one byte is NUL, always on the same side."""
    first, second = head[0::2].count(0), head[1::2].count(0)
    if max(first, second) * 10 < len(head) // 2 or not head:
        return None
    return "utf-16-le" if second > first else "utf-16-be"


def _declared(charset: str | None) -> str | None:
    try:
        name = codecs.lookup(charset or "").name
    except (LookupError, ValueError):
        return None
    return name if _CHARSETS.fullmatch(name) else None


def _recoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).replace("\0", "").encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).replace("\0", "").encode("utf-8", "replace")


def _valid(chunks: Iterator[bytes], *, legacy: bool) -> Iterator[bytes]:
    """UTF-8 as it is. With `legacy` it may turn out, at the first byte beyond ASCII, that it is none."""
    rest, line = b"", 1
    for chunk in chunks:
        data, rest = rest + chunk, b""
        try:
            data.decode()
        except UnicodeDecodeError as error:
            sound = data[: error.start]
            line += sound.count(b"\n")
            if error.reason == "unexpected end of data":
                data, rest = sound, data[error.start :]
            elif legacy and sound.isascii():
                yield sound.replace(b"\0", b"")
                data = data[error.start :]
                yield from _recoded(_before(data, chunks), _windows(data))
                return
            else:
                raise _broken(line) from None
        else:
            line += data.count(b"\n")
        legacy = legacy and data.isascii()
        yield data.replace(b"\0", b"")
    if rest and not legacy:
        raise _broken(line)
    if rest:
        yield from _recoded(iter([rest]), _windows(rest))


def _broken(line: int) -> Exception:
    return unreadable(f"Line {line} of the file is not valid UTF-8. Save the file as CSV UTF-8.")


def _before(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _windows(data: bytes) -> str:
    """Windows-1251 or Windows-1252, by the words that have letters beyond ASCII."""
    whole = mixed = 0
    for word in _WORD.findall(data):
        if word.isascii() or len(word) == 1:
            continue
        if _ASCII_LETTER.search(word):
            mixed += 1
        else:
            whole += 1
    return "cp1251" if whole > mixed else "cp1252"
