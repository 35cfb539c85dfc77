"""When a waiting message is expected to go, as far as that can be said.

Counted from what has happened, the last release or when the message came, and never from now: an expectation that is
not met stays what it was, and is over then.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.messages.dispatch.limits import PERIODS
from app.messages.dispatch.pace import Pace, is_paced, seconds_each
from app.messages.dispatch.routing import Candidate
from app.messages.models import QueuedRow
from app.messages.states import Stage

MAX_COUNTED = 10_000
_MAX_PHONES = 20


class Limited(Pace):
    """A phone: its pace, its limits and what holds it back."""

    device_id: int
    limits: dict[str, Any]
    default_sim_slot: int
    sim_selection: str
    last_release_at: datetime | None
    held_until: datetime | None


class FleetPhone(Limited, Candidate):
    """One of the phones that a message may be routed to."""


class Standing(QueuedRow, Limited):
    """A message's queue row with its phone's, whose fields are null where it has none.

    `ahead` messages go before it; `in_flight` is how many its phone was given and has not reported.
    """

    now: datetime
    recipient_number: str
    device_name: str
    is_active: bool
    next_slot_at: datetime | None
    held_by: str
    last_seen_at: datetime | None
    quiet_since: datetime | None
    online: bool
    silent: bool
    watched: bool
    ahead: int
    in_flight: int


_SEGMENTS = text(f"""
    SELECT COALESCE(sum(COALESCE(m.segments, 1)), 0) FROM (
        SELECT o.message_id FROM message_queue o
        WHERE o.user_id = :user AND o.device_id = :device AND o.stage = {Stage.WAITING}
          AND (o.lane, o.message_id) < (:lane, :message) LIMIT :most) AS before
    JOIN messages m ON m.id = before.message_id
""")  # noqa: S608 - names of columns and of states
_USED = text("""
    SELECT COALESCE(sum(segments), 0) FROM device_releases
    WHERE device_id = :device AND released_at > :since AND (CAST(:slot AS smallint) IS NULL OR sim_slot = :slot)
""")
# When the segment at this place, the oldest first, was released.
_RELEASED_AT = text("""
    SELECT released_at FROM (
        SELECT released_at, sum(segments) OVER (ORDER BY released_at, id) AS running FROM device_releases
        WHERE device_id = :device AND released_at > :since AND (CAST(:slot AS smallint) IS NULL OR sim_slot = :slot)
    ) r WHERE running > :place ORDER BY released_at LIMIT 1
""")


def on_phone(session: Session, standing: Standing) -> datetime:
    """For a message that waits for its phone."""
    after = standing["next_slot_at"] if is_paced(standing) else standing["last_release_at"]
    start = max(after or standing["since"], standing["since"])
    expected = start + timedelta(seconds=seconds_each(standing) * standing["ahead"])
    if standing["limits"]:
        place = {"user": standing["user_id"], "device": standing["device_id"], "lane": standing["lane"]}
        before = session.scalar(_SEGMENTS, {**place, "message": standing["message_id"], "most": MAX_COUNTED})
        within = _within_limits(session, standing, int(before or 0), standing["sim_slot"], start, standing["now"])
        expected = max(expected, within)
    held = standing["held_until"]
    return expected if held is None else max(expected, held)


def of_fleet(session: Session, standing: Standing, phones: Sequence[FleetPhone]) -> datetime:
    """For a message that waits for any of the phones, at least one of which is online."""
    usable = [phone for phone in phones if phone["online"]]
    before = standing["ahead"] + sum(phone["ahead"] for phone in usable)
    start = max(standing["since"], *(phone["last_release_at"] or standing["since"] for phone in usable))
    rate = sum(1 / seconds_each(phone) for phone in usable)
    expected = start + timedelta(seconds=before / rate)
    if all(phone["limits"] for phone in usable):
        share = before // len(usable)
        free = [_within_limits(session, phone, share, None, start, standing["now"]) for phone in usable[:_MAX_PHONES]]
        expected = max(expected, min(free))
    return expected


def _within_limits(
    session: Session, phone: Limited, before: int, named_slot: int | None, start: datetime, now: datetime
) -> datetime:
    """When the phone's limits let go a segment with `before` others in front of it."""
    scopes: list[tuple[int | None, Mapping[str, int]]] = [(None, phone["limits"])]
    if phone["sim_selection"] == "default" or named_slot is not None:
        slot = phone["default_sim_slot"] if named_slot is None else named_slot
        scopes.append((slot, phone["limits"].get("sims", {}).get(str(slot), {})))
    expected = start
    for of_slot, limits in scopes:
        for name, period in PERIODS.items():
            if limit := limits.get(name):
                window = {"device": phone["device_id"], "slot": of_slot, "since": now - period}
                expected = max(expected, _within_limit(session, window, before, limit, period, start))
    return expected


def _within_limit(
    session: Session, window: Mapping[str, Any], before: int, limit: int, period: timedelta, start: datetime
) -> datetime:
    """What was released leaves the window in its order, and what goes then leaves it one period later."""
    used = int(session.scalar(_USED, window) or 0)
    late = before - max(limit - used, 0)
    if late < 0:
        return start
    rounds, place = divmod(late, limit)
    place += max(used - limit, 0)
    released = session.scalar(_RELEASED_AT, {**window, "place": place}) if place < used else None
    return (released or start) + period * (rounds + 1)
