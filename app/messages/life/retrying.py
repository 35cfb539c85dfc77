"""Sending a failed message again, because its owner wants it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.errors import Refused
from app.core.lanes import Lane
from app.core.refusals import NO_ACTIVE_DEVICE, ONLY_FAILED, OPTED_OUT, STILL_HELD, TRIED_ENOUGH
from app.core.task_names import TaskName
from app.messages import storing
from app.messages.accepting import later
from app.messages.life import transitions
from app.messages.life.transitions import Change
from app.messages.states import Event
from app.optouts import consent

# A name of 36 characters is what the app can report, and it ends with the number of the attempt; the last ones are left
# to trying another phone by itself.
MAX_ATTEMPTS = 990

_ABLE = text("""
    SELECT EXISTS (SELECT FROM devices WHERE user_id = :user AND is_active AND removed_at IS NULL
                   AND (CAST(:named AS bigint) IS NULL OR id = :named))
""")


def retry(session: Session, row: Mapping[str, Any]) -> None:
    """Make the message pending again, under a new name to phones. Raises `Refused`.

    While a phone has the message it is pending, or its owner said that it failed and it is refused, so it cannot be
    sent by two. One that named its phone stays with it.
    """
    if row["status"] != "failed":
        raise Refused(ONLY_FAILED)
    if row["attempt"] >= MAX_ATTEMPTS:
        raise Refused(TRIED_ENOUGH, limit=MAX_ATTEMPTS)
    if not row["ignores_opt_out"] and consent.among(session, row["user_id"], [row["recipient_number"]]):
        raise Refused(OPTED_OUT)
    named = row["device_id"] if row["device_named"] else None
    if not session.scalar(_ABLE, {"user": row["user_id"], "named": named}):
        raise Refused(NO_ACTIVE_DEVICE)
    applied = transitions.apply(session, [Change(row["id"], Event.RETRIED)])
    if not applied or not applied[row["id"]].changed:
        is_failed = bool(applied) and applied[row["id"]].row["status"] == "failed"
        raise Refused(STILL_HELD if is_failed else ONLY_FAILED)
    # Its hours may be over by now, so it is not given out before they were looked at.
    if row["lane"] == Lane.BULK:
        storing.close(session, {row["id"]: later.clock(session)})
        outbound.nudge(session, TaskName.RELEASE)
