"""Releasing: what was held until its time comes to wait for a phone like anything else.

Phones are given it at their own pace then, so that however much was due while the gateway was down goes as a bulk
would. A release that two workers try is made by one, for each row; one that a cancel or a change holds is made, or not,
by the next tick.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.task_names import TaskName
from app.messages.dispatch import waking
from app.messages.states import Stage

BATCH_SIZE = 1000

# What belongs to a paused campaign stays held, for its campaign's sake alone.
# The validity of `valid_until` was counted from `due_at`, and begins now.
_RELEASE = text(f"""
    WITH due AS MATERIALIZED (
        SELECT message_id, campaign_id = ANY (ARRAY(SELECT h.campaign_id FROM held_campaigns h)) AS paused
        FROM message_queue WHERE due_at <= clock_timestamp() AND stage = {Stage.HELD}
        ORDER BY due_at, message_id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    ), released AS (
        UPDATE message_queue q
        SET stage = CASE WHEN due.paused THEN {Stage.HELD} ELSE {Stage.WAITING} END, due_at = NULL,
            since = clock_timestamp(), valid_until = clock_timestamp() + (q.valid_until - q.due_at)
        FROM due WHERE q.message_id = due.message_id
        RETURNING q.message_id, q.user_id, q.device_id, q.valid_until
    ), valid AS (
        UPDATE messages m SET valid_until = released.valid_until
        FROM released WHERE m.id = released.message_id AND released.valid_until IS NOT NULL
    )
    SELECT user_id, device_id, count(*) AS n FROM released GROUP BY user_id, device_id
""")  # noqa: S608 - names of states


def release(session: Session) -> int:
    """Let wait what is due, one batch of it, the longest due first; how many."""
    places = {(row.user_id, row.device_id): int(row.n) for row in session.execute(_RELEASE, {"most": BATCH_SIZE})}
    waking.wake_or_route(session, places)
    released = sum(places.values())
    if released == BATCH_SIZE:
        outbound.nudge(session, TaskName.RELEASE)
    return released
