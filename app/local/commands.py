"""The commands of smsfleet's own processes. `docker-compose.yml` runs the same ones; a test compares them."""

import sys

from app.core.task_names import QueueName
from app.features import PACKAGES

_CELERY = (sys.executable, "-m", "celery", "--quiet", "-A")
_WORKERS = (*_CELERY, "workers.app")
ALL_QUEUES = ",".join(QueueName)
CONCURRENCY = {"dispatch": 4, "webhooks": 1, "upkeep": 4, ALL_QUEUES: 6}

# What the processes of `up` share.
PRELOADED = (
    "app.main", "app.core.connections", "uvicorn", "uvicorn.loops.uvloop", "uvicorn.lifespan.on",
    "celery.bin.celery", "celery.apps.worker", "celery.worker.components", "celery.concurrency.thread",
    "kombu.transport.redis", "workers.app", *(package.tasks for package in PACKAGES if package.tasks),
)  # fmt: skip

MIGRATE = (sys.executable, "-m", "app.cli", "migrate")


def forkserver(control: int) -> tuple[str, ...]:
    """The parent that the other processes of `up` are forked from. `control`: the socket that it is asked at."""
    return (sys.executable, "-m", "app.local.forkserver", str(control), *PRELOADED)


def api(*where: str) -> tuple[str, ...]:
    """The HTTP side. `where`: `--fd N`, or `--host` and `--port`."""
    # fmt: off
    return (
        sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", *where, "--workers", "1",
        "--http", "app.core.connections:Connection", "--no-proxy-headers", "--no-access-log",
        "--log-level", "warning", "--timeout-graceful-shutdown", "10",
    )
    # fmt: on


def worker(queue: str, name: str) -> tuple[str, ...]:
    """A Celery worker of a queue, or of `ALL_QUEUES`, with threads: it waits for the database and the network."""
    # fmt: off
    return (
        *_WORKERS, "worker", "-Q", queue, "-n", f"{name}@%h", "-P", "threads", "-c", str(CONCURRENCY[queue]), "-E",
        "--without-gossip", "--without-mingle", "--loglevel", "warning",
    )
    # fmt: on


# The clock of the sweep.
BEAT = (*_WORKERS, "beat", "--loglevel", "warning")


def flower(address: str, port: int, state: str) -> tuple[str, ...]:
    """Flower; its user and password come by `FLOWER_BASIC_AUTH`, because anyone may read a command line.

    The file `state` keeps the tasks that it shows over a restart.
    """
    # fmt: off
    return (
        *_CELERY, "workers.flower", "flower", f"--address={address}", f"--port={port}", "--max-tasks=10000",
        "--max-workers=200", "--url-prefix=flower", "--persistent=True",
        f"--db={state}", "--state-save-interval=60000", "--logging=error",
    )
    # fmt: on
