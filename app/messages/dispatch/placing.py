"""Placing: a single send gets its phone in the transaction that accepts it, where nobody waits for one; so do messages
of campaigns, in the transaction that writes them.

Nothing is waited for. Where single sends wait already, or a phone has to be tried with care, the message waits for
routing, which is nudged. Routing may be at work on the account's bulk at the same moment: a phone may then get somewhat
more than its room.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, cast

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import metrics
from app.core.arrays import transposed, unnest
from app.core.lanes import Lane
from app.devices.health import FAILING, RESTING
from app.devices.presence import ONLINE, QUIET_FOR
from app.messages.dispatch.marks import AHEAD, in_queue
from app.messages.dispatch.pace import COUNT_SINGLES_AHEAD, HELD, MAX_LOOKAHEAD, Pace, lookahead
from app.messages.dispatch.routing import Candidate, room_of, take_turns
from app.messages.models import DispatchCursor

# A batch of more is left to routing, which costs less for many.
MAX_SENDS = 4
# Phones that are looked at, from the one whose turn it is.
_MAX_PHONES = 8


class Turn(NamedTuple):
    """The phone of a message, and in how many seconds it may send it."""

    device_id: int
    after: float


class _Candidate(Pace):
    user_id: int
    last_device_id: int
    id: int
    singles_ahead: int
    failing: bool
    quiet_for: float
    slot_in: float


# The cursor is locked only where it is used, or routing would wait for sends that leave everything to it. Where it is
# locked and bulk waits, that is routing; otherwise another process is placing, and both would take the same turn.
_CANDIDATES = text(f"""
    WITH open AS MATERIALIZED (
        SELECT c.user_id, c.last_device_id FROM dispatch_cursors c JOIN users u ON u.id = c.user_id
        WHERE c.user_id = ANY(:users) AND NOT u.sticky_phone AND NOT EXISTS (
            SELECT FROM {in_queue("c.user_id", "0", where=f"k.lane = {Lane.SINGLE}", most="1")})
    ), own AS MATERIALIZED (
        SELECT c.user_id, c.last_device_id FROM dispatch_cursors c WHERE c.user_id IN (SELECT user_id FROM open)
        ORDER BY c.user_id FOR NO KEY UPDATE SKIP LOCKED
    ), cursors AS MATERIALIZED (
        SELECT user_id, last_device_id FROM own
        UNION ALL
        SELECT o.user_id, o.last_device_id FROM open o
        WHERE o.user_id NOT IN (SELECT user_id FROM own)
          AND EXISTS (SELECT FROM {in_queue("o.user_id", "0", where=f"k.lane = {Lane.BULK}", most="1")})
    )
    SELECT c.user_id, c.last_device_id, d.id, d.send_delay_seconds, d.send_delay_spread_seconds, d.send_window,
           d.failing, d.quiet_for, d.slot_in, b.singles_ahead
    FROM cursors c, LATERAL (
        SELECT d.user_id, d.id, d.send_delay_seconds, d.send_delay_spread_seconds, s.send_window, {FAILING} AS failing,
               CASE WHEN EXISTS (
                   SELECT FROM {in_queue("d.user_id", "d.id", AHEAD, where=f"k.lane = {Lane.BULK}", most="1")}
               ) THEN {QUIET_FOR} ELSE 0 END AS quiet_for,
               CAST(EXTRACT(EPOCH FROM GREATEST(s.next_slot_at - clock_timestamp(), interval '0')) AS float) AS slot_in
        FROM devices d JOIN device_state s ON s.device_id = d.id
        WHERE d.user_id = c.user_id AND d.is_active AND d.removed_at IS NULL
          AND {ONLINE} AND NOT {HELD} AND NOT {RESTING}
        ORDER BY d.id <= c.last_device_id, d.id LIMIT {_MAX_PHONES}
    ) d, {COUNT_SINGLES_AHEAD}
    ORDER BY c.user_id
