"""Blocking: what an operator does about an account that must send nothing more, and may come back.

Nobody signs in to it, its API keys and sessions are refused, what it had waiting is withdrawn, and hand-out gives its
phones nothing more. They stay, and go on to report what they sent and received.
"""

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts import audit, ownership, sessions
from app.accounts.audit import Action
from app.accounts.models import User
from app.core import outbound
from app.core.task_names import TaskName

log = structlog.get_logger(__name__)


def block(session: Session, user: User, *, by: int | None = None) -> None:
    """Block the account, whose row is locked; once more withdraws what was accepted meanwhile."""
    now = session.scalars(select(func.clock_timestamp())).one()
    user.blocked_at = user.blocked_at or now
    user.withdraw_before = now + ownership.STRAGGLING
    sessions.end_all(session, user.id)
    outbound.nudge(session, TaskName.ERASE)
    audit.record(session, Action.USER_BLOCKED, user.id)
    log.info("account blocked", account=user.id, by=by)


def unblock(session: Session, user: User, *, by: int | None = None) -> None:
    """Let the account be used again. What was withdrawn stays so, and what came back from phones meanwhile joins it."""
    user.blocked_at = None
    user.withdraw_before = session.scalars(select(func.clock_timestamp())).one()
    outbound.nudge(session, TaskName.ERASE)
    audit.record(session, Action.USER_UNBLOCKED, user.id)
    log.info("account unblocked", account=user.id, by=by)
