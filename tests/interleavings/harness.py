"""Tries one piece of work against another at a chosen moment: stopped between two statements, or before its commit.

The first runs in a thread of its own, with its own session, until it is about to execute its n-th statement (a commit
counts as one). There it stands still, with the locks it has, while the whole of the second runs. Where the second has
to wait for what the first holds, the first goes on, as it would.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Engine, event

_BLOCKED = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = %s)"
_POLL_SECONDS = 0.001
_MAX_SECONDS = 20

_runners: dict[int, "Runner"] = {}


class Runner(threading.Thread):
    """A piece of work in a thread. It stops before statement `stop_at`, counted from 1; 0 never stops."""

    def __init__(self, work: Callable[[], Any], stop_at: int = 0) -> None:
        super().__init__(daemon=True)
        self.result: Any = None
        self.error: Exception | None = None
        self.errors: list[str] = []
        self.statement = ""
        self.backend = 0
        self.stopped = False
        self.waits = False
        self._work, self._stop_at = work, stop_at
        self._statements = 0
        self._stopped_or_ended = threading.Event()
        self._go = threading.Event()

    def run(self) -> None:
        _runners[threading.get_ident()] = self
        try:
            self.result = self._work()
        except Exception as error:  # noqa: BLE001 - judged by who asked for the work
            self.error = error
        finally:
            del _runners[threading.get_ident()]
            self._stopped_or_ended.set()

    def reach(self, statement: str) -> None:
        self._statements += 1
        if self._statements == self._stop_at:
            self.stopped, self.statement = True, statement
            self._stopped_or_ended.set()
            assert self._go.wait(_MAX_SECONDS)

    def go_on(self) -> None:
        self._go.set()

    def wait_stopped(self) -> bool:
        """Whether it stopped; False where it has ended before."""
        assert self._stopped_or_ended.wait(_MAX_SECONDS)
        return self.stopped


def runner() -> Runner:
    """The one whose work this thread does."""
    return _runners[threading.get_ident()]


@event.listens_for(Engine, "before_cursor_execute")
def _before_statement(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if found := _runners.get(threading.get_ident()):
        found.backend = connection.connection.dbapi_connection.info.backend_pid
        found.reach(" ".join(statement.split()))


@event.listens_for(Engine, "commit")
def _before_commit(_: Any) -> None:
    if found := _runners.get(threading.get_ident()):
        found.reach("COMMIT")


@event.listens_for(Engine, "handle_error")
def _note_error(context: Any) -> None:
    if found := _runners.get(threading.get_ident()):
        found.errors.append(getattr(context.original_exception, "sqlstate", None) or repr(context.original_exception))


@dataclass
class Tried:
    """The first was stopped before `statement`; `blocked`: the second had to wait for it."""

    statement: str
    blocked: bool
    first: Runner
    second: Runner

    @property
    def errors(self) -> list[str]:
        return self.first.errors + self.second.errors


def interleave(
    first: Callable[[], Any], second: Callable[[], Any], at: int, observer: psycopg.Connection
) -> Tried | None:
    """Run the whole of `second` while `first` stands before its statement `at`. None where it has fewer statements."""
    one = Runner(first, at)
    one.start()
    if not one.wait_stopped():
        one.join()
        return None
    two = Runner(second)
    two.start()
    blocked = False
    try:
        while two.is_alive() and not (blocked := two.waits or _is_blocked(two, observer)):
            two.join(_POLL_SECONDS)
    finally:
        one.go_on()
    one.join(_MAX_SECONDS)
    two.join(_MAX_SECONDS)
    assert not one.is_alive(), f"the first never ended after {one.statement}"
    assert not two.is_alive(), f"the second never ended beside {one.statement}"
    return Tried(one.statement, blocked, one, two)


def _is_blocked(two: Runner, observer: psycopg.Connection) -> bool:
    row = observer.execute(_BLOCKED, [two.backend]).fetchone()
    assert row
    return bool(row[0])
