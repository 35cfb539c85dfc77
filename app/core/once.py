"""Objects that a process has one of."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class once(Generic[Made]):  # noqa: N801 - used as a decorator
    """Runs a function without arguments at the first call and gives its result ever after.

    Unlike a cache, it runs once also where several threads make the first call together. `made` is None before that.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self.made: Made | None = None

    def __call__(self) -> Made:
        with self._lock:
            if self.made is None:
                self.made = self._make()
            return self.made

    def cache_clear(self) -> None:
        """Forget the result; for tests that change the settings."""
        self.made = None
