"""The base of every task: what it does first, its one transaction, and its log line when it fails.

A task is a nudge: it carries an id at most, does one batch, and is safe to run twice, late, at the same time as another
one of its kind, or never.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from celery import Task

from app.core import outbound
from app.core.database import repeat_once, transaction
from app.core.errors import is_locked
from app.core.names import TaskName
from app.core.queue import celery_app


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
