"""Deleting for good what nobody can ask for any more, in batches that hold no lock for long."""

from sqlalchemy import text
from sqlalchemy.orm import Session

MOST_IN_A_BATCH = 2000

STATEMENTS = (
    # A deleted message still takes reports for a while; one that waits for a report stays until it ended.
    """
    WITH gone AS (
        DELETE FROM messages WHERE id IN (
            SELECT id FROM messages WHERE deleted_at < clock_timestamp() - interval '7 days' AND status <> 'pending'
            ORDER BY deleted_at LIMIT :most FOR UPDATE SKIP LOCKED)
        RETURNING id
    ), parts AS (
        DELETE FROM message_attachments WHERE message_id IN (SELECT id FROM gone)
    )
    DELETE FROM message_steps WHERE message_id IN (SELECT id FROM gone)
    """,
    """
    DELETE FROM inbound_seen WHERE (device_id, event_id) IN (
        SELECT device_id, event_id FROM inbound_seen WHERE created_at < clock_timestamp() - interval '7 days'
        LIMIT :most)
    """,
    # Releases count for 30 days.
    """
    DELETE FROM device_releases WHERE id IN (
        SELECT id FROM device_releases WHERE released_at < clock_timestamp() - interval '31 days'
        ORDER BY released_at LIMIT :most)
    """,
    # Figures of phones are shown for 30 days.
    """
    DELETE FROM device_totals WHERE (device_id, day, sim_slot, kind, detail) IN (
        SELECT device_id, day, sim_slot, kind, detail FROM device_totals
        WHERE day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 31 LIMIT :most)
    """,
    """
    DELETE FROM idempotency_keys WHERE (user_id, route, key) IN (
        SELECT user_id, route, key FROM idempotency_keys WHERE created_at < clock_timestamp() - interval '25 hours'
        LIMIT :most)
    """,
)


def clean(session: Session, statement: str) -> None:
    """One batch of one kind."""
    session.execute(text(statement), {"most": MOST_IN_A_BATCH})
