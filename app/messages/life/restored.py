"""After a restore: what was pending at the moment of the backup may have been sent since, and nobody here can know.

So it fails as uncertain. A phone that has it may still say what happened, and is believed then.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.messages.life import transitions
from app.messages.life.transitions import Change
from app.messages.states import Event, Stage

BATCH_SIZE = 500

_PENDING = text(f"""
    SELECT message_id FROM message_queue
    WHERE message_id > :after
      AND NOT (:scheduled AND stage = {Stage.HELD} AND COALESCE(due_at > clock_timestamp(), false))
    ORDER BY message_id LIMIT :most
""")  # noqa: S608 - constants


def conclude(session: Session, *, keep_scheduled: bool) -> int:
    """Fail everything that is pending, except, where asked for, what is scheduled for later than now; how many.

    In one transaction with the restore, so that nothing of it is ever seen by what sends.
    """
    after = total = 0
    values = {"scheduled": keep_scheduled, "most": BATCH_SIZE}
    while pending := session.scalars(_PENDING, {**values, "after": after}).all():
        transitions.apply(session, [Change(number, Event.RESTORED) for number in pending])
        after, total = pending[-1], total + len(pending)
    return total
