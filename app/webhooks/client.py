"""The HTTP client of the webhook sender: an aiohttp session that judges every address it connects to.

Not httpx, which everything else here speaks: see decision 11.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, cast
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from app.core.http_client import create_ssl_context
from app.webhooks.addresses import AddressRates, HeldAddressError
from app.webhooks.exchange import MAX_HEAD, AnswerKeeper, current_exchange
from app.webhooks.guard import ForbiddenAddressError, check_address, check_host_name, host_and_target

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 15.0
KEEPALIVE_SECONDS = 30.0
DNS_TTL = 10
MAX_HEADERS = 1000
# Of a name, one call tries so many addresses.
MAX_ADDRESSES = 4

# `connect` is for connecting as a whole: looking the name up, TCP and TLS. Who calls limits the whole call, exactly;
# aiohttp would round that up to a whole second.
_TIMEOUTS = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS)

# `identity`: an answer is kept as it came, and nothing that swells is unpacked.
_HEADERS = {
    "content-type": "application/json",
    "accept": "*/*",
    "accept-encoding": "identity",
    "user-agent": "smsfleet-webhooks/1",
}

Lookup = Callable[[str, int], Awaitable[list[Any]]]

LOOKUP_THREADS = 256
# A name server that never answers keeps a thread long after the call was given up; one user's names keep no more.
LOOKUPS_OF_USER = 16
_lookups = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="dns")


async def system_lookup(host: str, port: int) -> list[Any]:
    """The operating system's answer: a list as `socket.getaddrinfo` gives it."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(
        _lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    )


class GuardedResolver(AbstractResolver):
    """Refuses a name as a whole where any of its addresses is refused, so that no second address is tried instead.

    A user's lookups wait for each other where too many of them have no answer yet.
    """

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._rooms: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found: list[ResolveResult] = []
        for kind, _, protocol, _, address in await self._found(host, port):
            check_address(address[0])
            if family in {socket.AF_UNSPEC, kind}:
                found.append(
                    ResolveResult(
                        hostname=host,
                        host=address[0],
                        port=port,
                        family=kind,
                        proto=protocol,
                        flags=socket.AI_NUMERICHOST,
                    )
                )
        if not found:
            raise OSError(socket.EAI_NONAME, "the name has no address")
        return found

    async def _found(self, host: str, port: int) -> list[Any]:
        room = self._rooms.setdefault(current_exchange().user_id, asyncio.Semaphore(LOOKUPS_OF_USER))
        async with asyncio.timeout(CONNECT_SECONDS):
            await room.acquire()
        asked = asyncio.ensure_future(self._lookup(host, port))

        def answered(lookup: asyncio.Future[list[Any]]) -> None:
            room.release()
            if not lookup.cancelled():
                lookup.exception()  # nobody may be left who wants to know

        asked.add_done_callback(answered)
        # The room is free when the thread is, not when the call is given up.
        return await asyncio.shield(asked)

    async def close(self) -> None:
        """Nothing is held open."""


def _guarded_socket(info: Any) -> socket.socket:
    """The last gate: called with the very address that is connected to, for literal addresses too."""
    family, kind, protocol, _, address = info
    check_address(address[0])
    return socket.socket(family=family, type=kind, proto=protocol)


class Connector(aiohttp.TCPConnector):
    """Makes connections that keep answers, to addresses that may be called now, and a new one for a call that asks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(socket_factory=_guarded_socket, **options)
        self.rates = AddressRates()
        keeper: type[ResponseHandler] = AnswerKeeper
        self._factory = partial(keeper, loop=self._loop)

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's own signature
        """A connection for the call that is under way. Raises `HeldAddressError` if its address is not to be called."""
        connection = await super().connect(req, traces, timeout)
        keeper = cast("AnswerKeeper", connection.protocol)
        if keeper.is_used and not self.rates.accepts(keeper.address):  # a new one was counted before it was made
            try:
                await self.rates.admit(keeper.address)
            except BaseException:
                connection.release()
                raise
        keeper.serve(current_exchange())
        return connection

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[ResolveResult]:
        """The addresses that may be connected to now; each counts as called, whether a connection comes up or not."""
        found = (await super()._resolve_host(host, port, traces))[:MAX_ADDRESSES]
        may, held = [], None
        for one in found:
            check_address(one["host"])
            try:
                await self.rates.admit(one["host"])
                may.append(one)
            except HeldAddressError as error:
                held = error
        if held is not None and not may:
            raise held
        current_exchange().address = may[0]["host"] if may else None
        return may

    async def _get(self, key: Any, traces: Any) -> Any:
        return None if current_exchange().fresh else await super()._get(key, traces)


def guarded_session(lookup: Lookup = system_lookup) -> aiohttp.ClientSession:
    """The client for strangers' URLs, without proxies and credentials from the environment, cookies and decompression.

    The number of connections is bounded by the caller. To be made and used in one event loop.
    """
    connector = Connector(
        resolver=GuardedResolver(lookup),
        ssl=create_ssl_context(),
        limit=0,
        keepalive_timeout=KEEPALIVE_SECONDS,
        ttl_dns_cache=DNS_TTL,
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_TIMEOUTS,
        auto_decompress=False,
        trust_env=False,
        max_field_size=MAX_HEAD,
        max_headers=MAX_HEADERS,
    )


@lru_cache(4096)
def wire_url(url: str) -> URL:
    """A judged `url` for aiohttp, to which the rest behind the host is one path: it goes out as it was registered.

    The host is the one that was judged; a second parser could see another. Raises `RefusedHostError` where the operator
    has come to refuse it since.
    """
    scheme, host, port, target = host_and_target(url)
    check_host_name(host)
    authority = f"[{host}]" if ":" in host else host
    return URL.build(scheme=scheme, authority=f"{authority}:{port}", path=target, encoded=True)


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorCertificateError, "The receiver's certificate is not valid"),
    (aiohttp.ClientConnectorDNSError, "The name cannot be resolved"),
    (aiohttp.ClientConnectorError, "The receiver cannot be connected to"),
    (aiohttp.ClientResponseError, "The receiver's answer is not valid HTTP"),
    (aiohttp.ClientPayloadError, "The receiver's answer is not valid HTTP"),
)
_BROKEN = "The receiver broke the connection"
# What `explained` says of most, with what the system or the library said.
SENTENCES = tuple(f"{words}: {{error}}" for words in dict.fromkeys([*(words for _, words in _KINDS), _BROKEN]))
# What a call can fail by.
CALL_ERRORS = (aiohttp.ClientError, OSError)


def explained(error: BaseException) -> tuple[str, bool]:
    """What went wrong with a call, in words for the URL's owner, and whether it was a time-out."""
    chain = [error]
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    forbidden = next((one for one in chain if isinstance(one, (ForbiddenAddressError, HeldAddressError))), None)
    if forbidden is not None:
        return str(forbidden), False
    if any(isinstance(one, TimeoutError) for one in chain):
        return "The receiver did not answer in time.", True
    kinds = (words for kind, words in _KINDS if any(isinstance(one, kind) for one in chain))
    words = next(kinds, _BROKEN)
    # Some of these show the URL, which its owner need not be told and which may hold a secret.
    said = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return f"{words}: {said}"[:500].replace("\0", "\ufffd"), False
