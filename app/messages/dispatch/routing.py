"""Routing: every waiting message of a user gets a phone, in turn."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import cast

from sqlalchemy import Integer, text
from sqlalchemy.orm import Session

from app.core import metrics, outbound
from app.core.arrays import by_key, unnest
from app.core.database import interval
from app.core.lanes import Lane
from app.core.task_names import TaskName
from app.devices.health import FAILING, RESTING
from app.devices.presence import ONLINE
from app.messages.dispatch import waking
from app.messages.dispatch.limits import HELD_PARTLY, OF_A_SIM, PERIODS, RECIPIENT_HASH, RECIPIENTS
from app.messages.dispatch.marks import taken
from app.messages.dispatch.pace import COUNT_AHEAD, COUNT_SINGLES_AHEAD, HELD, MAX_LOOKAHEAD, Pace, lookahead
from app.messages.models import QueueEntry
from app.messages.states import Stage

BATCH_SIZE = 500


class Candidate(Pace):
    """A phone that messages may be routed to; `held_partly` where its limits hold back only some of them."""

    id: int
    ahead: int
    singles_ahead: int
    online: bool
    failing: bool
    resting: bool
    held: bool
    held_partly: bool


_CURSOR = text("SELECT last_device_id FROM dispatch_cursors WHERE user_id = :user FOR NO KEY UPDATE")
_IS_STICKY = text("SELECT sticky_phone FROM users WHERE id = :user")

_PHONES = text(f"""
    SELECT d.id, d.send_delay_seconds, d.send_delay_spread_seconds, s.send_window, {ONLINE} AS online, a.ahead,
           b.singles_ahead, {FAILING} AS failing, {RESTING} AS resting,
           {HELD} AS held, {HELD} AND {HELD_PARTLY} AS held_partly
    FROM devices d JOIN device_state s ON s.device_id = d.id, {COUNT_AHEAD}, {COUNT_SINGLES_AHEAD}
    WHERE d.user_id = :user AND d.is_active AND d.removed_at IS NULL ORDER BY d.id
""")  # noqa: S608 - a constant

_CLAIM = text(f"""
    SELECT q.message_id, p.lane FROM {unnest(QueueEntry.lane, alias="p", room=Integer())}, LATERAL (
        {taken(":user", "0", where="k.lane = p.lane", most="p.room")}) q
""")  # noqa: S608 - a constant

# What phones may still take that a limit of recipients, or of the SIM card that sends by default, holds back: messages
# to a number they had within its 30 days, and those that name another SIM card. `device_releases` has hashed numbers.
_CLAIM_PAST_LIMITS = text(f"""
    WITH waiting AS MATERIALIZED (
        SELECT message_id, lane, sim_slot FROM message_queue
        WHERE user_id = :user AND device_id = 0 AND stage = {Stage.WAITING}
        ORDER BY lane, message_id LIMIT :looked_at FOR NO KEY UPDATE SKIP LOCKED
    ), known AS MATERIALIZED (
        SELECT DISTINCT device_id, recipient FROM device_releases
        WHERE device_id = ANY(:devices) AND released_at > clock_timestamp() - {interval(PERIODS["per_month"])}
    )
    SELECT DISTINCT ON (q.lane, q.message_id) q.message_id, d.id AS device_id
    FROM waiting q JOIN messages m ON m.id = q.message_id
    JOIN devices d ON d.id = ANY(:devices) JOIN device_state s ON s.device_id = d.id
    WHERE CASE WHEN s.held_by LIKE '%{RECIPIENTS}' THEN (d.id, {RECIPIENT_HASH}) IN (SELECT * FROM known) END
       OR (s.held_by LIKE '{OF_A_SIM}%' AND q.sim_slot <> d.default_sim_slot)
    ORDER BY q.lane, q.message_id, d.id
""")  # noqa: S608 - constants
_MAX_PAST_LIMITS = 2000

# The phone that each message's recipient last wrote to, or was last sent to from.
_LAST_PHONES = text("""
    SELECT m.id, last.device_id FROM messages m, LATERAL (
        SELECT device_id FROM (
            (SELECT o.device_id, o.created_at FROM messages o
             WHERE o.user_id = :user AND o.direction = 'outbound' AND o.deleted_at IS NULL
               AND o.recipient_number = m.recipient_number AND o.device_id IS NOT NULL
             ORDER BY o.created_at DESC, o.id DESC LIMIT 1)
            UNION ALL
            (SELECT i.device_id, i.created_at FROM messages i
             WHERE i.user_id = :user AND i.direction = 'inbound' AND i.deleted_at IS NULL
               AND i.sender_number = m.recipient_number AND i.device_id IS NOT NULL
             ORDER BY i.created_at DESC, i.id DESC LIMIT 1)) seen
        ORDER BY created_at DESC LIMIT 1) last
    WHERE m.id = ANY(:messages)
""")

_ROUTED = unnest(QueueEntry.message_id, QueueEntry.device_id)
_ASSIGN = text(f"""
    WITH routed AS (
        UPDATE message_queue q SET device_id = u.device_id, since = clock_timestamp()
        FROM {_ROUTED} WHERE {by_key(QueueEntry.message_id)}
    )
    UPDATE messages m SET device_id = u.device_id, routed_at = clock_timestamp()
    FROM {_ROUTED} WHERE m.id = u.message_id
