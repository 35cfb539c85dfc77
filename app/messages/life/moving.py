"""Moving: messages that no phone was given yet leave a phone that may not have them.

Only routed messages move; what was in an answer to a pull never does. A message whose request named its phone stays
with it, and fails when that phone is removed, unless its campaign has named others besides.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.arrays import unnest
from app.core.database import among, step_by_index
from app.core.lanes import Lane
from app.core.task_names import TaskName
from app.devices import presence
from app.devices.health import RESTING
from app.devices.presence import ONLINE, SILENT, SUSPECT, WATCHED
from app.messages.dispatch import waking
from app.messages.dispatch.marks import in_queue, taken
from app.messages.dispatch.pace import HELD
from app.messages.life import transitions
from app.messages.life.transitions import Change
from app.messages.models import QueueEntry
from app.messages.states import Event, Stage

BATCH_SIZE = 500

# Moves messages of campaigns that named several phones, and says which have another; what it takes lies above.
TakeOver = Callable[[Session, int, Sequence[Row[Any]]], Collection[int]]

_WATCHED = text(f"SELECT {WATCHED}")

# The phones that messages of a user wait for, by skipping from one to the next in the claim index: the cost is that of
# the phones, not of the rows. Where there are marks, messages may wait for any phone that was not removed long ago.
_PLACES = """
    WITH RECURSIVE unmarked AS (
        (SELECT device_id FROM message_queue
         WHERE user_id = :user AND device_id > 0 AND NOT EXISTS (SELECT FROM queue_marks WHERE user_id = :user)
         ORDER BY device_id LIMIT 1)
        UNION ALL
        SELECT next.device_id
        FROM unmarked p, LATERAL (
            SELECT q.device_id FROM message_queue q
            WHERE q.user_id = :user AND q.device_id > p.device_id
            ORDER BY q.device_id LIMIT 1
        ) next
    ), places AS (
        SELECT device_id FROM unmarked
        UNION ALL SELECT device_id FROM queue_marks WHERE user_id = :user AND device_id > 0
    )
"""
_DEVICES = text(f"{_PLACES} SELECT device_id FROM places")  # noqa: S608 - a constant

# About the oldest of what waits: the first of each lane.
_WAIT_SINCE = text(f"""
    SELECT p.device_id, min(first.since) AS since FROM {unnest(QueueEntry.device_id, alias="p")}
    CROSS JOIN (VALUES ({Lane.SINGLE}), ({Lane.BULK})) AS lanes(lane) LEFT JOIN LATERAL (
        SELECT q.since FROM {in_queue(":user", "p.device_id", columns="since", where="k.lane = lanes.lane", most="1")}
        ORDER BY q.since LIMIT 1) first ON true
    GROUP BY p.device_id
""")  # noqa: S608 - names of columns and of states

# A phone that is only away, or held back by its limits, keeps its messages while no other phone of the user is there to
# take them. Whether there is one is asked once; none of those that are away, held back or resting
# counts as one.
_UNFIT = text(f"""
    {_PLACES}, fit AS MATERIALIZED (
        SELECT EXISTS (
            SELECT FROM devices d JOIN device_state s ON s.device_id = d.id
            WHERE d.user_id = :user AND d.is_active AND d.removed_at IS NULL AND {ONLINE} AND NOT {HELD}
              AND NOT {RESTING}) AS found
    )
    SELECT p.device_id, d.removed_at IS NOT NULL AS removed
    FROM fit CROSS JOIN places p JOIN devices d ON d.id = p.device_id JOIN device_state s ON s.device_id = d.id
    WHERE d.removed_at IS NOT NULL OR NOT d.is_active
       OR (fit.found AND ({HELD} OR {RESTING} OR (:watched AND ({SILENT} OR {SUSPECT}))))
""")  # noqa: S608 - constants

_TAKE = text(f"""
    WITH taken AS MATERIALIZED (
        SELECT q.message_id FROM {unnest(QueueEntry.device_id, alias="p")}, LATERAL (
            {taken(":user", "p.device_id", where="k.lane = :lane AND NOT q.named", most=":most")}) q
        LIMIT :most
    ), unrouted AS (
        UPDATE message_queue SET device_id = 0, since = clock_timestamp() WHERE {among("message_id", "taken")}
    ), kept AS (
        INSERT INTO message_steps (message_id, attempt, step, at, device_id)
        SELECT m.id, m.attempt, v.step, COALESCE(v.at, clock_timestamp()), m.device_id
        FROM messages m JOIN taken ON taken.message_id = m.id,
        LATERAL (VALUES (1, 'routed', m.routed_at), (2, 'moved', NULL)) AS v(place, step, at)
        ORDER BY m.id, v.place
    )
    UPDATE messages m SET device_id = NULL, routed_at = NULL FROM taken WHERE m.id = taken.message_id
    RETURNING m.id
""")  # noqa: S608 - names of columns and of states

_STRANDED = text(f"""
    SELECT q.message_id, q.campaign_id FROM {unnest(QueueEntry.device_id, alias="p")}, LATERAL (
        SELECT message_id, campaign_id FROM message_queue
        WHERE user_id = :user AND device_id = p.device_id AND stage IN ({Stage.WAITING}, {Stage.HELD}) AND named
        LIMIT :most) q
    LIMIT :most
""")  # noqa: S608 - names of columns and of states


def move(session: Session, user: int, take_over: TakeOver | None = None) -> int:
    """Take one batch from unfit phones of a user back to where routing finds it; how many moved or failed."""
    step_by_index(session)
    watched = session.execute(_WATCHED).scalar_one()
    if watched:
        _note_missed(session, user)
    unfit = session.execute(_UNFIT, {"user": user, "watched": watched}).all()
    if not unfit:
        return 0
    place = {"user": user, "device_id": [row.device_id for row in unfit]}
    moved = 0
    for lane in Lane:
        moved += len(session.execute(_TAKE, {**place, "lane": lane, "most": BATCH_SIZE - moved}).all())
    if moved:
        outbound.nudge(session, TaskName.ROUTE, user)
    place["device_id"] = [row.device_id for row in unfit if row.removed]
    place["most"] = BATCH_SIZE - moved
    stranded = session.execute(_STRANDED, place).all() if place["device_id"] else ()
    taken_over = take_over(session, user, stranded) if take_over and stranded else ()
    lost = [row.message_id for row in stranded if row.message_id not in taken_over]
    transitions.apply(session, [Change(message, Event.STRANDED) for message in lost])
    return moved + len(stranded)


def _note_missed(session: Session, user: int) -> None:
    """Begin the 15 seconds of phones that have lost their streams and have something due."""
    lost = presence.lock_lost(session, session.scalars(_DEVICES, {"user": user}).all())
    due = waking.due(session, lost) if lost else []
    if due:
        rows = session.execute(_WAIT_SINCE, {"user": user, "device_id": due})
        presence.missed(session, {row.device_id: row.since for row in rows})
