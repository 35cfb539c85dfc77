"""The task that posts webhooks. It feeds the process's sender and returns; `app/webhooks/delivery.py` does the rest."""

from typing import Any

from celery.signals import worker_shutdown, worker_shutting_down

from app.core.task_names import TaskName
from app.webhooks import delivery
from app.webhooks.client import TOTAL_SECONDS
from workers.base import task


@task(TaskName.DELIVER)
def deliver() -> str:
    """Post every user's due webhooks, in turn."""
    return f"started {delivery.deliverer().feed()} calls"


@worker_shutting_down.connect
def _stop_claiming(**_: Any) -> None:
    delivery.stop()


@worker_shutdown.connect
def _finish_calls(**_: Any) -> None:
    delivery.drain(TOTAL_SECONDS + 1)
