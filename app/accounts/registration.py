"""Who may make an account without the operator."""

from sqlalchemy import exists, select, text
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.core.errors import Forbidden
from app.core.refusals import REGISTRATION_CLOSED
from app.core.settings import get_settings

# Held to the end of the transaction: of several that register at once where nobody has, one is the first.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('accounts.registration', 0))")
_SOMEBODY = select(exists(select(User.id)))


def refuse_if_closed(session: Session) -> None:
    """Raises `Forbidden` unless a stranger may make an account now.

    Where the operator did not say, everybody may who is on this machine; from elsewhere, only the first one may.
    """
    settings = get_settings()
    if settings.registration == "open" or (settings.registration is None and settings.is_local):
        return
    if settings.registration is None and not session.scalar(_SOMEBODY):
        one_at_a_time(session)
        if not session.scalar(_SOMEBODY):
            return
    raise Forbidden(REGISTRATION_CLOSED)


def one_at_a_time(session: Session) -> None:
    """Let no other make an account as the first one until this transaction ends."""
    session.execute(_ONE_AT_A_TIME)
