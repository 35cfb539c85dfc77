"""Posts claimed deliveries: one event loop in a thread of its own, with keep-alive and a limit on every wait."""

import asyncio
import re
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import structlog
import uvloop
from aiohttp import ClientResponse, ClientSession

from app.webhooks import signing
from app.webhooks.claims import Call
from app.webhooks.client import (
    CALL_ERRORS,
    TOTAL_SECONDS,
    Lookup,
    caller,
    explained,
    guarded_session,
    spelled,
    system_lookup,
)

MOST_READ = 64 * 1024
KEPT_OF_ANSWER = 1024
READING_SECONDS = 2.0
LONGEST_RETRY_AFTER = 24 * 3600
GONE = 410
_PAUSES = {429, 503}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a call came to. `status_code` is None where no answer came, and `error` says why in words for the owner."""

    call: Call
    status_code: int | None
    answer: str | None
    error: str | None
    duration_ms: int
    retry_after: int | None = None
    timed_out: bool = False

    @property
    def accepted(self) -> bool:
        return self.status_code is not None and 200 <= self.status_code < 300  # noqa: PLR2004 - 2xx

    @property
    def pauses(self) -> bool:
        """Whether the receiver asked for all calls to wait, not for this one alone."""
        return self.retry_after is not None and self.status_code in _PAUSES


async def post(session: ClientSession, call: Call) -> Result:
    """One attempt, 15 seconds at most. Never raises for what a receiver, the network or a name can do."""
    started = time.perf_counter()
    caller.set(call.user_id)
    status, answer, error, retry_after, timed_out = None, None, None, None, False
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            signed = signing.headers(str(call.webhook_id), call.body, call.secrets)
            sending = session.post(spelled(call.url), data=call.body.encode(), headers=signed, allow_redirects=False)
            async with sending as response:
                status, retry_after = response.status, seconds_of(response.headers.get("retry-after"))
                answer = await _read(response)
    except CALL_ERRORS as caught:
        error, timed_out = explained(caught)
    except Exception as caught:  # noqa: BLE001 - a receiver must not be able to stop the sender, whatever it does
        # Neither message nor traceback: they may show the URL, and URLs hold secrets.
        where = traceback.extract_tb(caught.__traceback__)[-1]
        log.warning(
            "webhook call failed unexpectedly",
            delivery=call.delivery_id,
            kind=type(caught).__name__,
            where=f"{where.filename}:{where.lineno}",
        )
        error = f"The call failed: {type(caught).__name__}."
    duration = int((time.perf_counter() - started) * 1000)
    return Result(call, status, answer, error, duration, retry_after, timed_out)


async def _read(response: ClientResponse) -> str:
    """The first KiB of the answer. What is beyond 64 KiB or slower than two seconds is left, the connection dropped."""
    kept, size = bytearray(), 0
    try:
        if response.content.is_eof():  # it came with the head, as short ones do
            kept += response.content.read_nowait()
        else:
            async with asyncio.timeout(READING_SECONDS):
                async for chunk in response.content.iter_any():
                    if len(kept) < KEPT_OF_ANSWER:
                        kept += chunk
                    size += len(chunk)
                    if size >= MOST_READ:
                        break
    except CALL_ERRORS:
        log.debug("answer not read to its end", status=response.status)
    return bytes(kept[:KEPT_OF_ANSWER]).decode("utf-8", "replace").replace("\0", "\ufffd")


def seconds_of(retry_after: str | None) -> int | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110: a number or a date), a day at most; None if neither."""
    if retry_after is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return min(int(retry_after), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(min(max((aware - datetime.now(UTC)).total_seconds(), 0), LONGEST_RETRY_AFTER))


class Sender:
    """Calls under way in this process; `done` is told each result, in the loop's thread, and must not block."""

    def __init__(self, done: Callable[[Result], None], lookup: Lookup = system_lookup) -> None:
        self._done = done
        self._lookup = lookup
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._session: ClientSession
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="webhook-sender", daemon=True)
        self._thread.start()
        started.wait()

    def start(self, calls: Sequence[Call]) -> None:
        """Post `calls`, from any thread."""
        self._loop.call_soon_threadsafe(self._begin, calls)

    def close(self) -> None:
        """End the loop; calls that are still under way are dropped, and due again when their leases end."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(TOTAL_SECONDS)

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(started))

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        async with guarded_session(self._lookup) as self._session:
            started.set()
            await self._stopped.wait()

    def _begin(self, calls: Sequence[Call]) -> None:
        for call in calls:
            task = self._loop.create_task(self._post(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _post(self, call: Call) -> None:
        self._done(await post(self._session, call))
