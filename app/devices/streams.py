"""The event streams of phones (server-sent events), and waking through them.

One object a process holds its phones' streams and one subscription to what other processes say. A stream is only a
means to wake: a wake that is lost costs seconds, because on every (re)subscription and every 15 seconds the process
asks the database which of its phones have something due, and which were removed and are to be let go.
"""

import asyncio
import json
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.types import Receive, Send

from app.core import background, outbound
from app.core.database import transaction
from app.core.task_names import PHONES_CHANNEL
from app.devices import presence
from app.devices.presence import ANSWER_ARRIVES_WITHIN_SECONDS

KEEP_ALIVE_SECONDS = 15.0
CHECK_SECONDS = 15.0
PRESENCE_SECONDS = 5.0
# The stock app connects again without closing what it had.
MAX_STREAMS_OF_A_PHONE = 5
# The app drops a pull in flight when it is triggered again, answer and all, so the next wake waits for the answer and
# for its way to the phone; or, where no pull comes, for a second.
ANSWERS_WITHIN_SECONDS = 1.0
# That way is given twice what passed between a wake and the pull it caused, which is the same way, the app's own time
# and the way back: at most what any phone is given (`presence`). One quick pull says little, so it shrinks by little.
LEAST_WAY_SECONDS = 0.02
SHRINKS_TO = 0.8
CLOSES_WITHIN_SECONDS = 1.0
MAX_UNSENT = 20
KEEP_ALIVE = b":keepalive\n\n"

_REMOVED = text("SELECT id FROM devices WHERE id = ANY(:ids) AND removed_at IS NOT NULL")

log = structlog.get_logger(__name__)


def frame(event: str, data: object = None) -> bytes:
    """One event. It always has data: the app drops an event without."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


MESSAGE_ENQUEUED = frame("MessageEnqueued")


@dataclass(eq=False, slots=True)
class _Stream:
    """One open connection of a phone."""

    send: Send
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    unsent: int = 0

    async def push(self, data: bytes) -> None:
        """Write without waiting for others. A connection that takes nothing any more is ended."""
        if self.unsent >= MAX_UNSENT:
            self.ended.set()
            return
        self.unsent += 1
        try:
            await self.send({"type": "http.response.body", "body": data, "more_body": True})
        except OSError:
            self.ended.set()
        finally:
            self.unsent -= 1

    async def close(self) -> None:
        """End the answer; a connection that takes nothing any more is not waited for."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSES_WITHIN_SECONDS):
                await self.send({"type": "http.response.body", "body": b""})


@dataclass(eq=False, slots=True)
class _Phone:
    """A phone with streams here: what wakes it, the wake it has not answered, and how long an answer may take to it."""

    streams: list[_Stream] = field(default_factory=list)
    quiet_until: float = 0.0
    way: float = ANSWER_ARRIVES_WITHIN_SECONDS
    unanswered_since: float | None = None
    next_wake: asyncio.TimerHandle | None = None
    next_slot: asyncio.TimerHandle | None = None

    def forget(self) -> None:
        for timer in (self.next_wake, self.next_slot):
            if timer:
                timer.cancel()


