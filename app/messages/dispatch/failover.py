"""Failover: a message that certainly did not leave its phone is tried on another one.

Not where the request named the phone, nor where the account has switched it off. The message stays pending meanwhile;
each try has a name of its own to phones, as an owner's retry has, so a late report of an earlier one is known as such.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.devices.failures import EXPIRED, may_be_tried_elsewhere, reason_of
from app.devices.health import FAILING
from app.devices.presence import ONLINE
from app.messages import steps
from app.messages.dispatch.pace import COUNT_AHEAD, HELD, MAX_LOOKAHEAD, Pace, lookahead
from app.messages.models import MessageRow, QueuedRow
from app.messages.states import Status

MAX_MORE_TRIES = 2


class _Other(Pace):
    user_id: int
    id: int
    ahead: int


_PHONES = text(f"""
    SELECT d.user_id, d.id, d.send_delay_seconds, d.send_delay_spread_seconds, s.send_window, a.ahead
    FROM users u JOIN devices d ON d.user_id = u.id JOIN device_state s ON s.device_id = d.id, {COUNT_AHEAD}
    WHERE u.id = ANY(:users) AND u.failover AND d.is_active AND d.removed_at IS NULL AND {ONLINE} AND NOT {HELD}
      AND NOT {FAILING}
    ORDER BY d.id
""")  # noqa: S608 - constants


def may_go_on(row: MessageRow, queued: QueuedRow | None, error: str | None, now: datetime) -> bool:
    """Whether a message whose phone has just reported a failure may be tried on another, if there is one.

    The one that its owner wants back is not; nor is one whose sender's own validity is over.
    """
    return (
        row["status"] == Status.PENDING
        and queued is not None
        and not queued["cancelling"]
        and not row["device_named"]
        and row["deleted_at"] is None
        and (row["valid_until"] is None or row["valid_until"] > now)
        and (may_be_tried_elsewhere(error, row["segments"]) or _is_expired_by_a_wrong_clock(queued, error, now))
    )


def _is_expired_by_a_wrong_clock(queued: QueuedRow, error: str | None, now: datetime) -> bool:
    """The phone did not even begin, and only its own clock says that it is too late."""
    return reason_of(error) is EXPIRED and queued["valid_until"] is not None and queued["valid_until"] > now


def choose(session: Session, failed: Sequence[MessageRow]) -> dict[int, int]:
    """Another phone for each failed message, by message; none where there is none to try.

    Online, not held back by its limits, not tried before; the one with the least ahead of it for its pace.
    """
    if not failed:
        return {}
    users = sorted({row["user_id"] for row in failed})
    rows = session.execute(_PHONES, {"users": users, "most": MAX_LOOKAHEAD}).mappings()
    phones = cast("list[_Other]", rows.all())
    ahead = {(phone["user_id"], phone["id"]): phone["ahead"] for phone in phones}
    room = {phone["id"]: lookahead(phone) for phone in phones}
    tried = steps.tried(session, [row["id"] for row in failed])
    chosen: dict[int, int] = {}
    for row in failed:
        before = {*tried.get(row["id"], ()), row["device_id"]}
        others = [place for place in ahead if place[0] == row["user_id"] and place[1] not in before]
        if others and len(tried[row["id"]]) < MAX_MORE_TRIES:
            place = min(others, key=lambda place: ((ahead[place] + 1) / room[place[1]], place))
            ahead[place] += 1
            chosen[row["id"]] = place[1]
    return chosen
