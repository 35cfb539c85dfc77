"""Blocking: what an operator does about an account that must send nothing more, and may come back.

Nobody signs in to it, its API keys and sessions are refused, and what it had waiting is withdrawn. Its phones stay, and
go on to report what they sent and received.
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
    """Let the account be used again; what was withdrawn stays so."""
    user.blocked_at = None
    audit.record(session, Action.USER_UNBLOCKED, user.id)
    log.info("account unblocked", account=user.id, by=by)
