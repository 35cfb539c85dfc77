"""The broker, the server of limits and wakes where that is another one, and who works by the marks in it."""

import redis

from app.checks.finding import Finding, Findings, broken, duration, ok, warning
from app.core import broker, heartbeat
from app.core.outbound import CLOCKS_DIFFER_SECONDS
from app.core.queue import is_redis
from app.core.settings import Settings
from app.core.task_names import QueueName

OLDEST_REDIS = 7
# A queue holds nudges, which coalesce: it is short by design, whatever is to be sent.
MAX_QUEUED = 1000
_KEPT = "maxmemory-policy"


def look(settings: Settings) -> Findings:
    is_apart = settings.broker_dsn != settings.redis_dsn
    name = "valkey" if is_apart else "broker"
    try:
        yield from _redis(name, settings.redis_dsn)
        if not is_apart:
            yield from _keeps_all(settings.redis_dsn)
        with broker.redis_at(settings.redis_dsn) as client:
            yield from _workers(client)
    except (redis.RedisError, ValueError) as error:  # ValueError: not the form of a URL
        yield broken(name, str(error), "check that Valkey or Redis runs, accepts writes, and SMSFLEET_REDIS_URL")
        if not is_apart:
            return
    try:
        if is_apart:
            yield from _apart(settings)
        yield from _queues(settings)
    except (*broker.ERRORS, ValueError) as error:
        yield broken("broker", str(error), "check that it runs, that it has room, and SMSFLEET_BROKER_URL")


def _apart(settings: Settings) -> Findings:
    if is_redis(settings.broker_dsn):
        yield from _redis("broker", settings.broker_dsn)
        yield from _keeps_all(settings.broker_dsn)
    else:
        yield ok("broker", f"{broker.name(settings)} answers")


def _redis(what: str, url: str) -> Findings:
    with broker.redis_at(url) as client:
        server = client.info("server")
        client.set("health", 1, px=1000)
    if int(server["redis_version"].partition(".")[0]) < OLDEST_REDIS:
        advice = f"update it to {OLDEST_REDIS}.0 or newer"
        yield broken(what, f"version {server['redis_version']}", advice)
    else:
        yield ok(what, f"version {broker.version(server)}, accepts writes")


def _keeps_all(url: str) -> Findings:
    """Whether the queues in it may be thrown away."""
    with broker.redis_at(url) as client:
        memory = client.info("memory")
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
    yield _clocks(client, sorted({name for ages in found.values() for name in ages}))


def _clocks(client: redis.Redis, names: list[str]) -> Finding:
    """Of workers and beat, which may be on other machines than this one."""
    off = {name: ahead for name, ahead in heartbeat.clocks(client, names).items() if abs(ahead) > CLOCKS_DIFFER_SECONDS}
    if not off:
        return ok("clocks of workers", "they and beat agree with Valkey's")
    told = [f"{name} by {duration(abs(ahead))}" for name, ahead in off.items()]
    return broken(
        "clocks of workers",
        f"they differ from Valkey's: {', '.join(told)}",
        "synchronize their machines by NTP: what is sent to them is out of date when it comes, and they do none of it",
    )


def _heartbeat(what: str, ages: dict[str, int], trouble: str, advice: str) -> Finding:
    working = sorted(name for name, age in ages.items() if age < heartbeat.LASTS_SECONDS)
    if working:
        return ok(what, ", ".join(working))
    seen = f"; {min(ages, key=lambda name: ages[name])} did {duration(min(ages.values()))} ago" if ages else ""
    return broken(what, trouble + seen, f"{advice}, or see in its log why it ended")


def _queues(settings: Settings) -> Findings:
    for queue, length in broker.lengths(settings).items():
        if length > MAX_QUEUED:
            yield warning(
                f"length of queue {queue}",
                f"{length} tasks wait",
                f"the workers of {queue} do not keep up: see in Flower what takes them so long, or add one",
            )
