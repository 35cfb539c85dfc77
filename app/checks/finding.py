"""What a check of `smsfleet doctor` has to say."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """In the order of urgency. The exit code is 1 for a warning and 2 for something broken."""

    OK = 0
    NOTE = 1  # nothing is wrong, but someone should know
    WARNING = 2  # something will break, or is slow
    BROKEN = 3

    @property
    def exit_code(self) -> int:
        return {Severity.WARNING: 1, Severity.BROKEN: 2}.get(self, 0)


@dataclass(frozen=True)
class Finding:
    """One thing looked at, and what to do about it."""

    what: str
    severity: Severity
    detail: str
    advice: str = ""

    @property
    def good(self) -> bool:
        return self.severity <= Severity.NOTE


Findings = Iterator[Finding]


def ok(what: str, detail: str) -> Finding:
    return Finding(what, Severity.OK, detail)


def note(what: str, detail: str) -> Finding:
    return Finding(what, Severity.NOTE, detail)


def warning(what: str, detail: str, advice: str) -> Finding:
    return Finding(what, Severity.WARNING, detail, advice)


def broken(what: str, detail: str, advice: str) -> Finding:
    return Finding(what, Severity.BROKEN, detail, advice)


def size(count: int) -> str:
    """A number of bytes as people say it."""
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def duration(seconds: float) -> str:
    """A length of time as people say it."""
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{int(seconds)} s"
