"""The event streams of open pages: one a page, in plain ASGI, so that many cost little.

An event names a topic of which something changed and holds no data: the page asks for what it shows. Only what moves of
a campaign comes with its event, because most of what it costs is to be asked for. What a user's transactions announce
(`outbound.announce`) reaches each process that holds a page of theirs. A lost event costs seconds, because pages also
ask by themselves, and a stream ends after a while, so that its session is judged anew.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from urllib.parse import parse_qs

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Receive, Scope, Send

from app.accounts import cookies
from app.accounts.principals import principal_of
from app.core import background, outbound
from app.core.database import transaction
from app.core.direct import Call
from app.core.errors import Overloaded, Unauthenticated
from app.core.places import aside
from app.core.security import parse_token
from app.core.task_names import PAGES_CHANNEL
from app.devices.streams import end_on_signals
from app.web import campaign_now

KEEP_ALIVE_SECONDS = 20.0
# A page is told at once, and then no more often than this, by the topics it shows; what comes meanwhile is told at the
# end of it. What changes all the time is told less often.
RESTS = {"messages": 2.0, "phones": 2.0, "campaigns": 5.0}
TOPICS = frozenset(RESTS)
# A campaign that has run for minutes moves less between two times that a page is told of it.
SHARE_OF_A_CAMPAIGN = 1 / 60
MAX_REST_OF_A_CAMPAIGN = 10.0
LASTS_SECONDS = 900.0
MAX_PAGES_OF_USER = 30
MAX_PAGES = 5000
_NOBODY = 0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class _Page:
    """One open page: the topics it shows, and those of which something changed that it was not told yet.

    `campaign` is the one of which it shows what moves, and has run for `ran` seconds.
    """

    scope: Scope
    topics: frozenset[str]
    campaign: str | None = None
    ran: float = 0.0
    changed: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    rests_until: float = 0.0

    def notify(self, topics: frozenset[str]) -> None:
        """Note what changed; with messages campaigns do."""
        if news := self.topics & (topics | {"campaigns"} if "messages" in topics else topics):
            self.changed |= news
            self.wake.set()

    @property
    def rest(self) -> float:
        of_campaign = min(SHARE_OF_A_CAMPAIGN * self.ran, MAX_REST_OF_A_CAMPAIGN)
        return max([of_campaign, *(RESTS[topic] for topic in self.topics)])

    def rest_of(self, now: float) -> float:
        """How long it is told nothing; it rests from when it is told, which it is about to be where it can."""
        left = self.rests_until - now
        return self.rest if self.changed and left <= 0 else left

    async def events(self, changed: set[str]) -> bytes:
        """What tells the page of it."""
        part = await self._part() if "campaigns" in changed else b""
        named = changed - {"campaigns"} if part else changed
        told = [b"event: %s\ndata: 1\n\n" % topic.encode() for topic in sorted(named)]
        if part:
            told.append(b"event: part\n%s\n" % b"".join(b"data: %s\n" % line for line in part.splitlines()))
        return b"".join(told)

    async def _part(self) -> bytes:
        if self.campaign is None:
            return b""
        try:
            part, self.ran = await aside(campaign_now.pushed, self.scope, self.campaign)
        except SQLAlchemyError as error:  # the page asks, and is told what it is
            log.warning("part of a page not read", error=error)
            return b""
        return part


class Pages:
    """The pages whose streams this process holds, and its subscription to what their users' transactions announce."""

    def __init__(self) -> None:
        self._pages: dict[int, list[_Page]] = {}
        self._subscription: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._entered = asyncio.Event()
        self._closing = asyncio.Event()
        self.calls = (Call("GET", "/events", self._serve),)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """While the server runs."""
        end_on_signals(self.end_all)
        try:
            yield
        finally:
            self.end_all()
            await background.end({self._listener} if self._listener else ())

    def end_all(self) -> None:
        self._closing.set()
        for page in self._every():
            page.wake.set()

    def _every(self) -> list[_Page]:
        return [page for pages in self._pages.values() for page in pages]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = await aside(_user_of, scope)
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        page = _Page(scope, TOPICS & set(asked.get("topics", [""])[0].split()), asked.get("campaign", [None])[0])
        if (
            self._closing.is_set()
            or len(self._pages.get(user, ())) >= MAX_PAGES_OF_USER
            or len(self._every()) >= MAX_PAGES
        ):
            raise Overloaded
        await self._enter(user, page)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._write(page, receive, send)
        finally:
            await self._leave(user, page)

    async def _write(self, page: _Page, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_hung_up(receive))
        loop = asyncio.get_running_loop()
        ends = loop.time() + LASTS_SECONDS
        data = b"retry: 2000\n\n"
        try:
            while not gone.done() and not self._closing.is_set() and loop.time() < ends:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                await _until_either(page.wake, gone, KEEP_ALIVE_SECONDS)
                if page.changed and (rest := page.rests_until - loop.time()) > 0:
                    await _until_either(self._closing, gone, rest)
                page.wake.clear()
                changed, page.changed = page.changed, set()
                if changed:
                    page.rests_until = loop.time() + page.rest
                data = await page.events(changed) or b":\n\n"
            if not gone.done():
                await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass
        finally:
            gone.cancel()

    async def _enter(self, user: int, page: _Page) -> None:
        is_first = user not in self._pages
        self._pages.setdefault(user, []).append(page)
        self._entered.set()
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        elif is_first and self._subscription:
            with suppress(RedisError, OSError):
                await self._subscription.subscribe(_channel(user))

    async def _leave(self, user: int, page: _Page) -> None:
        self._pages[user].remove(page)
        if not self._pages[user]:
            del self._pages[user]
            if self._subscription:
                with suppress(RedisError, OSError):
                    await self._subscription.unsubscribe(_channel(user))

    async def _listen(self) -> None:
        while True:
            try:
                await self._subscribed()
            except (RedisError, OSError) as error:
                log.warning("subscription to news lost, subscribing again", error=repr(error))
                self._subscription = None
                await asyncio.sleep(1)

    async def _subscribed(self) -> None:
        async with outbound.subscriber() as client, client.pubsub() as subscription:
            users = set(self._pages)
            await subscription.subscribe(_channel(_NOBODY), *map(_channel, users))
            self._subscription = subscription
            if entered := self._pages.keys() - users:  # meanwhile; from here on each does it itself
                await subscription.subscribe(*map(_channel, entered))
            for page in self._every():  # what was said meanwhile is lost
                page.notify(TOPICS)
            while True:
                message = await subscription.get_message(timeout=5)
                while message is not None:
                    self._pass_on(message)
                    message = await subscription.get_message(timeout=0)
                await self._while_all_rest()

    def _pass_on(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            user = int(message["channel"].decode().removeprefix(PAGES_CHANNEL))
            for page in self._pages.get(user, ()):
                page.notify(frozenset({message["data"].decode()}))

    async def _while_all_rest(self) -> None:
        """What comes meanwhile is read at the end, all at once: most of what news cost is to wake up for each."""
        self._entered.clear()
        now, least = asyncio.get_running_loop().time(), 0.0
        for page in chain.from_iterable(self._pages.values()):
            rest = page.rest_of(now)
            if rest <= 0:
                return
            least = min(rest, least or rest)
        with suppress(TimeoutError):
            async with asyncio.timeout(least):
                await self._entered.wait()


async def _until_either(event: asyncio.Event, gone: asyncio.Task[None], seconds: float) -> None:
    """Wait for the event or for the browser to leave, so long at most."""
    waiting: asyncio.Task[Any] = asyncio.ensure_future(event.wait())
    either: set[asyncio.Task[Any]] = {waiting, gone}
    try:
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _channel(user: int) -> str:
    return f"{PAGES_CHANNEL}{user}"


def _user_of(scope: Scope) -> int:
    """Whose browser it is. Raises `Unauthenticated`."""
    credentials = parse_token(cookies.read(scope, cookies.SESSION) or "")
    if credentials is None:
        raise Unauthenticated
    with transaction() as session:
        principal = principal_of(session, credentials)
    if principal is None or principal.kind != "session":
        raise Unauthenticated
    return principal.user_id


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
