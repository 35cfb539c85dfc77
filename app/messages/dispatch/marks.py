"""Marks: between which numbers the queue's rows of a phone stand, while what has left the queue cannot be removed.

A transaction that stays open keeps every row that has gone since, and whoever looks for the next message walks past
them all. While that is so (`core.vacuuming` tells), upkeep notes each second where each phone's rows begin, and every
look of dispatch goes there (`in_queue`). Without marks, as nearly always, it goes over all there is.

A mark is a hint. It holds for what was there when it was made and for what comes by the usual way: new messages, and
those that routing gives a phone. What came back with a number from before (tried again, moved, due, or committed late)
is found when all is looked at, which may take a twentieth of the time.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import nlargest
from itertools import pairwise

from sqlalchemy import Text, TextClause, text
from sqlalchemy.orm import Session

from app.core import vacuuming
from app.core.arrays import transposed, unnest
from app.core.database import interval
from app.core.lanes import Lane
from app.messages.models import QueueEntry, QueueMark
from app.messages.states import Stage

AT_A_PHONE = (Stage.RELEASED, Stage.ACCEPTED)
AHEAD = (Stage.WAITING, *AT_A_PHONE)

_Kind = tuple[Stage, Lane]
_Place = tuple[int, int]

_ENDLESS = 2**63 - 1
# Of a mark. As a limit it keeps the planner from expecting a hundred.
_MAX_STRETCHES = 8
_EVERYTHING = f"int8multirange(int8range({-_ENDLESS}, NULL))"


def _marked(user: str, device: str) -> str:
    mark = f"SELECT w.numbers FROM queue_marks w WHERE w.user_id = {user} AND w.device_id = {device}"  # noqa: S608
    return f"COALESCE(({mark}), {_EVERYTHING})"


def in_queue(
    user: str,
    device: str,
    stages: Collection[Stage] = (Stage.WAITING,),
    *,
    columns: str = "",
    where: str = "true",
    most: str = "NULL",
    lock: str = "",
) -> str:
    """SQL for an item of `FROM`, `q`: the place's rows of the queue in these stages, in no order.

    `where` is a condition on a row, and `most` how many there may be of a stage and lane, the first ones; both may name
    columns of items before, as `user` and `device` may. Each row is looked at only when it is wanted. `k.lane` leaves
    out a lane; `q.lane` there would be where the walk begins, before what is marked.
    """
    kinds = [(stage, lane) for stage in stages for lane in Lane]
    return _in_queue(_marked(user, device), user, device, kinds, columns, where, most, lock)


def taken(
    user: str, device: str, stages: Collection[Stage] = (Stage.WAITING,), *, where: str = "true", most: str
) -> str:
    """SQL for the numbers of so many rows, locked: the first ones that nobody holds, single sends before bulk."""
    columns, lock = "lane, message_id", "FOR NO KEY UPDATE SKIP LOCKED"
    rows = in_queue(user, device, stages, columns=columns, where=where, most=most, lock=lock)
    return f"SELECT q.message_id FROM {rows} ORDER BY q.lane, q.message_id LIMIT {most}"  # noqa: S608 - the caller's constants


def _in_queue(
    numbers: str, user: str, device: str, kinds: Collection[_Kind], columns: str, where: str, most: str, lock: str
) -> str:
    # The order, and a bound that has the lane in it, are what only the claim index has: by its number alone the planner
    # would look for a row of this phone among all.
    values = ", ".join(f"({stage}, {lane})" for stage, lane in kinds)
    lane = "CAST(k.lane AS smallint)"
    return f"""LATERAL (
        SELECT q.* FROM (SELECT unnest({numbers}) AS numbers LIMIT {_MAX_STRETCHES}) AS r,
        (VALUES {values}) AS k(stage, lane), LATERAL (
            SELECT {columns} FROM message_queue q
            WHERE q.user_id = {user} AND q.device_id = {device} AND q.stage = k.stage
              AND (q.lane, q.message_id) >= ({lane}, lower(r.numbers))
              AND (q.lane, q.message_id) < ({lane}, COALESCE(upper(r.numbers), {_ENDLESS}))
              AND {where}
            ORDER BY q.lane, q.message_id LIMIT {most} {lock}) q
    ) q"""  # noqa: S608 - the caller's constants


# So many of the first rows in a stage and lane are looked at, and rows that are as close as this are in one stretch.
_LOOKED_AT, _CLOSE = 1000, 200
# How long the look at all rests, times what it took.
_SHARE = 20

_KEY = (QueueMark.user_id, QueueMark.device_id)
# So long a phone that was removed may still have something waiting, which whoever moves it away has to find.
REMOVED_FOR = timedelta(days=1)
_PLACES = text(f"""
    SELECT user_id, id AS device_id FROM devices
    WHERE removed_at IS NULL OR removed_at > clock_timestamp() - {interval(REMOVED_FOR)}
    UNION ALL SELECT DISTINCT user_id, 0 FROM devices ORDER BY user_id, device_id
