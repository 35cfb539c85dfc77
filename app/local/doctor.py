"""What `smsfleet doctor` looks at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import redis
from alembic.script import ScriptDirectory

from app.core import exposure
from app.core.connecting import pin_settings
from app.core.heartbeat import is_beat_ticking
from app.core.links import why_no_phone_reaches
from app.core.queue import celery_app
from app.core.settings import Settings
from app.core.task_names import QueueName
from app.local.exposure import address_for_phones
from app.local.folder import Runtime
from app.local.installation import answers
from app.migrations.config import alembic_config

OLDEST_POSTGRES, OLDEST_REDIS = 15, 7


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    good: bool
    detail: str
    note: bool = False  # nothing is broken, but someone should know


def examine(settings: Settings, runtime: Runtime | None) -> list[Finding]:
    """Look at the database, the broker, the workers and the HTTP side of an installation."""
    looks: list[Callable[[Settings], Iterator[Finding]]] = [_database, _broker, _workers, _reach]
    return [*(finding for look in looks for finding in look(settings)), *_processes(runtime)]


def _database(settings: Settings) -> Iterator[Finding]:
    wanted = ScriptDirectory.from_config(alembic_config()).get_current_head()
    try:
        with psycopg.connect(settings.database_dsn.replace("+psycopg", "", 1), connect_timeout=5) as connection:
            is_pooled = pin_settings(connection)
            yield _server(connection)
            if is_pooled:
                detail = "disabled, because the database is behind a pooler such as PgBouncer"
                yield Finding("prepared statements", good=True, detail=detail)
            found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except psycopg.errors.UndefinedTable:
        found = None
    except psycopg.Error as error:
        yield Finding("database", good=False, detail=str(error).strip())
        return
    schema = found[0] if found else "none"
    good = schema == wanted
    yield Finding(
        "schema",
        good=good,
        detail=schema if good else f"{schema}, but this version requires {wanted}: run `smsfleet migrate`",
    )


def _server(connection: psycopg.Connection) -> Finding:
    settings = "SELECT current_setting('server_version'), CAST(current_setting('server_version_num') AS integer),"
    row = connection.execute(settings + " current_setting('transaction_read_only') = 'on'").fetchone()
    assert row
    version, number, is_read_only = row
    if number < OLDEST_POSTGRES * 10_000:
        return Finding(
            "database", good=False, detail=f"PostgreSQL {version}, but {OLDEST_POSTGRES} or newer is required"
        )
    if is_read_only:
        detail = f"PostgreSQL {version} is read-only: it is a standby, or configured so"
        return Finding("database", good=False, detail=detail)
    return Finding("database", good=True, detail=f"PostgreSQL {version}")


def _broker(settings: Settings) -> Iterator[Finding]:
    try:
        with redis.Redis.from_url(settings.redis_dsn, decode_responses=True, socket_timeout=5) as client:
            version = client.info("server")["redis_version"]
            client.set("health", 1, px=1000)
            policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
            is_ticking = is_beat_ticking(client)
    except (redis.RedisError, ValueError) as error:  # ValueError: not the form of a URL
        yield Finding("broker", good=False, detail=str(error))
        return
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        yield Finding("broker", good=False, detail=f"version {version}, but {OLDEST_REDIS}.0 or newer is required")
    else:
        yield Finding("broker", good=True, detail=f"version {version}, accepts writes")
    yield Finding("ticks", good=is_ticking, detail="sent by beat" if is_ticking else "none from beat for 30 seconds")
    yield Finding("eviction", good=policy == "noeviction", detail=f"maxmemory-policy is {policy}")


def _workers(_settings: Settings) -> Iterator[Finding]:
    try:
        consumed = celery_app().control.inspect(timeout=2).active_queues() or {}
    except Exception as error:  # noqa: BLE001 - a broker is down in many ways; that is what is to be said
        yield Finding("workers", good=False, detail=f"the broker cannot be reached: {error}")
        return
    for queue in QueueName:
        names = [worker for worker, queues in consumed.items() if any(entry["name"] == queue for entry in queues)]
        yield Finding(f"queue {queue}", good=bool(names), detail=", ".join(sorted(names)) or "no worker consumes it")


def _reach(settings: Settings) -> Iterator[Finding]:
    is_open = settings.registration == "open" and not settings.is_local
    yield Finding("registration", good=True, detail=exposure.registration(settings), note=is_open)
    is_reached = exposure.reaches_loopback(settings) and not settings.is_local
    yield Finding("webhooks", good=True, detail=exposure.webhook_reach(settings), note=is_reached)
    url = address_for_phones(settings)
    trouble = why_no_phone_reaches(url)
    yield Finding("address for phones", good=True, detail=trouble or url, note=trouble is not None)


def _processes(runtime: Runtime | None) -> Iterator[Finding]:
    if runtime is None:
        return
    yield Finding("gateway", good=answers(runtime.url + "/health/ready"), detail=runtime.url)
    for process in runtime.processes:
        yield Finding(process.name, good=process.runs, detail=f"process {process.pid}")
