"""The files in which a process keeps its figures for all others of the installation, where the disk is full.

They are written to as memory. A page for which the disk has no room then ends the process, by SIGBUS: every API process
did, again and again, while the database was well.
"""

import mmap
import os
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client import mmap_dict, values

_SIZE = 1 << 16  # the library's own
_AROUND_KEY = 40  # bytes of a figure beside its name, at most

log = structlog.get_logger(__name__)


class _File(mmap_dict.MmapedDict):
    """Has room on the disk before it is written to; without, it goes on in memory, for nobody else to see."""

    _f: Any
    _m: mmap.mmap

    def __init__(self, filename: str, read_mode: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's
        if read_mode or _has_room(filename):
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
            return
        with _in_memory() as file:
            super().__init__(f"/proc/self/fd/{file.fileno()}")  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + _AROUND_KEY > self._capacity:
            try:
                os.posix_fallocate(self._f.fileno(), 0, self._capacity * 2)
            except OSError:
                file = _in_memory()
                file.write(self._m[:])
                file.flush()
                self._f.close()
                self._f = file
        super()._init_value(key)  # type: ignore[no-untyped-call]


def _has_room(filename: str) -> bool:
    try:
        with open(filename, "a+b") as file:  # noqa: PTH123 - as the library does
            os.posix_fallocate(file.fileno(), 0, _SIZE)
    except OSError:
        with suppress(OSError):
            os.unlink(filename)  # noqa: PTH108 - an empty one cannot be read
        return False
    return True


def _in_memory() -> Any:
    log.warning("no room on the disk for figures: those of this process are not shown with the others'")
    return os.fdopen(os.memfd_create("figures"), "w+b")


def use() -> None:
    """Have the library keep its figures so."""
    values.MmapedDict = _File  # type: ignore[attr-defined]
