"""When tokens were last used, written by a thread beside the calls that use them."""

import threading
import time

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.core.database import transaction
from app.core.once import once
from app.core.settings import get_settings

_USED_EVERY_SECONDS = 30.0

log = structlog.get_logger(__name__)

# A session goes on for as long as it may go unused, up to its longest life; an API key keeps the end it was given.
_TOUCH = text("""
    UPDATE tokens SET last_used_at = clock_timestamp(),
        expires_at = CASE kind WHEN 'session' THEN LEAST(
            created_at + CAST(:life AS interval), clock_timestamp() + CAST(:idle AS interval)) ELSE expires_at END
    WHERE (expires_at IS NULL OR expires_at > clock_timestamp()) AND id IN (
        SELECT id FROM tokens
        WHERE id = ANY(:ids) AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
""")


class _Usage:
    """Collects which tokens were used; a thread writes `last_used_at` now and then, beside the calls themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: set[int] = set()
        threading.Thread(target=self._run, name="token-usage", daemon=True).start()

    def note(self, token: int) -> None:
        with self._lock:
            self._used.add(token)

    def write(self) -> None:
        with self._lock:
            used, self._used = self._used, set()
        if not used:
            return
        try:
            with transaction() as session:
                settings = get_settings()
                lasts = {"idle": settings.session_idle, "life": settings.session_lifetime}
                session.execute(_TOUCH, {"ids": sorted(used), **lasts})
        except SQLAlchemyError as error:  # the next use of the token is as good
            log.warning("writing last use of tokens failed", error=error)

    def _run(self) -> None:
        while True:
            time.sleep(_USED_EVERY_SECONDS)
            self.write()


@once
def _usage() -> _Usage:
    return _Usage()


def note(token: int) -> None:
    """Remember that the token was used, until it is written."""
    _usage().note(token)


def write_token_usage() -> None:
    """Write at once which tokens were used; for a process that ends."""
    _usage().write()
