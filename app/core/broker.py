"""The broker of the tasks, whichever it is: whether it accepts them, how many wait in it, what it is.

Each call opens a connection of its own, because it is asked seldom and has to tell what a new process would meet.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from amqp.exceptions import AMQPError, NotFound
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.sentinel import Sentinel

from app.core.queue import REDIS_PREFIX, SENTINEL_TIMEOUTS, is_redis, sentinels
from app.core.settings import Settings
from app.core.task_names import QueueName

ERRORS = (redis.RedisError, OperationalError, AMQPError, OSError)
"""What a broker that is away, or refuses, is met with."""

_SECONDS = 2.0


def check(settings: Settings) -> None:
    """Raise one of `ERRORS` unless the broker, and the server of limits and wakes, accept writes."""
    for url in {settings.redis_dsn, settings.broker_dsn}:
        if is_redis(url):
            with redis_at(url) as client:
                client.set("health", 1, px=1000)
        else:
            with _amqp_at(url):
                pass


def lengths(settings: Settings) -> dict[str, int]:
    """How many tasks wait, by queue."""
    if is_redis(settings.broker_dsn):
        with redis_at(settings.broker_dsn) as client:
            return {queue.value: int(client.llen(f"{REDIS_PREFIX}{queue}")) for queue in QueueName}
    with _amqp_at(settings.broker_dsn) as connection:
        return {queue.value: _waiting(connection, queue) for queue in QueueName}


def name(settings: Settings) -> str:
    """Its kind and version."""
    if is_redis(settings.broker_dsn):
        with redis_at(settings.broker_dsn) as client:
            return version(client.info("server"))
    with _amqp_at(settings.broker_dsn) as connection:
        told = connection.connection.server_properties
        return f"{told['product']} {told['version']}"


def version(server: dict[str, Any]) -> str:
    return str(server.get("valkey_version") or server["redis_version"])


@contextmanager
def redis_at(url: str) -> Iterator[redis.Redis]:
    """A client for a check, of the master where sentinels say who that is."""
    watched = sentinels(url)
    timeouts: dict[str, Any] = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
    if watched is None:
        with redis.Redis.from_url(url, **timeouts) as client:
            yield client
        return
    asked: Any = Sentinel(watched.servers, sentinel_kwargs=SENTINEL_TIMEOUTS)  # type: ignore[no-untyped-call]
    try:
        host, port = asked.discover_master(watched.master)
        user: dict[str, Any] = {"username": watched.username, "password": watched.password}
        with redis.Redis(host, port, db=watched.database, **user, **timeouts) as client:
            yield client
    finally:
        for one in asked.sentinels:
            one.close()


@contextmanager
def _amqp_at(url: str) -> Iterator[Any]:
    with Connection(url, connect_timeout=_SECONDS) as connection:
        connection.connect()
        yield connection


def _waiting(connection: Any, queue: str) -> int:
    """None has waited in a queue that no worker has made yet."""
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            return 0
