"""Posts claimed deliveries: one event loop in a thread of its own, with keep-alive and a limit on every wait."""

import asyncio
import re
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import NamedTuple

import structlog
import uvloop
from aiohttp import ClientResponse, ClientSession
from aiohttp.http_exceptions import HttpProcessingError

from app.core import metrics, tracing
from app.webhooks import signing
from app.webhooks.claims import Call
from app.webhooks.client import (
    CALL_ERRORS,
    TOTAL_SECONDS,
    Connector,
    Lookup,
    explained,
    guarded_session,
    system_lookup,
    wire_url,
)
from app.webhooks.exchange import Exchange, under_way

MAX_RESPONSE_BYTES = 64 * 1024
KEPT_OF_ANSWER = 1024
READING_SECONDS = 2.0
MAX_RETRY_AFTER = 24 * 3600
HTTP_GONE = 410
_PAUSES = {429, 503}

log = structlog.get_logger(__name__)


class Result(NamedTuple):
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


class Answer(NamedTuple):
    """What a receiver said. The status alone decides; the rest is for the owner to see, and may be cut short."""

    status: int
    text: str
    retry_after: int | None


async def post(session: ClientSession, call: Call) -> Result:
    """One attempt, 15 seconds at most. Never raises for what a receiver, the network or a name can do.

    Once a status line was read it is the result: bad bytes, a reset or a time-out after it spoil the connection only.
    """
    started = time.perf_counter()
    exchange = Exchange(call.user_id)
    under_way.set(exchange)
    answer, error, timed_out = None, None, False
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            answer = await _ask(session, call, exchange)
    except Exception as caught:  # noqa: BLE001 - a receiver must not be able to stop the sender, whatever it does
        answer = _raw(exchange)
        if answer is None:
            error, timed_out = _explained(call, caught)
    duration = int((time.perf_counter() - started) * 1000)
    if answer is None:
        result = Result(call, None, None, error, duration, timed_out=timed_out)
    else:
        result = Result(call, answer.status, answer.text, None, duration, answer.retry_after)
    metrics.observe_call(_outcome(result), duration / 1000)
    if exchange.address is not None and isinstance(session.connector, Connector):
        session.connector.rates.note(exchange.address, accepted=result.accepted)
    return result


def _outcome(result: Result) -> str:
    if result.status_code is None:
        return "timed_out" if result.timed_out else "unreachable"
    return "accepted" if result.accepted else "refused"


async def _ask(session: ClientSession, call: Call, exchange: Exchange) -> Answer:
    """The answer; asked again at once if the receiver had closed the reused connection before it said anything."""
    try:
        return await _ask_once(session, call)
    except CALL_ERRORS:
        if not exchange.may_repeat():
            raise
    exchange.fresh = True
    return await _ask_once(session, call)


async def _ask_once(session: ClientSession, call: Call) -> Answer:
    signed = signing.headers(str(call.webhook_id), call.body, call.secrets)
    body = call.body.encode()
    data = BytesIO(body) if call.weight else body  # a large one is sent in parts: others have their turn between them
    response = await session.post(wire_url(call.url), data=data, headers=signed, allow_redirects=False)
    try:
        return Answer(response.status, await _read(response), seconds_of(response.headers.get("retry-after")))
    finally:
        response.release()  # one that was not read to its end closes its connection


def _raw(exchange: Exchange) -> Answer | None:
    raw = exchange.raw_answer()
    return Answer(raw.status, _text(raw.body), seconds_of(raw.retry_after)) if raw else None


def _explained(call: Call, caught: Exception) -> tuple[str, bool]:
    if isinstance(caught, CALL_ERRORS):
        return explained(caught)
    # Neither message nor traceback: they may show the URL, and URLs hold secrets.
    where = traceback.extract_tb(caught.__traceback__)[-1]
    log.warning(
        "webhook call failed unexpectedly",
        delivery=call.delivery_id,
        kind=type(caught).__name__,
        where=f"{where.filename}:{where.lineno}",
    )
    return f"The call failed: {type(caught).__name__}.", False


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
                    if size >= MAX_RESPONSE_BYTES:
                        break
    except (*CALL_ERRORS, HttpProcessingError):
        log.debug("answer not read to its end", status=response.status)
    return _text(kept)


def _text(body: bytes | bytearray) -> str:
    return bytes(body[:KEPT_OF_ANSWER]).decode("utf-8", "replace").replace("\0", "\ufffd")


def seconds_of(retry_after: str | None) -> int | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110: a number or a date), a day at most; None if neither."""
    if retry_after is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", written := retry_after.strip(" \t")):
        return min(int(written), MAX_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(retry_after)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(min(max((aware - datetime.now(UTC)).total_seconds(), 0), MAX_RETRY_AFTER))


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
        if call.trace is None:
            self._done(await post(self._session, call))
            return
        link = None if tracing.is_same(call.trace, call.claimed_by) else call.claimed_by
        about = {"smsfleet.delivery": call.delivery_id, "smsfleet.attempt": call.attempt + 1}
        with tracing.span("webhook", "client", call.trace, link, about) as span:
            result = await post(self._session, call)
            span.note({"smsfleet.outcome": _outcome(result)})
            if result.status_code is not None:
                span.note({"http.response.status_code": result.status_code})
            if not result.accepted:
                span.fail(_outcome(result))
        self._done(result)
