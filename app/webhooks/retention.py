"""Deletes old deliveries, a batch at a time, so that no table is ever locked and no transaction is long."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.settings import get_settings

TARGETS_KEPT = timedelta(days=30)
BATCH = 2000

_DELIVERIES = text("""
    WITH old AS (
        SELECT id FROM webhook_deliveries
        WHERE state = :state AND finished_at < (SELECT clock_timestamp() - CAST(:kept AS interval))
        ORDER BY finished_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ), attempts AS (
        DELETE FROM webhook_attempts a USING old WHERE a.delivery_id = old.id
    )
    DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id
""")
_TARGETS = text("""
    DELETE FROM webhook_targets t USING (
        SELECT user_id, origin FROM webhook_targets
        WHERE last_served_at < clock_timestamp() - CAST(:kept AS interval) LIMIT :batch FOR UPDATE SKIP LOCKED) old
    WHERE t.user_id = old.user_id AND t.origin = old.origin
""")


def clean(session: Session) -> int:
    """Delete a batch of what is past its age; how many deliveries. Failed ones stay longer, to be replayed."""
    settings = get_settings()
    kept = (("delivered", settings.keep_deliveries), ("failed", settings.keep_failed_deliveries))
    deleted = 0
    for state, age in kept:
        gone = session.execute(_DELIVERIES, {"state": state, "kept": age, "batch": BATCH})
        deleted += gone.rowcount  # type: ignore[attr-defined]
    session.execute(_TARGETS, {"kept": TARGETS_KEPT, "batch": BATCH})
    return deleted
