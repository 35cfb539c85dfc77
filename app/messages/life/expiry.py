"""Expiry: what was not sent within its validity fails, and says whether anybody can know that it was not sent.

The validity of what is scheduled begins when it is released.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.task_names import TaskName
from app.messages.life import transitions
from app.messages.life.transitions import Change
from app.messages.states import BEFORE_A_PHONE, Event, Stage

BATCH_SIZE = 500

_OVER = text(f"""
    SELECT message_id, stage FROM message_queue
    WHERE valid_until < clock_timestamp()
              - CASE WHEN stage IN ({Stage.WAITING}, {Stage.HELD}) THEN interval '0' ELSE CAST(:grace AS interval) END
      AND valid_until < (SELECT clock_timestamp()) AND (stage <> {Stage.HELD} OR due_at IS NULL)
    ORDER BY valid_until LIMIT :most
""")  # noqa: S608 - names of columns and of states


def expire(session: Session) -> int:
    """Fail one batch: as expired where no phone was given it, as uncertain where a phone was and never said more."""
    over = session.execute(_OVER, {"most": BATCH_SIZE, "grace": transitions.GRACE}).all()
    changes = [
        Change(message, Event.EXPIRED if stage in BEFORE_A_PHONE else Event.UNREPORTED) for message, stage in over
    ]
    transitions.apply(session, changes)
    if len(over) == BATCH_SIZE:
        outbound.nudge(session, TaskName.EXPIRE)
    return len(over)
