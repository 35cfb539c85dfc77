"""An API process's signs of life: to its watchdog while its event loop turns, and to who asks for its heartbeat."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import redis
import structlog

from app.core import background, heartbeat, outages, watchdog
from app.core.outbound import get_redis

SIGN_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0

log = structlog.get_logger(__name__)


def watch() -> None:
    """Have this process watched; not where the application runs in a thread of a program that is another's."""
    if threading.current_thread() is threading.main_thread():
        watchdog.start()


@asynccontextmanager
async def signs_of_life() -> AsyncIterator[None]:
    """While the server runs."""
    tasks = [asyncio.create_task(_signs()), asyncio.create_task(_heartbeats())]
    try:
        yield
    finally:
        await background.end(tasks)
        await asyncio.to_thread(_end)


async def _signs() -> None:
    while True:
        watchdog.alive()
        await asyncio.sleep(SIGN_SECONDS)


async def _heartbeats() -> None:
    while True:
        await asyncio.to_thread(_note)
        await asyncio.sleep(HEARTBEAT_SECONDS)


def _end() -> None:
    with suppress(redis.RedisError):
        heartbeat.end(get_redis(), heartbeat.API, heartbeat.this_process())


def _note() -> None:
    try:
        heartbeat.note(get_redis(), heartbeat.API, heartbeat.this_process())
        outages.over("broker")
    except redis.RedisError as error:
        log.warning("the heartbeat was not written", error=error)