class Streams:
    """The streams that this process holds. `due` tells which of some phones have something to pull now."""

    def __init__(self, due: Callable[[Session, list[int]], list[int]]) -> None:
        self._due = due
        self._phones: dict[int, _Phone] = {}
        self._pushes: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """While the server runs: subscribed, streams kept alive; at its end every stream is ended."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._every(KEEP_ALIVE_SECONDS, self._keep_alive)),
            asyncio.create_task(self._every(CHECK_SECONDS, self._check)),
            asyncio.create_task(self._every(PRESENCE_SECONDS, self._note_presence)),
        ]
        end_on_signals(self.end_all)
        try:
            yield
        finally:
            self.end_all()
            await background.end(self._tasks)

    def end_all(self) -> None:
        """End every stream, and each opened from now on; phones connect again, to another process or the next one."""
        self._closing = True
        for phone in self._phones.values():
            for stream in phone.streams:
                stream.ended.set()

    async def serve(self, device_id: int, receive: Receive, send: Send) -> None:
        """Hold one stream of a phone until either side ends it."""
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        stream = _Stream(send)
        phone = self._phones.setdefault(device_id, _Phone())
        phone.streams.append(stream)
        for older in phone.streams[:-MAX_STREAMS_OF_A_PHONE]:
            older.ended.set()
        try:
            # A phone that has just signed up has neither hooks nor settings, and would ask for them only in 24 hours.
            await stream.push(frame("WebhooksUpdated") + frame("SettingsUpdated"))
            if not self._closing:
                await _until_either(stream.ended, receive)
        finally:
            phone.streams.remove(stream)
            if not phone.streams and self._phones.get(device_id) is phone:
                phone.forget()
                del self._phones[device_id]
        await stream.close()

    def answered(self, device_id: int, asked: float) -> None:
        """A pull of the phone that came at `asked` was answered by this process; another one may hold its stream."""
        if phone := self._phones.get(device_id):
            self._answered(phone, asked)
        else:
            ago = round(time.monotonic() - asked, 3)
            outbound.publisher().put((), (), [(device_id, "pulled", json.dumps({"ago": ago}))])

    def on_event(self, device_id: int, event: str, data: dict[str, Any]) -> None:
        """What some process said of a phone; of no interest where the phone has no stream here."""
        phone = self._phones.get(device_id)
        if phone is None:
            return
        if event == "wake":
            self._wake_in(phone, data.get("after") or 0)
        elif event == "pulled":
            self._answered(phone, time.monotonic() - data.get("ago", 0.0))
        elif event == "end":
            for stream in phone.streams:
                stream.ended.set()
        else:
            self._push(phone, frame(event, data or None))

    def _wake_in(self, phone: _Phone, after: float) -> None:
        if after <= 0:
            self._wake(phone)
            return
        if phone.next_slot:
            phone.next_slot.cancel()
        phone.next_slot = asyncio.get_running_loop().call_later(after, self._wake, phone)

    def _wake(self, phone: _Phone) -> None:
        now = time.monotonic()
        if now < phone.quiet_until:
            phone.next_wake = phone.next_wake or self._wake_later(phone, phone.quiet_until - now)
            return
        phone.next_wake = None
        phone.quiet_until = now + ANSWERS_WITHIN_SECONDS
        phone.unanswered_since = phone.unanswered_since or now
        self._push(phone, MESSAGE_ENQUEUED)

    def _answered(self, phone: _Phone, asked: float) -> None:
        """`asked` is when the pull came that is now answered, by this process's monotonic clock."""
        quiet = phone.way
        if phone.unanswered_since is not None:
            took = asked - phone.unanswered_since
            if took < 0:  # it came by itself, and that of the wake is still on its way
                quiet = ANSWER_ARRIVES_WITHIN_SECONDS
            else:
                way = max(2 * took, SHRINKS_TO * phone.way, LEAST_WAY_SECONDS)
                quiet = phone.way = min(way, ANSWER_ARRIVES_WITHIN_SECONDS)
        phone.unanswered_since = None
        phone.quiet_until = time.monotonic() + quiet
        if phone.next_wake:
            phone.next_wake.cancel()
            phone.next_wake = self._wake_later(phone, quiet)

    def _wake_later(self, phone: _Phone, seconds: float) -> asyncio.TimerHandle:
        def wake() -> None:
            phone.next_wake = None
            self._wake(phone)

        return asyncio.get_running_loop().call_later(seconds, wake)

    def _push(self, phone: _Phone, data: bytes) -> None:
        for stream in phone.streams:
            task = asyncio.create_task(stream.push(data))
            self._pushes.add(task)
            task.add_done_callback(self._pushes.discard)

    async def _listen(self) -> None:
        while True:
            try:
                await self._subscribed()
            except (RedisError, SQLAlchemyError, OSError) as error:
                log.warning("subscription to wakes lost, subscribing again", error=error)
                await asyncio.sleep(1)

    async def _subscribed(self) -> None:
        async with outbound.subscriber() as client, client.pubsub() as subscription:
            await subscription.subscribe(PHONES_CHANNEL)
            await self._check()
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5)
                if message is not None:
                    device, event, data = message["data"].decode().split(" ", 2)
                    self.on_event(int(device), event, json.loads(data))

    async def _every(self, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except SQLAlchemyError as error:
                log.warning("streams are waiting for the database", error=error)
            await asyncio.sleep(seconds)

    async def _keep_alive(self) -> None:
        for phone in list(self._phones.values()):
            self._push(phone, KEEP_ALIVE)

    async def _check(self) -> None:
        ids = list(self._phones)
        if not ids:
            return
        for device_id, event in await asyncio.to_thread(self._ask, ids):
            self.on_event(device_id, event, {})

    def _ask(self, ids: list[int]) -> list[tuple[int, str]]:
        """What the phones would have heard, had nothing been lost."""
        with transaction() as session:
            removed = [(device_id, "end") for device_id in session.scalars(_REMOVED, {"ids": ids})]
            return removed + [(device_id, "wake") for device_id in self._due(session, ids)]

    async def _note_presence(self) -> None:
        now = time.monotonic()
        waits = {
            device_id: None if phone.unanswered_since is None else now - phone.unanswered_since
            for device_id, phone in self._phones.items()
        }
        await asyncio.to_thread(_note, waits)


def _note(waits: dict[int, float | None]) -> None:
    with transaction() as session:
        # In one transaction, so that no stream seems lost before the gateway itself does.
        presence.watching(session)
        if waits:
            presence.streaming(session, waits)


async def _until_either(ended: asyncio.Event, receive: Receive) -> None:
    """Until the stream is to end, or the phone has hung up."""

    async def hung_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    waiting = [asyncio.ensure_future(hung_up()), asyncio.ensure_future(ended.wait())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def end_on_signals(end_all: Callable[[], None]) -> None:
    """The server waits for open streams before it shuts down, so they are ended as soon as it is told to."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def end(received: int, stack: Any, before: Any = before) -> None:
            loop.call_soon_threadsafe(end_all)
            if callable(before):
                before(received, stack)

        signal.signal(number, end)
