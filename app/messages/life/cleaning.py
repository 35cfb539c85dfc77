"""Deleting for good what nobody can ask for any more, in batches that hold no lock for long."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import interval
from app.messages.dispatch.limits import PERIODS
from app.messages.storing import KEYS_HOLD_FOR
from app.optouts.replies import ANSWERED_EVERY

BATCH_SIZE = 2000
# A deleted message still takes reports for a while.
DELETED_KEPT = timedelta(days=7)
EVENTS_KEPT = timedelta(days=7)
RELEASES_KEPT = PERIODS["per_month"] + timedelta(days=1)
HOURS_KEPT = timedelta(days=8)
KEYS_KEPT = KEYS_HOLD_FOR + timedelta(hours=1)

STATEMENTS = (
    # One that waits for a report stays until it ended.
    f"""
    WITH gone AS (
        DELETE FROM messages WHERE id IN (
            SELECT id FROM messages
            WHERE deleted_at < clock_timestamp() - {interval(DELETED_KEPT)} AND status <> 'pending'
            ORDER BY deleted_at LIMIT :most FOR UPDATE SKIP LOCKED)
        RETURNING id
    ), parts AS (
        DELETE FROM message_attachments WHERE message_id IN (SELECT id FROM gone)
    )
    DELETE FROM message_steps WHERE message_id IN (SELECT id FROM gone)
    """,  # noqa: S608 - constants
    f"""
    DELETE FROM inbound_seen WHERE (device_id, event_id) IN (
        SELECT device_id, event_id FROM inbound_seen WHERE created_at < clock_timestamp() - {interval(EVENTS_KEPT)}
        LIMIT :most)
    """,  # noqa: S608 - constants
    f"""
    DELETE FROM device_releases WHERE id IN (
        SELECT id FROM device_releases WHERE released_at < clock_timestamp() - {interval(RELEASES_KEPT)}
        ORDER BY released_at LIMIT :most)
    """,  # noqa: S608 - constants
    f"""
    DELETE FROM usage_hours WHERE (user_id, hour, kind) IN (
        SELECT user_id, hour, kind FROM usage_hours WHERE hour < clock_timestamp() - {interval(HOURS_KEPT)} LIMIT :most)
    """,  # noqa: S608 - constants
    # Figures of phones are shown for 30 days.
    """
    DELETE FROM device_totals WHERE (device_id, day, sim_slot, kind, detail) IN (
        SELECT device_id, day, sim_slot, kind, detail FROM device_totals
        WHERE day < CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) - 31 LIMIT :most)
    """,
    f"""
    DELETE FROM opt_out_replies WHERE (user_id, phone_number) IN (
        SELECT user_id, phone_number FROM opt_out_replies
        WHERE sent_at < clock_timestamp() - {interval(ANSWERED_EVERY)} LIMIT :most)
    """,  # noqa: S608 - constants
    f"""
    DELETE FROM idempotency_keys WHERE (user_id, route, key) IN (
        SELECT user_id, route, key FROM idempotency_keys WHERE created_at < clock_timestamp() - {interval(KEYS_KEPT)}
        LIMIT :most)
    """,  # noqa: S608 - constants
)


def clean(session: Session, statement: str) -> int:
    """One batch of one kind; how many rows went."""
    deleted: int = session.execute(text(statement), {"most": BATCH_SIZE}).rowcount  # type: ignore[attr-defined]
    return deleted
