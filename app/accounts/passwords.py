"""Passwords: Argon2id, and the same work for an e-mail that nobody has."""

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

# 19 MiB and two passes, as OWASP advises: some 20 ms. Few at once, so that a wave of sign-ins cannot take the memory.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_at_once = threading.BoundedSemaphore(4)
_NOBODY = _hasher.hash("nobody has this password")


def hash_password(password: str) -> str:
    with _at_once:
        return _hasher.hash(password)


def matches(stored: str | None, password: str) -> bool:
    """Whether `password` is the one of `stored`; takes as long where there is none to compare with."""
    with _at_once:
        try:
            _hasher.verify(stored or _NOBODY, password)
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def renewed(stored: str | None, password: str) -> str | None:
    """A new hash where `stored` was made with other parameters than today's."""
    return hash_password(password) if stored and _hasher.check_needs_rehash(stored) else None
