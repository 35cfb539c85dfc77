"""The calls a phone makes to its gateway, one method each.

Errors:

    PhoneError
     ├── RefusedError       the gateway answered, but not with 2xx (`status`)
     ├── UnreachableError   no answer: connection, time-out, broken transfer
     │    └── AnswerLostError   the gateway did the work, the phone never heard of it (simulated)
     └── BadAnswerError     a 2xx that cannot be read

The app treats them alike (try again later), except a `RefusedError` 401 when it announces itself: it registers anew.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from phones.http import Headers, HttpClient, HttpError, Url
from phones.wire import (
    APP_VERSION,
    Announcement,
    HookEvent,
    InboxItem,
    PulledMessage,
    Registered,
    Registration,
    Report,
    SimCard,
    StreamEvent,
    Webhook,
    hook_headers,
    read_events,
)

MOBILE_PATH = "/api/mobile/v1"
STREAM_USER_AGENT = "okhttp/4.10.0"

_CALL_WITHIN = 10.0
_HOOK_WITHIN = 5.0
_STREAM_SILENT = 3600.0

_encode = msgspec.json.Encoder().encode
_pulled = msgspec.json.Decoder(list[PulledMessage])
_registered = msgspec.json.Decoder(Registered)
_hooks = msgspec.json.Decoder(list[Webhook])
_settings = msgspec.json.Decoder(dict[str, Any])

T = TypeVar("T")


class PhoneError(Exception):
    """A call that did not do what it was made for."""


class RefusedError(PhoneError):
    """The gateway answered with something else than 2xx."""

    def __init__(self, status: int, call: str) -> None:
        super().__init__(f"{call} was answered with {status}")
        self.status = status


class UnreachableError(PhoneError):
    """No answer came."""


class AnswerLostError(UnreachableError):
    """The gateway answered, but the answer was made to get lost."""


class BadAnswerError(PhoneError):
    """A 2xx answer whose body cannot be read."""


def mobile_url(server_url: str) -> str:
    """Complete a server's address to the base of the phone protocol. An address with a path is taken as it is."""
    return server_url if urlsplit(server_url).path.strip("/") else server_url.rstrip("/") + MOBILE_PATH


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _never() -> bool:
    return False


class GatewayClient:
    """One phone's connection. `token` is the device token once the phone is registered.

    `loses_answer` is asked after each answer; true makes the call fail although the gateway has served it.
    """

    def __init__(
        self,
        http: HttpClient,
        server_url: str,
        version: str = APP_VERSION,
        loses_answer: Callable[[], bool] = _never,
    ) -> None:
        base = mobile_url(server_url)
        self._http = http
        self._version = version
        self._loses_answer = loses_answer
        self._device_url = Url.parse(f"{base}/device")
        self._message_url = Url.parse(f"{base}/message")
        self._order_urls = {order: Url.parse(f"{base}/message?order={order}") for order in ("lifo", "fifo")}
        self._webhooks_url = Url.parse(f"{base}/webhooks")
        self._settings_url = Url.parse(f"{base}/settings")
        self._events_url = Url.parse(f"{base}/events")
        self._inbox_url = Url.parse(f"{base}/inbox")
        self._headers = Headers({})
        self.token = ""

    @property
    def token(self) -> str:
        """The device token; calls made from now on carry it."""
        return self._token

    @token.setter
    def token(self, token: str) -> None:
        self._token = token
        self._headers = self._headers_with(token)

    def _headers_with(self, token: str) -> Headers:
        return Headers(
            {
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "User-Agent": f"me.capcom.smsgateway/{self._version}",
            }
        )

    async def register(
        self, private_token: str, name: str, sim_cards: list[SimCard] | None, public_key: str | None = None
    ) -> Registered:
        """`POST /device`: enroll, and use the token received from now on."""
        body = _encode(Registration(name, sim_cards, public_key, _key_version(public_key)))
        content = await self._call("POST", self._device_url, body, self._headers_with(private_token))
        registered = _read(_registered, content)
        self.token = registered.token
        return registered

    async def announce(self, device_id: str, sim_cards: list[SimCard] | None, public_key: str | None = None) -> None:
        """`PATCH /device`: what the app does at each start."""
        body = _encode(Announcement(device_id, sim_cards, public_key, _key_version(public_key)))
        await self._call("PATCH", self._device_url, body)

    async def pull(self, order: str = "lifo") -> list[PulledMessage]:
        """`GET /message`: what is there to send."""
        return _read(_pulled, await self._call("GET", self._order_urls[order]))

    async def report(self, reports: list[Report]) -> None:
        """`PATCH /message`: say what became of messages."""
        await self._call("PATCH", self._message_url, _encode(reports))

    async def webhooks(self) -> list[Webhook]:
        """`GET /webhooks`: where events of this phone go."""
        return _read(_hooks, await self._call("GET", self._webhooks_url))

    async def settings(self) -> dict[str, Any]:
        """`GET /settings`: the settings to apply, by section."""
        return _read(_settings, await self._call("GET", self._settings_url))

    async def push_inbox(self, items: list[InboxItem]) -> None:
        """`POST /inbox`: a copy of what was received."""
        await self._call("POST", self._inbox_url, _encode(items))

    async def post_hook(self, url: str, event: HookEvent, signing_key: str) -> None:
        """Post an event to a webhook, signed now."""
        body = _encode(event)
        headers = Headers(hook_headers(signing_key, body, self._version))
        await self._call("POST", _hook_address(url), body, headers, _HOOK_WITHIN)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        """`GET /events`: enter when the stream is open, then iterate over its events until it ends."""
        headers = Headers(
            {
                "Authorization": f"Bearer {self._token}",
                "Accept": "text/event-stream",
                "User-Agent": STREAM_USER_AGENT,
            }
        )
        try:
            async with self._http.stream(self._events_url, headers, _STREAM_SILENT) as (status, kind, lines):
                if not _is_success(status):
                    raise RefusedError(status, "GET /events")
                if kind != "text/event-stream":
                    raise BadAnswerError(f"GET /events is {kind}")
                yield read_events(lines)
        except HttpError as error:
            raise UnreachableError(f"GET /events: {error}") from error

    async def _call(
        self,
        method: str,
        url: Url,
        body: bytes | None = None,
        headers: Headers | None = None,
        within: float = _CALL_WITHIN,
    ) -> bytes:
        try:
            answer = await self._http.call(method, url, headers or self._headers, body, within)
        except HttpError as error:
            raise UnreachableError(f"{method} {url.target}: {error}") from error
        if self._loses_answer():
            raise AnswerLostError(f"{method} {url.target}: the answer got lost")
        if not _is_success(answer.status):
            raise RefusedError(answer.status, f"{method} {url.target}")
        return answer.body


def _key_version(public_key: str | None) -> int | None:
    return None if public_key is None else 1


def _hook_address(url: str) -> Url:
    try:
        return Url.parse(url)
    except ValueError as error:
        raise UnreachableError(str(error)) from error


def _read(decoder: "msgspec.json.Decoder[T]", content: bytes) -> T:
    try:
        return decoder.decode(content)
    except msgspec.DecodeError as error:
        raise BadAnswerError(f"unreadable answer: {error}") from error
