"""Who has to hear that there is work: phones that may pull, and routing where messages have no phone yet."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.arrays import transposed, unnest
from app.core.lanes import Lane
from app.core.task_names import TaskName
from app.devices.models import DeviceState
from app.messages.dispatch.limits import HELD_PARTLY
from app.messages.dispatch.marks import AT_A_PHONE, in_queue
from app.messages.dispatch.pace import IN_FLIGHT, PACED, REPEAT_IS_DUE, SLOT_IS_FREE, UNREPORTED
from app.messages.models import QueueEntry
from app.messages.states import Stage

_STANDING = text(f"""
    SELECT p.*, w.lane AS waiting,
           CASE WHEN w.lane = {Lane.BULK} THEN s.send_window / 2 <= (SELECT count(*) FROM (
               SELECT FROM {in_queue("p.user_id", "p.device_id", AT_A_PHONE, where=IN_FLIGHT, most="s.send_window / 2")}
               LIMIT s.send_window / 2) AS released) ELSE false END AS busy,
           w.lane IS NULL AND EXISTS (SELECT FROM {in_queue("p.user_id", "0", most="1")}) AS queued,
           EXTRACT(EPOCH FROM GREATEST(s.next_slot_at - clock_timestamp(), interval '0')) AS slot_in
    FROM {unnest(QueueEntry.user_id, QueueEntry.device_id, alias="p")}
    LEFT JOIN device_state s ON s.device_id = p.device_id,
    LATERAL (SELECT min(q.lane) AS lane FROM {in_queue("p.user_id", "p.device_id", columns="lane", most="1")}) w
""")  # noqa: S608 - constants


def wake(session: Session, device_id: int, after: float = 0) -> None:
    """Tell the phone to pull in `after` seconds; the process that holds its stream keeps the timer."""
    outbound.signal(session, device_id, "wake", after=round(float(after), 3))


def wake_or_route(session: Session, places: Collection[tuple[int, int]]) -> None:
    """For (user, device) pairs where room was freed or work arrived: wake the phone, or nudge routing to fill it.

    A phone that still has half of its window to send is not woken for bulk, so that it pulls by the dozen and not for
    each message it has sent. Device 0 stands for "no phone yet".
    """
    if not places:
        return
    ordered = sorted(places)
    rows = session.execute(_STANDING, transposed(ordered, "user_id", "device_id"))
    for user_id, device_id, waiting, busy, queued, slot_in in rows:
        if device_id and waiting is not None:
            if not busy or waiting == Lane.SINGLE:
                wake(session, device_id, slot_in or 0)
        elif queued or waiting is not None:  # at no phone what waits is what is queued
            outbound.nudge(session, TaskName.ROUTE, user_id)


# New messages only where hand-out would give one: not with a full window, and not within the minute that one of a phone
# with a delay may be unreported.
_DUE = text(f"""
    SELECT u.device_id FROM {unnest(DeviceState.device_id)}
    JOIN devices d ON d.id = u.device_id JOIN device_state s ON s.device_id = u.device_id,
    LATERAL (SELECT {PACED} AS paced) p
    WHERE d.is_active AND d.removed_at IS NULL AND (COALESCE(s.held_until <= clock_timestamp(), true) OR {HELD_PARTLY})
      AND (NOT p.paced OR {SLOT_IS_FREE})
      AND ((EXISTS (SELECT FROM {in_queue("d.user_id", "d.id", most="1")})
            AND CASE WHEN p.paced THEN NOT EXISTS (
                    SELECT FROM {in_queue("d.user_id", "d.id", [Stage.RELEASED], where=UNREPORTED, most="1")})
                ELSE s.send_window > (SELECT count(*) FROM (
                    SELECT FROM {in_queue("d.user_id", "d.id", AT_A_PHONE, where=IN_FLIGHT, most="s.send_window")}
                    LIMIT s.send_window) AS released)
                END)
           OR EXISTS (SELECT FROM {in_queue("d.user_id", "d.id", [Stage.RELEASED], where=REPEAT_IS_DUE, most="1")}))
""")  # noqa: S608 - constants


def due(session: Session, devices: list[int]) -> list[int]:
    """Which of the phones have something to pull now: new messages, or ones to be offered again."""
    return list(session.scalars(_DUE, {"device_id": devices}))
