"""Every check that any process of an installation can make."""

import threading
import time

from app.checks import broker, database, machine
from app.checks.finding import Finding, Findings
from app.core.settings import Settings

RECENT_SECONDS = 5.0


def examine(settings: Settings) -> Findings:
    """Look at the database, the broker, the workers and the machine."""
    for look in (database.look, broker.look, machine.look):
        yield from look(settings)


class _Kept:
    """What was found last, for all that ask in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[Finding] = []
        self._at: float | None = None

    def recent(self, settings: Settings) -> list[Finding]:
        with self._lock:  # those who ask meanwhile wait for the one that looks
            if self._at is None or time.monotonic() - self._at > RECENT_SECONDS:
                self._found = list(examine(settings))
                self._at = time.monotonic()
            return self._found


_kept = _Kept()


def recent(settings: Settings) -> list[Finding]:
    """What `examine` finds, looked up at most every few seconds: for pages that are live, and for Prometheus."""
    return _kept.recent(settings)
