"""The stream of a campaign's progress, as server-sent events: one at once, then at most one a second when it changed,
and one every 15 seconds when it did not.

Each event is the whole progress, so a client that comes back has missed nothing; the event's id says what it has seen.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from app.accounts.principals import TokenCredentials, principal_of
from app.campaigns import progress, records
from app.campaigns.schemas import CampaignProgress
from app.core.database import transaction
from app.core.errors import NotFound
from app.core.once import once
from app.core.places import aside
from app.core.shares import Shares
from app.devices.streams import KEEP_ALIVE_SECONDS, end_on_signals

EVERY_SECONDS = 1.0
# Of one process; each is a statement a second.
MAX_WATCHERS = 200

# Raises `TooManyAttempts` where an account has enough of them.
shares = Shares(MAX_WATCHERS)


class Watchers:
    """The streams of this process. They end when it does, and clients come back to another or the next one."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """While the server runs."""
        self._closing = asyncio.Event()
        end_on_signals(self._closing.set)
        try:
            yield
        finally:
            self._closing.set()

    async def events(self, credentials: TokenCredentials, campaign: str, seen: str | None) -> AsyncIterator[bytes]:
        """What to send, until the campaign or the token is gone or the process ends."""
        sent_at = time.monotonic()
        while not self._closing.is_set():
            found = await aside(_read, credentials, campaign)
            if found is None:
                return
            body = json.dumps(found.model_dump(mode="json"), separators=(",", ":"))
            name = _name(found)
            if name != seen or time.monotonic() - sent_at >= KEEP_ALIVE_SECONDS:
                yield f"id: {name}\nevent: progress\ndata: {body}\n\n".encode()
                seen, sent_at = name, time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._closing.wait()


def _name(found: CampaignProgress) -> str:
    """What tells whether there is news: everything but the expectations, which change with every second."""
    body = found.model_dump_json(exclude={"rate", "ends_at"})
    return hashlib.sha256(body.encode()).hexdigest()[:16]


@once
def watchers() -> Watchers:
    return Watchers()


def _read(credentials: TokenCredentials, campaign: str) -> CampaignProgress | None:
    with transaction() as session:
        user = principal_of(session, credentials)
        if user is None:
            return None
        try:
            return progress.detail(session, records.find(session, user.user_id, campaign))
        except NotFound:
            return None
