"""How often addresses that accept nothing are called: counted by address, over all accounts and processes.

Whoever may send can name any URL, so names, ports and accounts cost an attacker nothing; the address that is posted to
is what they have in common. One that accepted something lately is never counted or slowed, nor are the networks that
the operator allowed by name: those are the installation's own. A call counts before its connection is made, so that
closed and silent ports are no way around. While Valkey is away nothing is counted, but workers get no tasks either.
"""

import asyncio
import time
from dataclasses import dataclass
from functools import lru_cache

from app.core.throttling import network, run_shared
from app.webhooks.guard import is_allowed

# Calls in a minute to an address that accepted nothing lately.
MAX_CALLS = 120
ACCEPTED_SECONDS = 3600
# So many failures in a row and an address no longer counts as one that accepts.
MAX_FAILURES = 100
MAX_REMEMBERED = 10_000
_SHARED_EVERY = 300.0
_WINDOW_SECONDS = 60
_NAME = "webhook-address"

_COUNT = """
if redis.call('EXISTS', KEYS[1] .. ':accepted') == 1 then return {0, 0} end
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {n, redis.call('TTL', KEYS[1])}
"""
_ACCEPTED = "redis.call('DEL', KEYS[1]); redis.call('SET', KEYS[1] .. ':accepted', 1, 'EX', ARGV[1]); return {1}"
_NOT_ACCEPTED = "redis.call('DEL', KEYS[1] .. ':accepted'); return {1}"


_subject = lru_cache(4096)(network)


class HeldAddressError(OSError):
    """Raised in place of calling."""


@dataclass(slots=True)
class _Accepting:
    since: float
    failures: int = 0


class AddressRates:
    """What a process knows of the addresses it calls; what it does not know it asks the shared counters."""

    def __init__(self) -> None:
        self._accepting: dict[str, _Accepting] = {}
        self._held: dict[str, float] = {}
        self._sharing: set[asyncio.Future[list[int] | None]] = set()

    def check(self, address: str) -> None:
        """Raises `HeldAddressError` while this process knows that `address` is not to be called."""
        if (until := self._held.get(_subject(address))) is None:
            return
        if time.monotonic() < until:
            raise HeldAddressError(_sentence(address))
        self._held.pop(_subject(address), None)

    def accepts(self, address: str) -> bool:
        """Whether `address` accepted something lately, so that nobody counts how often it is called."""
        known = self._accepting.get(_subject(address))
        return known is not None and time.monotonic() < known.since + ACCEPTED_SECONDS

    async def admit(self, address: str) -> None:
        """Count a call to `address` that is about to be made. Raises `HeldAddressError` for one too many."""
        if self.accepts(address) or is_allowed(address):
            return
        self.check(address)
        counted = await asyncio.to_thread(run_shared, _NAME, _subject(address), _COUNT, _WINDOW_SECONDS)
        if counted and counted[0] > MAX_CALLS:
            if len(self._held) >= MAX_REMEMBERED:
                self._held.clear()
            self._held[_subject(address)] = time.monotonic() + max(1, counted[1])
            raise HeldAddressError(_sentence(address))

    def note(self, address: str, *, accepted: bool) -> None:
        """What a call to `address` came to."""
        subject, now = _subject(address), time.monotonic()
        known = self._accepting.get(subject)
        if accepted:
            self._held.pop(subject, None)
            if known and now < known.since + _SHARED_EVERY:
                known.failures = 0
                return
            if len(self._accepting) >= MAX_REMEMBERED:
                self._accepting.pop(next(iter(self._accepting)))
            self._accepting[subject] = _Accepting(now)
            self._share(subject, _ACCEPTED, ACCEPTED_SECONDS)
        elif known:
            known.failures += 1
            if known.failures >= MAX_FAILURES:
                del self._accepting[subject]
                self._share(subject, _NOT_ACCEPTED)

    def _share(self, subject: str, script: str, *arguments: int) -> None:
        told = asyncio.get_running_loop().run_in_executor(None, run_shared, _NAME, subject, script, *arguments)
        self._sharing.add(told)
        told.add_done_callback(self._sharing.discard)


def _sentence(address: str) -> str:
    return f"Not called: too many failed calls to {address} in the last minute."
