"""Deleting for good what nobody can ask for any more, in batches that hold no lock for long."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import in_place, interval
from app.messages.dispatch.limits import PERIODS
from app.messages.storing import KEYS_HOLD_FOR
from app.optouts.replies import ANSWERED_EVERY

BATCH_SIZE = 2000
# A deleted message still takes reports for a while.
DELETED_KEPT = timedelta(days=7)
EVENTS_KEPT = timedelta(days=7)
RELEASES_KEPT = PERIODS["per_month"] + timedelta(days=1)
HOURS_KEPT = timedelta(days=8)
# Shown for 30 days; a day is as old as its beginning.
FIGURES_KEPT = timedelta(days=32)
KEYS_KEPT = KEYS_HOLD_FOR + timedelta(hours=1)


def _older(table: str, time: str, age: timedelta, condition: str = "true") -> str:
    """A condition for a batch of a table's rows past their age, found by the index of that time."""
    is_old = f"{time} < (SELECT clock_timestamp() - {interval(age)}) AND {condition}"
    return in_place(table, f"WHERE {is_old} ORDER BY {time} LIMIT :most FOR UPDATE SKIP LOCKED")


STATEMENTS = (
    # One that waits for a report stays until it ended.
    f"""
    WITH gone AS (
        DELETE FROM messages WHERE {_older("messages", "deleted_at", DELETED_KEPT, "status <> 'pending'")} RETURNING id
    ), parts AS (
        DELETE FROM message_attachments WHERE message_id IN (SELECT id FROM gone)
    )
    DELETE FROM message_steps WHERE message_id IN (SELECT id FROM gone)
    """,  # noqa: S608 - constants
    *(
        f"DELETE FROM {table} WHERE {_older(table, time, age)}"  # noqa: S608 - constants
        for table, time, age in (
            ("inbound_seen", "created_at", EVENTS_KEPT),
            ("device_releases", "released_at", RELEASES_KEPT),
            ("usage_hours", "hour", HOURS_KEPT),
            ("device_totals", "day", FIGURES_KEPT),
            ("opt_out_replies", "sent_at", ANSWERED_EVERY),
            ("idempotency_keys", "created_at", KEYS_KEPT),
        )
    ),
)


def clean(session: Session, statement: str) -> int:
    """One batch of one kind; how many rows went."""
    deleted: int = session.execute(text(statement), {"most": BATCH_SIZE}).rowcount  # type: ignore[attr-defined]
    return deleted
