"""Moving: messages that no phone was given yet leave a phone that may not have them.

Only routed messages move; what was in an answer to a pull never does. A message whose request named its phone stays
with it, and fails when that phone is removed.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.database import step_by_index
from app.core.names import TaskName
from app.devices.health import RESTING
from app.devices.presence import ONLINE, SILENT, SUSPECT
from app.messages import transitions
from app.messages.routing import HELD
from app.messages.states import Event
from app.messages.sweeping import PLACES
from app.messages.transitions import Change

MOST_IN_A_BATCH = 500

# A phone that is only away, or held back by its limits, keeps its messages while no other phone of the user is there to
# take them.
_UNFIT = text(f"""
    {PLACES}
    SELECT p.user_id, p.device_id, d.removed_at IS NOT NULL AS removed
    FROM places p JOIN devices d ON d.id = p.device_id JOIN device_state s ON s.device_id = d.id
    WHERE d.removed_at IS NOT NULL OR NOT d.is_active
       OR (({SILENT} OR {SUSPECT} OR {HELD} OR {RESTING}) AND EXISTS (
            SELECT FROM devices o JOIN device_state s ON s.device_id = o.id
            WHERE o.user_id = p.user_id AND o.id <> p.device_id AND o.is_active AND o.removed_at IS NULL AND {ONLINE}
              AND NOT {HELD} AND NOT {RESTING}))
""")  # noqa: S608 - constants

_TAKE = text("""
    WITH taken AS MATERIALIZED (
        SELECT message_id FROM message_queue
        WHERE user_id = :user AND device_id = :device AND stage = 0 AND NOT named
        ORDER BY lane, message_id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    ), unrouted AS (
        UPDATE message_queue q SET device_id = 0, since = clock_timestamp()
        FROM taken WHERE q.message_id = taken.message_id
    ), kept AS (
        INSERT INTO message_steps (message_id, attempt, step, at, device_id)
        SELECT m.id, m.attempt, v.step, COALESCE(v.at, clock_timestamp()), m.device_id
        FROM messages m JOIN taken ON taken.message_id = m.id,
        LATERAL (VALUES (1, 'routed', m.routed_at), (2, 'moved', NULL)) AS v(place, step, at)
        ORDER BY m.id, v.place
    )
    UPDATE messages m SET device_id = NULL, routed_at = NULL FROM taken WHERE m.id = taken.message_id
    RETURNING m.id
""")

_STRANDED = text("""
    SELECT message_id FROM message_queue
    WHERE user_id = :user AND device_id = :device AND stage = 0 AND named ORDER BY lane, message_id LIMIT :most
""")


def move(session: Session) -> int:
    """Take one batch from unfit phones back to where routing finds it, and say how many moved."""
    moved = handled = 0
    step_by_index(session)
    for user, device, removed in session.execute(_UNFIT).all():
        place = {"user": user, "device": device, "most": MOST_IN_A_BATCH - handled}
        taken = len(session.execute(_TAKE, place).all())
        if taken:
            moved += taken
            outbound.nudge(session, TaskName.ROUTE, user)
        place["most"] -= taken
        stranded = session.scalars(_STRANDED, place).all() if removed else ()
        transitions.apply(session, [Change(message, Event.STRANDED) for message in stranded])
        handled += taken + len(stranded)
        if handled >= MOST_IN_A_BATCH:
            outbound.nudge(session, TaskName.MOVE)
            break
    return moved
