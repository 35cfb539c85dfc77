"""What one process has so much of, shared fairly: an account has at most half of what the others leave.

So the first to come has half of all, and there is always some left for the next.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from threading import Lock

from app.core.errors import TooManyAttempts

RETRY_AFTER_SECONDS = 1


class Shares:
    """So many of something; used from any thread."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._of: Counter[Hashable] = Counter()
        self._lock = Lock()

    def take(self, account: Hashable, size: int = 1) -> bool:
        """Whether the account gets so many more."""
        with self._lock:
            own = self._of[account] + size
            if own > max(1, (self._total - self._taken + self._of[account]) // 2) or self._taken + size > self._total:
                return False
            self._of[account] = own
            self._taken += size
            return True

    def give_back(self, account: Hashable, size: int = 1) -> None:
        with self._lock:
            self._taken -= size
            self._of[account] -= size
            if not self._of[account]:
                del self._of[account]

    @contextmanager
    def one(self, account: Hashable) -> Iterator[None]:
        """Have one of them for a while. Raises `TooManyAttempts`."""
        if not self.take(account):
            raise TooManyAttempts(RETRY_AFTER_SECONDS)
        try:
            yield
        finally:
            self.give_back(account)
