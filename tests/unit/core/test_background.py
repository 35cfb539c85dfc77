"""Tasks that run beside the requests, and their end."""

import asyncio
from contextlib import suppress

from app.core import background


def test_a_task_that_misses_its_cancellation_is_told_again() -> None:
    async def run() -> None:
        async def misses_one() -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)

        tasks = [asyncio.create_task(misses_one()), asyncio.create_task(asyncio.sleep(60))]
        await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await background.end(tasks)
        assert all(task.cancelled() for task in tasks)

    asyncio.run(run())


def test_without_tasks_there_is_nothing_to_end() -> None:
    asyncio.run(background.end(()))