""")  # noqa: S608 - names of columns


def route_waiting(session: Session, user_id: int) -> int:
    """Give the user's waiting messages phones, one batch of them, and say how many were given.

    The user's cursor is locked first, so two workers take turns with one user and no message is chosen twice.
    """
    last = _lock_cursor(session, user_id)
    rows = session.execute(_PHONES, {"user": user_id, "most": MAX_LOOKAHEAD}).mappings()
    phones = cast("list[Candidate]", rows.all())
    if free := [phone for phone in phones if not phone["held"]]:
        messages, devices = _in_turn(session, user_id, free, last)
    else:
        rooms = room_of([phone for phone in phones if phone["held_partly"]])
        messages, devices = _past_limits(session, user_id, rooms) if rooms else ([], [])
    if not messages:
        return 0
    metrics.count(session, "routed", len(messages))
    session.execute(_ASSIGN, {"message_id": messages, "device_id": devices})
    session.execute(
        text("UPDATE dispatch_cursors SET last_device_id = :device WHERE user_id = :user"),
        {"user": user_id, "device": devices[-1]},
    )
    waking.wake_or_route(session, {(user_id, device) for device in devices})
    if len(messages) >= BATCH_SIZE:
        outbound.nudge(session, TaskName.ROUTE, user_id)
    return len(messages)


def _in_turn(session: Session, user_id: int, phones: Sequence[Candidate], last: int) -> tuple[list[int], list[int]]:
    """Messages with their phones: single sends, which what a phone has ahead in bulk leaves their room, then bulk."""
    rooms = {Lane.SINGLE: room_of(phones, Lane.SINGLE), Lane.BULK: room_of(phones)}
    most = [min(BATCH_SIZE, sum(of_lane.values())) for of_lane in rooms.values()]
    if not any(most):
        return [], []
    waiting: dict[int, list[int]] = {lane: [] for lane in rooms}
    for message, lane in session.execute(_CLAIM, {"user": user_id, "lane": list(rooms), "room": most}):
        waiting[lane].append(message)
    stays = _last_phones(session, user_id, [*chain(*waiting.values())], [phone["id"] for phone in _usable(phones)])
    messages: list[int] = []
    devices: list[int] = []
    for lane, of_lane in rooms.items():
        left = Counter(of_lane)
        left.subtract(devices)
        free = {device: room for device, room in left.items() if room > 0}
        moving = [message for message in waiting[lane] if message not in stays]
        most_now = BATCH_SIZE - len(messages)
        turns = take_turns(free, devices[-1] if devices else last, min(len(moving), sum(free.values()), most_now))
        chosen = stays | dict(zip(moving, turns, strict=False))
        given = [message for message in waiting[lane] if message in chosen]
        messages += given
        devices += [chosen[message] for message in given]
    return messages, devices


def take_turns(rooms: Mapping[int, int], last: int, count: int) -> list[int]:
    """Phones for `count` messages: in turn by id from the one after `last`, skipping those without room.

    Phones of equal room get equal shares.
    """
    left = Counter(rooms)
    order = sorted(left)
    start = next((place for place, device in enumerate(order) if device > last), 0)
    turns: list[int] = []
    ring = order[start:] + order[:start]
    while len(turns) < count:
        ring = [device for device in ring if left[device] > 0]
        for device in ring[: count - len(turns)]:
            left[device] -= 1
            turns.append(device)
    return turns


def _lock_cursor(session: Session, user_id: int) -> int:
    cursor: int | None = session.scalar(_CURSOR, {"user": user_id})
    if cursor is None:
        session.execute(
            text("INSERT INTO dispatch_cursors (user_id) VALUES (:user) ON CONFLICT DO NOTHING"), {"user": user_id}
        )
        cursor = session.execute(_CURSOR, {"user": user_id}).scalar_one()
    return cursor


def _past_limits(session: Session, user_id: int, rooms: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Messages, with their phones, that may go although the limits of every phone hold back what is usual."""
    left = Counter(rooms)
    values = {"user": user_id, "devices": list(rooms), "looked_at": _MAX_PAST_LIMITS}
    messages: list[int] = []
    devices: list[int] = []
    for message, device in session.execute(_CLAIM_PAST_LIMITS, values):
        if left[device] > 0 and len(messages) < BATCH_SIZE:
            left[device] -= 1
            messages.append(message)
            devices.append(device)
    return messages, devices


def _last_phones(session: Session, user_id: int, messages: Sequence[int], usable: Collection[int]) -> dict[int, int]:
    """For accounts that want it, the usable phone that each message's recipient stays with.

    It may have more waiting for it than its room then, as with messages that name it.
    """
    if not messages or not session.scalar(_IS_STICKY, {"user": user_id}):
        return {}
    found = session.execute(_LAST_PHONES, {"user": user_id, "messages": messages})
    return {row.id: row.device_id for row in found if row.device_id in usable}


def _usable(phones: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those online, or all of them where none is; without those that rest while another may be used."""
    usable = [phone for phone in phones if phone["online"]] or phones
    return [phone for phone in usable if not phone["resting"]] or usable


def room_of(phones: Sequence[Candidate], lane: Lane = Lane.BULK) -> dict[int, int]:
    """Room of each phone that may be used; single sends have what bulk has left, and what it has taken.

    A failing phone gets one message at a time.
    """

    def room(phone: Candidate) -> int:
        if phone["failing"]:
            return 1 - phone["ahead"]
        return lookahead(phone) - phone["singles_ahead" if lane is Lane.SINGLE else "ahead"]

    return {phone["id"]: free for phone in _usable(phones) if (free := room(phone)) > 0}
