"""The sweep: finds what is overdue and nudges again. It is the only recovery there is, and needs no other."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.database import step_by_index
from app.core.names import TaskName
from app.webhooks import claims

OVERDUE = timedelta(seconds=2)

# The places that messages wait at, (user, device), by skipping from one to the next in the claim index: the cost is
# that of the places, not of the rows.
PLACES = """
    WITH RECURSIVE places AS (
        (SELECT user_id, device_id FROM message_queue ORDER BY user_id, device_id LIMIT 1)
        UNION ALL
        SELECT next.user_id, next.device_id
        FROM places p, LATERAL (
            SELECT q.user_id, q.device_id FROM message_queue q
            WHERE (q.user_id, q.device_id) > (p.user_id, p.device_id)
            ORDER BY q.user_id, q.device_id LIMIT 1
        ) next
    )
"""

_USERS = text("""
    WITH RECURSIVE users AS (
        (SELECT user_id FROM message_queue ORDER BY user_id LIMIT 1)
        UNION ALL
        SELECT next.user_id
        FROM users u, LATERAL (
            SELECT q.user_id FROM message_queue q WHERE q.user_id > u.user_id ORDER BY q.user_id LIMIT 1
        ) next
    )
    SELECT u.user_id FROM users u, LATERAL (
        SELECT q.since FROM message_queue q
        WHERE q.user_id = u.user_id AND q.device_id = 0 AND q.stage = 0 ORDER BY q.lane, q.message_id LIMIT 1
    ) first
    WHERE first.since < clock_timestamp() - :overdue
""")


def sweep(session: Session) -> None:
    """Nudge routing for users whose messages wait for a phone, and webhooks where deliveries are due."""
    step_by_index(session)
    for user in session.scalars(_USERS, {"overdue": OVERDUE}):
        outbound.remind(session, TaskName.ROUTE, user)
    if claims.overdue(session, OVERDUE):
        outbound.remind(session, TaskName.DELIVER)
