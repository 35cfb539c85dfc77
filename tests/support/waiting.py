"""Waiting for what happens elsewhere: in another thread, in another process, in the database."""

import time
from collections.abc import Callable
from typing import Any

import anyio


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What `condition` gives, once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.02)
    return found


async def until_later(condition: Callable[[], Any], what: str = "it", seconds: float = 60) -> None:
    """As `until`, in an event loop that others need meanwhile."""
    with anyio.move_on_after(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for happens in another process)
            await anyio.sleep(0.01)
        return
    raise AssertionError(f"{what} did not come to be")
