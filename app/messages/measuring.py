"""What Prometheus is shown of the gateway's state: looked up when it asks, so true also where nobody works."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core import broker, heartbeat
from app.core.database import transaction
from app.core.outbound import get_redis
from app.core.queue import is_redis
from app.core.settings import get_settings
from app.devices.presence import ONLINE
from app.messages.states import Stage

# Of so many that came first; a healthy queue has fewer, and in one that stands still the oldest are among them.
_LOOKED_AT = 10_000
_BRIEFLY = text("SET LOCAL statement_timeout = '2s'")
_STAGES = {Stage.WAITING: "routed", Stage.RELEASED: "released", Stage.ACCEPTED: "accepted"}

log = structlog.get_logger(__name__)

# What waits for a phone by the time it began to, what a phone was given by the time it got it.
_MESSAGES = text(f"""
    SELECT CASE WHEN stage = {Stage.WAITING} AND device_id = 0 THEN 'queued'
                {" ".join(f"WHEN stage = {stage} THEN '{name}'" for stage, name in _STAGES.items())} END AS stage,
           EXTRACT(EPOCH FROM clock_timestamp() - min(COALESCE(accepted_at, released_at, since))) AS age
    FROM (SELECT stage, device_id, since, released_at, accepted_at FROM message_queue
          WHERE stage <> {Stage.HELD}
            AND message_id >= COALESCE((SELECT min(lower(numbers)) FROM queue_marks WHERE user_id > 0), 0)
          ORDER BY message_id LIMIT {_LOOKED_AT}) AS q
    GROUP BY 1
""")  # noqa: S608 - constants
_WEBHOOKS = text(f"""
    SELECT EXTRACT(EPOCH FROM clock_timestamp() - min(q.next_attempt_at)) FROM (
        SELECT user_id, origin, next_attempt_at, lease_until FROM webhook_queue ORDER BY delivery_id LIMIT {_LOOKED_AT}
    ) AS q LEFT JOIN webhook_targets t ON t.user_id = q.user_id AND t.origin = q.origin
    WHERE q.next_attempt_at < clock_timestamp() AND q.lease_until IS NULL AND COALESCE(t.fail_count, 0) = 0
""")  # noqa: S608 - constants
_FAILING = text("SELECT count(*) FROM webhook_targets WHERE fail_count >= 3")
_PHONES = text(f"""
    SELECT CASE WHEN NOT d.is_active THEN 'disabled' WHEN {ONLINE} THEN 'online' ELSE 'away' END AS state, count(*) AS n
    FROM devices d JOIN device_state s ON s.device_id = d.id WHERE d.removed_at IS NULL GROUP BY 1
""")  # noqa: S608 - constants
_DATABASE = text("""
    SELECT EXTRACT(EPOCH FROM clock_timestamp()) AS now,
           CAST(current_setting('max_connections') AS integer) AS places,
           count(*) FILTER (WHERE backend_type = 'client backend') AS taken,
           COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(xact_start)
               FILTER (WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())), 0) AS oldest
    FROM pg_stat_activity
""")
_ROWS = text("SELECT relname, n_live_tup FROM pg_stat_user_tables WHERE relname IN ('message_queue', 'webhook_queue')")


def measure() -> Iterable[Metric]:
    return [*_of_database(), *_of_broker(), *_of_disk()]


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"smsfleet_{name}", about, value=float(value))


def _gauges(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"smsfleet_{name}", about, labels=[label])
    for word, value in values.items():
        family.add_metric([word], float(value))
    return family


def _of_database() -> Iterator[Metric]:
    found: list[Metric] = []
    try:
        with transaction() as session:
            session.execute(_BRIEFLY)
            found = [*_work(session), *_server(session)]
    except SQLAlchemyError as error:
        log.warning("figures of the database are left out", error=error)
    yield _gauge("database_up", "Whether the database answers", bool(found))
    yield from found


def _work(session: Session) -> Iterator[Metric]:
    stages = dict.fromkeys(("queued", *_STAGES.values()), 0.0)
    stages |= {row.stage: row.age for row in session.execute(_MESSAGES)}
    yield _gauges("oldest_message_age_seconds", "Age of the oldest message that waits, by stage", "stage", stages)
    overdue = session.scalar(_WEBHOOKS) or 0
    yield _gauge("oldest_webhook_age_seconds", "How long a delivery is overdue whose receiver answers", overdue)
    yield _gauge("webhook_targets_failing", "Receivers that failed three times in a row", session.scalar(_FAILING) or 0)
    phones = {"online": 0.0, "away": 0.0, "disabled": 0.0} | {row.state: row.n for row in session.execute(_PHONES)}
    yield _gauges("phones", "Phones, by state", "state", phones)
    rows = {row.relname: row.n_live_tup for row in session.execute(_ROWS)}
    yield _gauges("queue_rows", "Rows of the queues in the database, about", "queue", rows)


def _server(session: Session) -> Iterator[Metric]:
    row = session.execute(_DATABASE).one()
    yield _gauge("clock_difference_seconds", "The database's clock less this machine's", float(row.now) - time.time())
    yield _gauge("database_connections", "Connections that are open to the database", row.taken)
    yield _gauge("database_connections_max", "Connections that the database allows", row.places)
    yield _gauge("oldest_transaction_age_seconds", "Age of the oldest open transaction", row.oldest)


def _of_broker() -> Iterator[Metric]:
    found: list[Metric] = []
    try:
        found = list(_broker())
    except broker.ERRORS as error:
        log.warning("figures of the broker are left out", error=error)
    yield _gauge("broker_up", "Whether the broker accepts writes", bool(found))
    yield from found


def _broker() -> Iterator[Metric]:
    settings = get_settings()
    broker.check(settings)
    if is_redis(settings.broker_dsn):
        with broker.redis_at(settings.broker_dsn) as tasks:
            memory = tasks.info("memory")
        most, used = int(memory["maxmemory"]), int(memory["used_memory"])
        yield _gauge("broker_evicts", "Whether it may throw queues away", memory["maxmemory_policy"] != "noeviction")
        yield _gauge("broker_memory_ratio", "Memory used, of its limit", used / most if most else 0)
    lengths = {queue: float(length) for queue, length in broker.lengths(settings).items()}
    yield _gauges("broker_queue_length", "Tasks that wait in the broker", "queue", lengths)
    ages = heartbeat.ages(get_redis(), *heartbeat.NEEDED, heartbeat.API)
    latest = {kind: min(found.values(), default=3600) for kind, found in ages.items()}
    yield _gauges("heartbeat_age_seconds", "Since some process of the kind said that it works", "kind", latest)
    working = {kind: sum(age < heartbeat.LASTS_SECONDS for age in found.values()) for kind, found in ages.items()}
    yield _gauges("processes_working", "Processes that say that they work", "kind", working)


def _of_disk() -> Iterator[Metric]:
    folder = get_settings().data_dir.resolve()
    place = next(one for one in (folder, *folder.parents) if one.exists())
    usage = shutil.disk_usage(place)
    yield _gauge("disk_free_bytes", "Room that is left where the data folder is", usage.free)
    yield _gauge("disk_bytes", "Size of the disk where the data folder is", usage.total)
