"""Tasks of the event loop that run beside the requests, for as long as the server does."""

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.1


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them and wait until each has ended.

    One that is told so at the moment at which a time limit of a library runs out may go on as if it was only that, and
    the server would wait for it for ever; so it is told again.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
