"""The marks that working processes leave in Valkey every few seconds, for who asks whether the gateway works.

One that is asked to end takes its mark with it; so who begins and finds the mark of its name knows that it died.
A worker leaves its mark when a task that it sent to itself came back through the broker and its pool, beat when it sent
its ticks, an API process when its event loop turned.
"""

import os
import socket
import sys
import time
from collections.abc import Sequence

import redis

from app.core.task_names import QueueName

LASTS_SECONDS = 30
# Older than a mark gets of a process that has time to leave the next one.
LATE_SECONDS = 15
# So long it is told that a process died.
TOLD_SECONDS = 600
_FORGOTTEN_SECONDS = 3600

BEAT = "beat"
API = "api"
_DEATHS = "died"
# Whatever a healthy gateway has: workers of each queue, and something that ticks.
NEEDED = (*QueueName, BEAT)


def this_process() -> str:
    """A name that no other process of the installation has now."""
    return f"{os.getpid()}@{socket.gethostname()}"


def note(client: redis.Redis, kind: str, name: str) -> None:
    """Say that the process `name` works, by the clock that all ask."""
    now, microseconds = client.time()
    with client.pipeline() as pipeline:
        pipeline.set(_clock(name), round(time.time() - now - microseconds / 1e6, 1), ex=LASTS_SECONDS)
        pipeline.zadd(_key(kind), {name: now})
        pipeline.zremrangebyscore(_key(kind), 0, now - _FORGOTTEN_SECONDS)
        pipeline.expire(_key(kind), _FORGOTTEN_SECONDS)
        pipeline.execute()


def clocks(client: redis.Redis, names: Sequence[str]) -> dict[str, float]:
    """How many seconds the clocks of these processes are ahead of Valkey's, of those that said so lately."""
    found = client.mget([_clock(name) for name in names]) if names else []
    return {name: float(ahead) for name, ahead in zip(names, found, strict=True) if ahead is not None}


def end(client: redis.Redis, kind: str, name: str) -> None:
    """The process ends as it was asked to, and nobody is to miss it."""
    client.zrem(_key(kind), name)


def begin(client: redis.Redis, kind: str, name: str) -> None:
    """A process of this name begins, which one that died before it had too. Before its first mark."""
    if client.zscore(_key(kind), name) is None:
        return
    now, _ = client.time()
    with client.pipeline() as pipeline:
        pipeline.zadd(_DEATHS, {name: now})
        pipeline.zremrangebyscore(_DEATHS, 0, now - TOLD_SECONDS)
        pipeline.expire(_DEATHS, TOLD_SECONDS)
        pipeline.execute()


def deaths(client: redis.Redis) -> dict[str, int]:
    """The processes that died and were started again within ten minutes, and how many seconds ago that was."""
    now, _ = client.time()
    with client.pipeline(transaction=False) as pipeline:
        pipeline.zrangebyscore(_DEATHS, now - TOLD_SECONDS, "+inf", withscores=True)
        [found] = pipeline.execute()
    return {name.decode(): max(0, now - int(at)) for name, at in found}


def ages(client: redis.Redis, *kinds: str) -> dict[str, dict[str, int]]:
    """By kind and process, how many seconds ago each last said that it works; those of the last hour."""
    now, _ = client.time()
    with client.pipeline(transaction=False) as pipeline:
        for kind in kinds:
            pipeline.zrange(_key(kind), 0, -1, withscores=True)
        found = pipeline.execute()
    return {
        kind: {name.decode(): max(0, now - int(at)) for name, at in marks}
        for kind, marks in zip(kinds, found, strict=True)
    }


def working(client: redis.Redis, *kinds: str) -> dict[str, bool]:
    """Of which kinds some process works."""
    found = ages(client, *kinds)
    return {kind: any(age < LASTS_SECONDS for age in found[kind].values()) for kind in kinds}


def is_working(client: redis.Redis, kind: str, name: str | None = None) -> bool:
    """Whether the process `name`, or any of its kind, works."""
    return any(age < LASTS_SECONDS and name in {None, found} for found, age in ages(client, kind)[kind].items())


def _key(kind: str) -> str:
    return f"alive:{kind}"


def _clock(name: str) -> str:
    return f"clock:{name}"


def _exit_code(words: list[str]) -> bool | str:
    """Of a container's health check, `python -m app.core.heartbeat KIND [NAME]`; a sentence makes it 1 too."""
    from app.core.outbound import get_redis  # noqa: PLC0415 - for the check alone

    if not words:
        return f"name what is to work, one of {', '.join(NEEDED)}, and which of them"
    try:
        return not is_working(get_redis(), *words)
    except redis.RedisError as error:
        return f"Valkey cannot be reached: {error}"


if __name__ == "__main__":
    sys.exit(_exit_code(sys.argv[1:3]))
