"""The base of every task: what it does first, its one transaction, and its log line when it fails.

A task is a nudge: it carries an id at most, does one batch, and is safe to run twice, late, at the same time as another
one of its kind, or never.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import structlog
from celery import Task
from sqlalchemy.exc import SQLAlchemyError

from app.core import outbound
from app.core.database import repeat_once, transaction
from app.core.errors import is_locked
from app.core.queue import celery_app
from app.core.task_names import TaskName

MAX_SECONDS = 1.0

log = structlog.get_logger("workers")


def task(name: TaskName, **options: Any) -> Callable[[Callable[..., object]], Task]:
    """Declare a task that takes ids only. Its first act is to delete its nudge key, so later nudges are published."""

    def declare(body: Callable[..., object]) -> Task:
        @wraps(body)
        def run(*ids: int) -> None:
            structlog.contextvars.bind_contextvars(task=name.value)
            outbound.begin(name, *ids)
            body(*ids)

        declared: Task = celery_app().task(name=name.value, **options)(run)
        return declared

    return declare


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
) -> None:
    """Do `work(account)`, in batches of `most`, for each of `accounts(session, after)`: none costs another its turn.

    Each account is worked for on its own, until nothing is left or a second is over; what fails for one is logged, and
    passed over until the next tick. After a second the same task goes on behind the last account, at the tail.
    """
    deadline = time.monotonic() + MAX_SECONDS
    while found := in_transaction(accounts, after):
        for account in found:
            try:
                while work(account) >= most and time.monotonic() < deadline:
                    pass
            except SQLAlchemyError as error:
                log.warning("account skipped after an error", account=account, error=error)
            after = account
            if time.monotonic() >= deadline:
                in_transaction(outbound.nudge, name, after)
                return
