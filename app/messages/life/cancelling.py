"""Cancelling: what no phone was given is withdrawn at once; what a phone has, it is asked to give back.

Cancelled means that no phone will send it, so a message that a phone has is cancelled only by the phone's own word.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.core import outbound, places
from app.core.batching import Batcher
from app.core.database import transaction
from app.core.errors import Refused
from app.core.once import once
from app.core.refusals import NOT_CONFIRMED, NOT_PENDING, OLD_APP, ONLY_PENDING
from app.devices import versions
from app.messages.dispatch import waking
from app.messages.life import transitions
from app.messages.life.reports import wire_name
from app.messages.life.transitions import Change
from app.messages.lookup import find
from app.messages.states import Event, Stage, Status

CONFIRM_TIMEOUT = 3.0
POLL_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class _Asked:
    """What came of asking: the message's number, and whether the phone's word is to be waited for."""

    message_id: int
    status: Status
    waits: bool = False
    refused: Refused | None = None


async def cancel(user_id: int, name: str) -> int:
    """Cancel a message of the user's and answer its number. Raises `NotFound`, and `Refused` where it is too late.

    The phone has three seconds to confirm. No thread, no connection and no place is held meanwhile.
    """
    asked = await run_in_threadpool(_in_transaction, user_id, name)
    status = asked.status
    if asked.waits:
        places.leave()
        deadline = time.monotonic() + CONFIRM_TIMEOUT
        while status is Status.PENDING and time.monotonic() < deadline:
            await asyncio.sleep(POLL_INTERVAL)
            status = await _lookers().submit(asked.message_id)
    if status is not Status.CANCELLED:
        raise asked.refused or (_not_confirmed() if status is Status.PENDING else _not_pending(status))
    return asked.message_id


def _not_pending(status: Status | Exception) -> Refused:
    return Refused(ONLY_PENDING, reason=NOT_PENDING, status=str(status))


def _not_confirmed() -> Refused:
    return Refused(ONLY_PENDING, reason=NOT_CONFIRMED)


def _old_app(phone: str, version: str | None) -> Refused:
    required = ".".join(map(str, versions.CANCELS))
    return Refused(ONLY_PENDING, reason=OLD_APP, phone=phone, version=version or "unknown", required=required)


def _in_transaction(user_id: int, name: str) -> _Asked:
    with transaction() as session:
        return ask(session, user_id, name)


def _statuses(session: Session, ids: Sequence[int]) -> list[Status | Exception]:
    rows = session.execute(text("SELECT id, status FROM messages WHERE id = ANY(:ids)"), {"ids": ids})
    found = {row.id: Status(row.status) for row in rows}
    # What is gone was deleted for good after it had ended.
    return [found.get(number, Status.FAILED) for number in ids]


@once
def _lookers() -> Batcher[int, Status]:
    """All that wait in this process look with one statement."""
    return Batcher("cancelled", _statuses)


_PHONE = text("""
    SELECT d.app_version, d.device_name
    FROM message_queue q JOIN devices d ON d.id = q.device_id WHERE q.message_id = :id
""")


def ask(session: Session, user_id: int, name: str) -> _Asked:
    """Withdraw the message, or ask its phone for it where the app understands that."""
    row = find(session, user_id, name)
    phone = session.execute(_PHONE, {"id": row["id"]}).one_or_none()
    able = phone is not None and versions.can_cancel(phone.app_version)
    wanted = [Event.WITHDRAWN, Event.RECALLED] if able else [Event.WITHDRAWN]
    applied = transitions.apply(session, [Change(row["id"], event) for event in wanted])[row["id"]]
    if Status.CANCELLED in applied.passed:
        return _Asked(row["id"], Status.CANCELLED)
    queued = applied.queued
    if queued is None or phone is None:
        [status] = _statuses(session, [row["id"]])  # what it became while its row was waited for
        return _Asked(row["id"], Status.FAILED, refused=_not_pending(status))
    if not able:
        return _Asked(row["id"], Status.FAILED, refused=_old_app(phone.device_name, phone.app_version))
    device = queued["device_id"]
    outbound.signal(session, device, "MessageCancelled", messageId=wire_name(row["message_id"], row["attempt"]))
    if queued["stage"] == Stage.RELEASED:
        # A phone that never got the message hears of it only by pulling.
        waking.wake(session, device)
    return _Asked(row["id"], Status.PENDING, waits=True)
