"""Limits on how often something may be tried, counted over all processes in Valkey.

While Valkey is away nothing is limited: signing in goes on.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.core.errors import TooManyAttempts
from app.core.once import once
from app.core.refusals import Refusal
from app.core.settings import get_settings

WINDOW_SECONDS = 60
_TIMEOUT_SECONDS = 0.25
_PAUSE_SECONDS = 1.0

# The window begins with its first try; its length never changes, so that trying on does not prolong it.
_HIT = """
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {n, redis.call('TTL', KEYS[1])}
"""
_FORGIVE = "if redis.call('EXISTS', KEYS[1]) == 1 then return redis.call('DECR', KEYS[1]) end"

log = structlog.get_logger(__name__)


class _Counters:
    """The process's way to the shared counters; gives up quickly, and pauses after it had to."""

    def __init__(self) -> None:
        self._client = redis.Redis.from_url(
            get_settings().redis_dsn,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._away_until = 0.0

    def run(self, script: str, key: str, *arguments: int) -> list[int] | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            answer: list[int] = self._client.eval(script, 1, key, *arguments)
        except redis.RedisError as error:
            self._away_until = time.monotonic() + _PAUSE_SECONDS
            log.warning("rate limits are off: shared counters are unreachable", error=error)
            return None
        return answer


@once
def _counters() -> _Counters:
    return _Counters()


def hit(name: str, subject: str, most: int, refusal: Refusal | None = None, *, window: int = WINDOW_SECONDS) -> None:
    """Count one try of `subject`. Raises `TooManyAttempts` for more than `most` in a minute, or in `window` seconds."""
    if answer := _counters().run(_HIT, _key(name, subject), window):
        tries, seconds_left = answer
        if tries > most:
            raise TooManyAttempts(max(1, seconds_left), refusal, limit=most)


def run_shared(name: str, subject: str, script: str, *arguments: int) -> list[int] | None:
    """What a script of the caller's own makes of the shared counter of `subject`; None while Valkey is away."""
    return _counters().run(script, _key(name, subject), *arguments)


@contextmanager
def failures(
    name: str, subject: str, most: int, counted: type[Exception], *, window: int = WINDOW_SECONDS
) -> Iterator[None]:
    """Allow a try where fewer than `most` ended with the exception `counted` in this minute, or in `window` seconds.

    A try is counted before it is made and taken back when it succeeds, so that many at once are no way around.
    """
    hit(name, subject, most, window=window)
    try:
        yield
    except counted:
        raise
    except Exception:
        _counters().run(_FORGIVE, _key(name, subject))
        raise
    _counters().run(_FORGIVE, _key(name, subject))


def _key(name: str, subject: str) -> str:
    return f"smsfleet:limit:{name}:{sha256(subject.encode()).hexdigest()[:32]}"


def network(address: str | None) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 customer has."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)
