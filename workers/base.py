"""The base of every task: what it does first, its one transaction, and its log line when it fails.

A task is a nudge: it carries an id at most, does one batch, and is safe to run twice, late, at the same time as another
one of its kind, or never.
"""

import math
import time
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import structlog
from celery import Task
from sqlalchemy.exc import SQLAlchemyError

from app.core import broker, metrics, outbound, tracing
from app.core.database import repeat_once, transaction
from app.core.errors import is_locked
from app.core.queue import celery_app
from app.core.task_names import TaskName

MAX_SECONDS = 1.0

log = structlog.get_logger("workers")


def task(name: TaskName, **options: Any) -> Callable[[Callable[..., object]], Task]:
    """Declare a task that takes ids only. Its first act is to delete its nudge key, so later nudges are published.

    What the body returns is a sentence of what it did, which Flower shows.
    """

    def declare(body: Callable[..., object]) -> Task:
        @wraps(body)
        def run(*ids: int) -> object:
            structlog.contextvars.bind_contextvars(task=name.value)
            outbound.begin(name, *ids)
            began = time.monotonic()
            try:
                with tracing.task(name.value, declared.request.get("traceparent")):
                    said = body(*ids)
            except Exception as error:
                metrics.observe_task(name.value, "failed", time.monotonic() - began)
                _notify_flower(declared, began, "task-failed", exception=repr(error), traceback=traceback.format_exc())
                raise
            metrics.observe_task(name.value, "done", time.monotonic() - began)
            if said:
                _notify_flower(declared, began, "task-succeeded", result=str(said))
            return said

        declared: Task = celery_app().task(name=name.value, **options)(run)
        return declared

    return declare


def _notify_flower(task: Task, began: float, outcome: str, **what: str) -> None:
    """Tell Flower of a tick that did something. Of ticks Celery itself tells nothing (`workers.app`)."""
    request = task.request
    if task.send_events or not request.hostname:
        return
    try:
        with task.app.events.default_dispatcher(request.hostname) as events:
            events.send(
                "task-received", uuid=request.id, name=task.name, args=repr(request.args), kwargs="{}", retries=0
            )
            events.send("task-started", uuid=request.id)
            events.send(outcome, uuid=request.id, runtime=time.monotonic() - began, **what)
    except broker.ERRORS as error:
        log.warning("Flower was not told of a tick", error=error)


def in_transaction(work: Callable[..., Any], *arguments: object) -> Any:
    """Run one batch, `work(session, *arguments)`, in one transaction; once more where that is likely to help."""

    def once() -> Any:
        with transaction() as session:
            return work(session, *arguments)

    return repeat_once(once, is_locked)


def account_by_account(
    name: TaskName,
    after: int,
    accounts: Callable[..., Sequence[int]],
    work: Callable[[int], int],
    most: float = math.inf,
) -> int:
    """Do `work(account)`, in batches of `most`, for each of `accounts(session, after)`: none costs another its turn.

    How much was done, as `work` counts it.

    Each account is worked for on its own, until nothing is left or a second is over; what fails for one is logged, and
    passed over until the next tick. After a second the same task goes on behind the last account, at the tail.
    """
    deadline = time.monotonic() + MAX_SECONDS
    total = 0
    while found := in_transaction(accounts, after):
        for account in found:
            try:
                while True:
                    done = work(account)
                    total += done
                    if done < most or time.monotonic() >= deadline:
                        break
            except SQLAlchemyError as error:
                log.warning("account skipped after an error", account=account, error=error)
            after = account
            if time.monotonic() >= deadline:
                in_transaction(outbound.nudge, name, after)
                return total
    return total
