"""The broker, and who works by the marks that are left there."""

import redis

from app.core import heartbeat
from app.core.settings import Settings
from app.core.task_names import QueueName
from app.local.checks.finding import Finding, Findings, broken, duration, ok, warning

OLDEST_REDIS = 7
# A queue holds nudges, which coalesce: it is short by design, whatever is to be sent.
MAX_QUEUED = 1000
_KEPT = "maxmemory-policy"


def look(settings: Settings) -> Findings:
    try:
        with redis.Redis.from_url(settings.redis_dsn, socket_timeout=5) as client:
            yield from _server(client)
            yield from _workers(client)
            yield from _queues(client)
    except (redis.RedisError, ValueError) as error:  # ValueError: not the form of a URL
        yield broken("broker", str(error), "check that Valkey or Redis runs, accepts writes, and SMSFLEET_REDIS_URL")


def _server(client: redis.Redis) -> Findings:
    server, memory = client.info("server"), client.info("memory")
    client.set("health", 1, px=1000)
    version = server["redis_version"]
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        yield broken("broker", f"version {version}", f"update it to {OLDEST_REDIS}.0 or newer")
    else:
        yield ok("broker", f"version {version}, accepts writes")
    policy = memory["maxmemory_policy"]
    if policy == "noeviction":
        yield ok("eviction", f"{_KEPT} is {policy}")
    else:
        yield broken("eviction", f"{_KEPT} is {policy}: it may throw queues away", f"set {_KEPT} noeviction")
    most = int(memory["maxmemory"])
    if most and int(memory["used_memory"]) > most * 0.7:
        used = round(100 * int(memory["used_memory"]) / most)
        yield warning("broker's memory", f"{used} % of its limit is in use", "raise maxmemory")


def _workers(client: redis.Redis) -> Findings:
    found = heartbeat.ages(client, *heartbeat.NEEDED)
    for queue in QueueName:
        yield _heartbeat(
            f"queue {queue}", found[queue], "no worker takes tasks from it", f"start `celery … worker -Q {queue}`"
        )
    yield _heartbeat("ticks", found[heartbeat.BEAT], "none from beat for 30 seconds", "start `celery … beat`")


def _heartbeat(what: str, ages: dict[str, int], trouble: str, advice: str) -> Finding:
    working = sorted(name for name, age in ages.items() if age < heartbeat.LASTS_SECONDS)
    if working:
        return ok(what, ", ".join(working))
    seen = f"; {min(ages, key=lambda name: ages[name])} did {duration(min(ages.values()))} ago" if ages else ""
    return broken(what, trouble + seen, f"{advice}, or see in its log why it ended")


def _queues(client: redis.Redis) -> Findings:
    for queue in QueueName:
        length = int(client.llen(f"smsfleet:{queue}"))
        if length > MAX_QUEUED:
            yield warning(
                f"length of queue {queue}",
                f"{length} tasks wait",
                f"the workers of {queue} do not keep up: see in Flower what takes them so long, or add one",
            )
