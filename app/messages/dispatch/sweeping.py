"""The sweep: finds what is overdue and nudges again. It is the only recovery there is, and needs no other."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.arrays import unnest
from app.core.database import step_by_index
from app.core.task_names import TaskName
from app.messages.dispatch.marks import in_queue
from app.messages.dispatch.pace import OVERDUE
from app.messages.models import QueueEntry
from app.webhooks import claims

_MAX_ACCOUNTS = 500

# By skipping from one to the next in the claim index: the cost is that of the accounts, not of the rows. Where there
# are marks, all that have one may have something waiting.
_ACCOUNTS = text("""
    WITH RECURSIVE accounts AS (
        (SELECT user_id FROM message_queue WHERE user_id > :after AND NOT EXISTS (SELECT FROM queue_marks)
         ORDER BY user_id LIMIT 1)
        UNION ALL
        SELECT next.user_id
        FROM accounts a, LATERAL (
            SELECT q.user_id FROM message_queue q WHERE q.user_id > a.user_id ORDER BY q.user_id LIMIT 1
        ) next
    )
    (SELECT user_id FROM accounts LIMIT :most)
    UNION ALL
    (SELECT DISTINCT user_id FROM queue_marks WHERE user_id > :after ORDER BY user_id LIMIT :most)
""")

_OVERDUE = text(f"""
    SELECT a.user_id FROM {unnest(QueueEntry.user_id, alias="a")}, LATERAL (
        SELECT q.since FROM {in_queue("a.user_id", "0", columns="since, lane", most="1")} ORDER BY q.lane LIMIT 1
    ) first
    WHERE first.since < clock_timestamp() - CAST(:overdue AS interval) OR first.since > clock_timestamp()
""")  # noqa: S608 - names of columns and of states


def accounts(session: Session, after: int = 0) -> Sequence[int]:
    """The next accounts that have messages waiting, in order of id; none after the last."""
    step_by_index(session)
    return session.scalars(_ACCOUNTS, {"after": after, "most": _MAX_ACCOUNTS}).all()


def sweep(session: Session) -> int:
    """Nudge routing for users whose messages wait for a phone, and webhooks where deliveries are due; how often."""
    after = nudged = 0
    while waiting := accounts(session, after):
        for user in session.scalars(_OVERDUE, {"user_id": waiting, "overdue": OVERDUE}):
            outbound.remind(session, TaskName.ROUTE, user)
            nudged += 1
        after = waiting[-1]
    if claims.overdue(session, OVERDUE):
        outbound.remind(session, TaskName.DELIVER)
        nudged += 1
    return nudged
