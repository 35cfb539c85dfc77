"""The Celery application: queues, broker and worker settings. Tasks are defined in `workers/` and called by name."""

from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from celery import Celery
from celery.app.amqp import AMQP
from kombu import Connection, Exchange, Queue

from app.core.once import once
from app.core.settings import get_settings
from app.core.task_names import QueueName, TaskName

_RETRY = {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2}
RECONNECT_SECONDS = 2
EXCHANGE = Exchange("smsfleet")
REDIS_PREFIX = "smsfleet:"
REDIS_SCHEMES = frozenset({"redis", "rediss", "sentinel"})

_CONFIG = {
    "result_backend": None,
    "task_ignore_result": True,
    "task_serializer": "json",
    "accept_content": ["json"],
    "timezone": "UTC",
    "enable_utc": True,
    # A nudge is disposable: taken is done, so nothing is ever delivered a second time by the broker.
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_default_queue": QueueName.UPKEEP.value,
    "task_default_exchange": EXCHANGE.name,
    "task_routes": {name.value: {"queue": name.queue.value} for name in TaskName},
    "task_publish_retry_policy": _RETRY,
    "worker_prefetch_multiplier": 1,
    "worker_hijack_root_logger": False,
    "worker_send_task_events": True,
    "worker_soft_shutdown_timeout": 10.0,
    "worker_enable_soft_shutdown_on_idle": False,
    # Of those to be acknowledged late, so none; unset, Celery warns of it at each loss.
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "worker_enable_prefetch_count_reduction": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_pool_limit": 8,
    "broker_pool_acquire_timeout": 2.0,
}
_ON_REDIS: dict[str, Any] = {
    # One value everywhere: among all that share a broker the shortest timeout wins. No task lives longer than seconds.
    "visibility_timeout": 300,
    "broker_transport_options": {
        "visibility_timeout": 300,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "global_keyprefix": REDIS_PREFIX,
        "client_name": "smsfleet",
        **_RETRY,
    },
}
_ON_RABBITMQ: dict[str, Any] = {
    "broker_connection_timeout": 3.0,
    "broker_heartbeat": 10.0,
    "broker_transport_options": {"confirm_publish": True, "read_timeout": 10, "write_timeout": 10},
}
# Of questions to a sentinel: another one is asked then.
SENTINEL_TIMEOUTS: dict[str, Any] = {"socket_timeout": 1, "socket_connect_timeout": 1}
# Of RabbitMQ's queues the kind that outlives one of its nodes.
_REPLICATED = {"x-queue-type": "quorum"}


class _Connection(Connection):
    """Asks again every other second for a broker that is away; by itself it comes to wait for thirty."""

    def ensure_connection(self, *args: Any, **options: Any) -> Connection:
        return super().ensure_connection(*args, **{"interval_max": RECONNECT_SECONDS, **options})

    def _do_close_transport(self) -> None:
        # Without taking from the transport what it needs to connect, as kombu does: Celery drops the transport of a
        # lost connection, and only then do its channels give back, or acknowledge, what they had taken. They found
        # nothing to connect to, which is no error of a connection, and the worker ended.
        self._transport = None


class _Amqp(AMQP):
    Connection = _Connection


@once
def celery_app() -> Celery:
    """The process's Celery application; settings are read at the first call."""
    return celery_at(get_settings().broker_dsn, set_as_current=True)


def celery_at(broker: str, *, set_as_current: bool = False) -> Celery:
    """A Celery application for the broker at a URL; for those who watch an installation that is not their own."""
    app = Celery("smsfleet", amqp=_Amqp, set_as_current=set_as_current)
    app.conf.update(_CONFIG)
    use_broker(app, broker)
    return app


def use_broker(app: Celery, broker: str) -> None:
    """Let an application that has not connected yet use the broker at a URL."""
    watched = sentinels(broker)
    kind, arguments = (_ON_REDIS, None) if is_redis(broker) else (_ON_RABBITMQ, _REPLICATED)
    app.conf.update(kind, broker_url=watched.url if watched else broker)
    if watched:
        options = {"master_name": watched.master, "sentinel_kwargs": SENTINEL_TIMEOUTS}
        app.conf.broker_transport_options = kind["broker_transport_options"] | options
    app.conf.task_queues = [
        Queue(name.value, EXCHANGE, routing_key=name.value, queue_arguments=arguments) for name in QueueName
    ]


def is_redis(url: str) -> bool:
    """Whether the broker at this URL speaks the protocol of Redis; otherwise it is RabbitMQ."""
    return urlsplit(url).scheme in REDIS_SCHEMES


class Sentinels(NamedTuple):
    """Who says which server is the master: their addresses, its name, and how to sign in at it."""

    url: str
    master: str
    servers: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None
    database: int


def sentinels(url: str) -> Sentinels | None:
    """What a URL says, `sentinel://:password@host:26379;sentinel://host:26379/0?master_name=…`; None for others."""
    plain, _, query = url.partition("?")
    parts = [urlsplit(part) for part in plain.split(";")]
    if parts[0].scheme != "sentinel":
        return None
    return Sentinels(
        plain,
        parse_qs(query).get("master_name", ["mymaster"])[0],
        tuple((part.hostname or "", part.port or 26379) for part in parts),
        next((unquote(part.username) for part in parts if part.username), None),
        next((unquote(part.password) for part in parts if part.password), None),
        next((int(part.path.strip("/")) for part in parts if part.path.strip("/")), 0),
    )
