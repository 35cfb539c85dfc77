"""Deletes old deliveries, a batch at a time, so that no table is ever locked and no transaction is long."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import in_place
from app.core.once import once
from app.core.settings import get_settings

TARGETS_KEPT = timedelta(days=30)
BATCH = 2000
# Of what stays, so many batches are walked past at a time.
MAX_PASSED = 10

_DELETE = """
    attempts AS (
        DELETE FROM webhook_attempts a USING old WHERE a.delivery_id = old.id
    ), deleted AS (
        DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id
    )
"""
_ENDED = text(f"""
    WITH old AS (
        SELECT id FROM webhook_deliveries
        WHERE state = :state AND finished_at < (SELECT clock_timestamp() - CAST(:kept AS interval))
        ORDER BY finished_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ), {_DELETE}
    SELECT count(*) FROM old
""")  # noqa: S608 - a constant
# Deliveries that were accepted at their first call are in no index of their own, and are looked for in the order they
# were written. One that is replayed meanwhile is locked, and has an attempt counted after that.
_ACCEPTED_AT_ONCE = text(f"""
    WITH next AS MATERIALIZED (
        SELECT id, created_at < (SELECT clock_timestamp() - CAST(:kept AS interval)) AS is_old
        FROM webhook_deliveries WHERE id > :after ORDER BY id LIMIT :batch
    ), old AS MATERIALIZED (
        SELECT d.id FROM webhook_deliveries d
        WHERE d.id IN (SELECT id FROM next WHERE is_old) AND d.finished_at IS NULL AND d.attempts = 0
          AND NOT EXISTS (SELECT FROM webhook_queue q WHERE q.delivery_id = d.id)
        ORDER BY d.id FOR UPDATE OF d SKIP LOCKED
    ), {_DELETE}
    SELECT (SELECT count(*) FROM old) AS deleted, count(*) FILTER (WHERE is_old) AS seen,
           LEAST((SELECT min(id) FROM old), min(id) FILTER (WHERE NOT is_old), max(id) + 1) - 1 AS place
    FROM next
""")  # noqa: S608 - a constant
_NOT_SERVED = "last_served_at < (SELECT clock_timestamp() - CAST(:kept AS interval))"
_TARGETS = text(f"""
    DELETE FROM webhook_targets
    WHERE {in_place("webhook_targets", f"WHERE {_NOT_SERVED} LIMIT :batch FOR UPDATE SKIP LOCKED")}
""")  # noqa: S608 - constants


class Walk:
    """Through the deliveries in the order they were written, past those that are kept longer, once in a process."""

    def __init__(self) -> None:
        self._place = 0

    def clean(self, session: Session) -> int:
        """Delete a batch of those that were accepted at their first call and are past their age; how many."""
        for _ in range(MAX_PASSED):
            values = {"after": self._place, "kept": get_settings().keep_deliveries, "batch": BATCH}
            done = session.execute(_ACCEPTED_AT_ONCE, values).one()
            # Never past what this transaction deletes, which may come to nothing.
            self._place = done.place or self._place
            if done.deleted or done.seen < BATCH:
                break
        deleted: int = done.deleted
        return deleted


walk = once(Walk)


def clean(session: Session) -> int:
    """Delete a batch of what is past its age; how many deliveries. Failed ones stay longer, to be replayed."""
    settings = get_settings()
    kept = (("delivered", settings.keep_deliveries), ("failed", settings.keep_failed_deliveries))
    deleted = walk().clean(session)
    for state, age in kept:
        deleted += session.execute(_ENDED, {"state": state, "kept": age, "batch": BATCH}).scalar_one()
    session.execute(_TARGETS, {"kept": TARGETS_KEPT, "batch": BATCH})
    return deleted
