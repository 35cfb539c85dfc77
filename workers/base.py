"""The base of every task: what it does first, its one transaction, and its log line when it fails.

A task is a nudge: it carries an id at most, does one batch, and is safe to run twice, late, at the same time as another
one of its kind, or never.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from celery import Task
from sqlalchemy.exc import DBAPIError

from app.core import outbound
from app.core.database import transaction
from app.core.errors import is_locked
from app.core.names import TaskName
from app.core.queue import celery_app

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
    """Run one batch, `work(session, *arguments)`, in one transaction; once more after a deadlock or a lock time-out."""
    try:
        return _once(work, *arguments)
    except DBAPIError as error:
        if not is_locked(error):
            raise
        log.info("batch repeated", error=repr(error.orig))
        return _once(work, *arguments)


def _once(work: Callable[..., Any], *arguments: object) -> Any:
    with transaction() as session:
        return work(session, *arguments)
