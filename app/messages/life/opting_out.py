"""What becomes of messages whose recipient opts out: what waits is cancelled, what a phone has it is asked for.

The task that an opt-out nudges looks for them, and once more when whatever was being written at that moment has ended.
What is given out meanwhile is looked at by hand-out, which cancels what it finds.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.arrays import array
from app.core.database import interval
from app.core.task_names import TaskName
from app.devices import versions
from app.messages.dispatch import handout, waking
from app.messages.dispatch.pace import OVERDUE, STRAGGLING
from app.messages.life import transitions
from app.messages.life.reports import wire_name
from app.messages.life.transitions import Change
from app.messages.states import BEFORE_A_PHONE, Event, Stage
from app.optouts.models import OptOut

BATCH_SIZE = 500
MAX_ACCOUNTS = 500

_DUE = text("""
    SELECT id, phone_number FROM opt_outs WHERE user_id = :user AND look_at <= (SELECT clock_timestamp())
    ORDER BY look_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
""")
# The queue's row is looked for by its message's number alone: to the statistics of a moment ago the queue may be empty,
# and to compare all that is in it with all that the account ever sent costs nothing.
_PENDING = text(f"""
    SELECT m.id, q.stage, q.app_version
    FROM messages m CROSS JOIN LATERAL (
        SELECT q.stage, d.app_version FROM message_queue q LEFT JOIN devices d ON d.id = q.device_id
        WHERE q.message_id = m.id AND NOT q.cancelling LIMIT 1) q
    WHERE m.user_id = :user AND m.id > :after AND m.recipient_number = ANY({array(OptOut.phone_number, "numbers")})
      AND m.direction = 'outbound' AND m.status = 'pending' AND m.deleted_at IS NULL AND NOT m.ignores_opt_out
    ORDER BY m.id LIMIT :most
""")  # noqa: S608 - a name of a column
_LOOKED = text(f"""
    UPDATE opt_outs
    SET look_at = CASE WHEN look_at < since + {interval(STRAGGLING)} THEN since + {interval(STRAGGLING)} END
    WHERE id = ANY(:ids)
""")  # noqa: S608 - a constant
_OVERDUE = text("""
    SELECT DISTINCT user_id FROM opt_outs WHERE look_at < (SELECT clock_timestamp() - CAST(:overdue AS interval))
    LIMIT :most
""")


def withdraw(session: Session, user_id: int) -> None:
    """One batch of an account's new opt-outs; nudges itself while there are more."""
    due = session.execute(_DUE, {"user": user_id, "most": BATCH_SIZE}).all()
    if not due:
        return
    numbers = [row.phone_number for row in due]
    pending = _pending(session, user_id, numbers)
    _withdraw(session, pending)
    if len(pending) < BATCH_SIZE:
        session.execute(_LOOKED, {"ids": [row.id for row in due]})
    if BATCH_SIZE in {len(due), len(pending)}:
        outbound.nudge(session, TaskName.WITHDRAW, user_id)


def _pending(session: Session, user_id: int, numbers: Sequence[str]) -> list[Row[Any]]:
    """One batch of what can be withdrawn. What a phone has whose app gives nothing back stays, and hides no other."""
    found: list[Row[Any]] = []
    values = {"user": user_id, "numbers": numbers, "most": BATCH_SIZE}
    after = 0
    while len(found) < BATCH_SIZE:
        rows = session.execute(_PENDING, {**values, "after": after}).all()
        found += [row for row in rows if row.stage in BEFORE_A_PHONE or versions.can_cancel(row.app_version)]
        if len(rows) < BATCH_SIZE:
            break
        after = rows[-1].id
    return found[:BATCH_SIZE]


def _withdraw(session: Session, pending: Sequence[Row[Any]]) -> None:
    """Cancel those that no phone has; ask their phones for the others, where the app understands that."""
    able = {row.id for row in pending if versions.can_cancel(row.app_version)}
    events = [Change(row.id, Event.OPTED_OUT) for row in pending] + [Change(number, Event.RECALLED) for number in able]
    applied = transitions.apply(session, events)
    for number in sorted(able & applied.keys()):
        row, queued = applied[number].row, applied[number].queued
        if queued is not None and queued["stage"] in _WITH_A_PHONE:
            name = wire_name(row["message_id"], row["attempt"])
            outbound.signal(session, queued["device_id"], "MessageCancelled", messageId=name)
            # A phone that never got the message hears of it only by pulling.
            waking.wake(session, queued["device_id"])


_WITH_A_PHONE = frozenset({Stage.RELEASED, Stage.ACCEPTED})


def sweep(session: Session) -> None:
    """Nudge for accounts whose opt-outs are due to be looked at."""
    for user in session.scalars(_OVERDUE, {"overdue": OVERDUE, "most": MAX_ACCOUNTS}):
        outbound.remind(session, TaskName.WITHDRAW, user)


def hand_out(session: Session, pulls: list[handout.Pull]) -> Sequence[tuple[int, list[handout.Released]] | Exception]:
    """`handout.hand_out`, where a message of somebody who has opted out is cancelled instead."""
    return handout.hand_out(session, pulls, _cancel)


def _cancel(session: Session, message_ids: list[int]) -> None:
    transitions.apply(session, [Change(number, Event.OPTED_OUT) for number in message_ids])