""")  # noqa: S608 - a constant


def _look(numbers: str) -> TextClause:
    rows = [
        _in_queue(numbers, "p.user_id", "p.device_id", [(stage, lane)], "message_id", "true", str(_LOOKED_AT), "")
        for stage in AHEAD
        for lane in Lane
    ]
    kinds = [f"ARRAY(SELECT q.message_id FROM {of} ORDER BY q.message_id LIMIT {_LOOKED_AT})" for of in rows]  # noqa: S608
    return text(f"SELECT p.user_id, p.device_id, {', '.join(kinds)} FROM {unnest(*_KEY, alias='p')}")  # noqa: S608


_LOOK, _LOOK_AT_ALL = _look(_marked("p.user_id", "p.device_id")), _look(_EVERYTHING)
_WRITE = text(f"""
    INSERT INTO queue_marks AS w (user_id, device_id, numbers)
    SELECT user_id, device_id, CAST(numbers AS int8multirange) FROM {unnest(*_KEY, numbers=Text())}
    ORDER BY user_id, device_id
    ON CONFLICT (user_id, device_id) DO UPDATE SET numbers = excluded.numbers WHERE w.numbers <> excluded.numbers
""")  # noqa: S608 - names of columns
# That of no account says that there are marks.
_BEGIN = text(f"""
    INSERT INTO queue_marks (user_id, device_id, numbers) VALUES (0, 0, {_EVERYTHING}) ON CONFLICT DO NOTHING
""")  # noqa: S608 - a constant
_ALONE = text("SELECT pg_try_advisory_xact_lock(7316002)")
_END = text(f"DELETE FROM queue_marks WHERE ({_ALONE.text})")  # noqa: S608 - a constant
_ARE_THERE = text("SELECT EXISTS (SELECT FROM queue_marks)")
_DRAWN = text("SELECT last_value FROM messages_id_seq")
_UNDER_WAY = text("""
    SELECT CAST(CAST(pg_snapshot_xmin(s) AS text) AS bigint) AS oldest,
           CAST(CAST(pg_snapshot_xmax(s) AS text) AS bigint) AS next
    FROM pg_current_snapshot() AS s
""")


@dataclass(slots=True)
class _Memory:
    """What a process knows between its looks.

    `drawn`: numbers, each with the first transaction that began after it was drawn. `settled`: whoever drew a lower
    number than this has committed or given up. `last` is the place where all was looked at last.
    """

    drawn: list[tuple[int, int]] = field(default_factory=list)
    settled: int | None = None
    last: _Place = (0, 0)
    rests_until: float = 0.0


_memory = _Memory()


def begin_or_end(session: Session, *, is_vacuumed: bool) -> None:
    """See that there are marks while many rows that are gone cannot be removed, as a vacuum just now has shown."""
    if not vacuuming.keeps_many(session, QueueEntry.__tablename__):
        session.execute(_END)
    elif is_vacuumed:
        session.execute(_BEGIN)


def mark(session: Session) -> int:
    """Make the marks anew, where there are any; how many places have one. One process does it at a time."""
    if not session.scalar(_ARE_THERE) or not session.scalar(_ALONE):
        return 0
    _settle(session)
    if _memory.settled is None:
        return 0
    places = [(row.user_id, row.device_id) for row in session.execute(_PLACES)]
    found = _look_at(session, _LOOK, places)
    _write(session, found, places)
    while places and time.monotonic() >= _memory.rests_until:
        began = time.monotonic()
        _memory.last = user, device = next((place for place in places if place > _memory.last), places[0])
        found |= _look_at(session, _LOOK_AT_ALL, [_memory.last])
        _write(session, found, [place for place in places if place[0] == user and device in {0, place[1]}])
        rests = _SHARE * (time.monotonic() - began)
        _memory.rests_until = max(_memory.rests_until, began - 1.0) + rests
    return len(places)


def _settle(session: Session) -> None:
    """Learn which numbers nobody is about to write any more: those drawn before what is over now had begun."""
    drawn: int = session.execute(_DRAWN).scalar_one()
    under_way = session.execute(_UNDER_WAY).one()
    settled = [number for number, by in _memory.drawn if by <= under_way.oldest]
    if _memory.settled is not None:  # a standby that was promoted may draw numbers again
        settled.append(min(_memory.settled, drawn))
    _memory.settled = max(settled, default=None)
    _memory.drawn = [(number, by) for number, by in _memory.drawn if by > under_way.oldest]
    _memory.drawn.append((drawn, under_way.next))


def _look_at(session: Session, look: TextClause, places: Sequence[_Place]) -> dict[_Place, list[list[int]]]:
    rows = session.execute(look, transposed(places, "user_id", "device_id"))
    return {(user, device): kinds for user, device, *kinds in rows}


def _write(session: Session, found: Mapping[_Place, list[list[int]]], places: Sequence[_Place]) -> None:
    """The marks of the places. That of a phone also leads to what routing may give it before the next look."""
    assert _memory.settled is not None
    marks = [
        (user, device, stretches(found[user, device] + (found[user, 0] if device else []), _memory.settled))
        for user, device in places
    ]
    session.execute(_WRITE, transposed(marks, "user_id", "device_id", "numbers"))


def stretches(kinds: Sequence[Sequence[int]], comes: int) -> str:
    """Where rows are, as PostgreSQL writes it: about their numbers, by stage and lane, and from `comes` on."""
    more = min((ids[-1] for ids in kinds if len(ids) == _LOOKED_AT), default=comes)
    last = min(more, comes)
    known = sorted({number for ids in kinds for number in ids if number < last})
    gaps = [(b - a, b) for a, b in pairwise([*known, last]) if b - a > _CLOSE]
    breaks = {b for _, b in nlargest(_MAX_STRETCHES - 1, gaps)}
    parts = [f"[{min(known, default=last)},"]
    for a, b in pairwise([*known, last]):
        if b in breaks:
            parts += [f"{a}],", f"[{b},"]
    return f"{{{''.join(parts)})}}"