""")  # noqa: S608 - constants

# Not where routing has it: it moves the cursor itself.
_MOVE_ON = text(f"""
    WITH own AS MATERIALIZED (
        SELECT c.user_id, u.last_device_id
        FROM {unnest(DispatchCursor.user_id, DispatchCursor.last_device_id)} JOIN dispatch_cursors c USING (user_id)
        FOR NO KEY UPDATE OF c SKIP LOCKED
    )
    UPDATE dispatch_cursors c SET last_device_id = own.last_device_id FROM own WHERE c.user_id = own.user_id
""")  # noqa: S608 - names of columns


def place(session: Session, wanted: Mapping[int, int]) -> dict[int, list[Turn]]:
    """Phones for as many new messages of each user, or for fewer of them."""
    if not 0 < sum(wanted.values()) <= MAX_SENDS:
        return {}
    rows = session.execute(_CANDIDATES, {"users": sorted(wanted), "most": MAX_LOOKAHEAD}).mappings()
    turns = {
        user: _turns(list(phones), wanted[user])
        for user, phones in groupby(cast("list[_Candidate]", rows.all()), key=itemgetter("user_id"))
    }
    _move_on(session, [(user, phones[-1].device_id) for user, phones in turns.items() if phones])
    metrics.count(session, "routed", sum(map(len, turns.values())))
    return turns


def _move_on(session: Session, served: list[tuple[int, int]]) -> None:
    """Let the next turns begin behind the last phones."""
    if served:
        session.execute(_MOVE_ON, transposed(served, "user_id", "last_device_id"))


def _turns(phones: list[_Candidate], count: int) -> list[Turn]:
    """In turn, among those that can be woken first: none that is busy with bulk while it is just being answered."""
    if any(phone["failing"] for phone in phones):
        return []
    rooms = {phone["id"]: lookahead(phone) - phone["singles_ahead"] for phone in phones}
    free = {device: room for device, room in rooms.items() if room > 0}
    quiet = {phone["id"]: phone["quiet_for"] for phone in phones if phone["id"] in free}
    ready = {device: free[device] for device, seconds in quiet.items() if seconds == min(quiet.values())}
    taken = take_turns(ready, phones[0]["last_device_id"], min(count, sum(ready.values())))
    slots = {phone["id"]: phone["slot_in"] or 0.0 for phone in phones}
    return [Turn(device, slots[device]) for device in taken]


_BEFORE = text(f"""
    SELECT u.sticky_phone, COALESCE(c.last_device_id, 0) AS last,
           EXISTS (SELECT FROM {in_queue("u.id", "0", most="1")}) AS queued
    FROM users u LEFT JOIN dispatch_cursors c ON c.user_id = u.id WHERE u.id = :user
""")  # noqa: S608 - a constant


def place_many(session: Session, user_id: int, phones: Sequence[Candidate], n: int) -> list[int]:
    """Phones for the first of `n` bulk messages that are about to be written: as many as there is room for.

    It locks nothing, since writing them takes its time: beside a routing at the same moment a phone may get somewhat
    more than its room.
    """
    before = session.execute(_BEFORE, {"user": user_id}).one()
    if before.sticky_phone or before.queued or any(phone["failing"] for phone in phones):
        return []
    rooms = room_of([phone for phone in phones if not phone["held"]])
    return take_turns(rooms, before.last, min(n, sum(rooms.values())))


_ADD_CURSOR = text("INSERT INTO dispatch_cursors (user_id) VALUES (:user) ON CONFLICT DO NOTHING")


def leave_off(session: Session, user_id: int, devices: Sequence[int]) -> None:
    """Let the next turn begin behind the last of the phones of `place_many`, once their messages are written."""
    if devices:
        metrics.count(session, "routed", len(devices))
        session.execute(_ADD_CURSOR, {"user": user_id})
        _move_on(session, [(user_id, devices[-1])])
