"""Sessions, which signing in makes: how long they last, listing them, ending them."""

from typing import Any

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from app.accounts import audit, tokens
from app.accounts.audit import Action
from app.accounts.models import Token, User
from app.accounts.principals import Principal
from app.core import caller
from app.core.errors import Forbidden
from app.core.refusals import ACCOUNT_BLOCKED
from app.core.settings import get_settings

NAME = "Sign-in"
MAX_NAME = 255
MAX_CLEANED = 1000

_BEGIN = text("""
    UPDATE tokens SET expires_at = created_at + LEAST(CAST(:idle AS interval), CAST(:life AS interval)) WHERE id = :id
""")


def begin(
    session: Session, user_id: int, client: str | None = None, action: Action = Action.SIGNED_IN, **details: str
) -> tokens.NewToken:
    """A new session of the user; `client` is what the program that signed in calls itself.

    Raises `Forbidden` where the account is blocked.
    """
    if session.scalar(select(User.blocked_at).where(User.id == user_id).with_for_update(read=True)) is not None:
        raise Forbidden(ACCOUNT_BLOCKED)
    token = tokens.issue(session, user_id, "session", (client or "").strip()[:MAX_NAME] or NAME)
    session.execute(_BEGIN, {"id": token.id, **limits()})
    caller.identify(user_id, token.id, "session")
    audit.record(session, action, user_id, token.id, client=token.name, **details)
    return token


def limits() -> dict[str, Any]:
    """How long a session may go unused, and how long it may last."""
    settings = get_settings()
    return {"idle": settings.session_idle, "life": settings.session_lifetime}


_OPEN = text("""
    SELECT id, name, created_at, last_used_at, expires_at FROM tokens
    WHERE user_id = :user AND kind = 'session' AND (expires_at IS NULL OR expires_at > clock_timestamp())
    ORDER BY id DESC
""")


def shown(session: Session, principal: Principal) -> list[dict[str, Any]]:
    """The user's open sessions, the newest first."""
    found = session.execute(_OPEN, {"user": principal.user_id}).mappings()
    return [{**row, "current": row["id"] == principal.token_id} for row in found]


def end_all(session: Session, user_id: int, *, but: int | None = None) -> None:
    """End the user's sessions, apart from the one given."""
    ended = delete(Token).where(Token.user_id == user_id, Token.kind == "session", Token.id != (but or 0))
    for number in session.scalars(ended.returning(Token.id)).all():
        audit.record(session, Action.SESSION_ENDED, user_id, number)


# As a use of it would: the version before this one gave no end, and makes sessions during an update.
_END_ENDLESS = text("""
    UPDATE tokens SET expires_at = LEAST(
        created_at + CAST(:life AS interval), clock_timestamp() + CAST(:idle AS interval))
    WHERE id IN (SELECT id FROM tokens WHERE kind = 'session' AND expires_at IS NULL
                 ORDER BY id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED)
""")


def clean(session: Session) -> None:
    """Delete one batch of sessions that have ended, and give one batch of those without an end theirs."""
    session.execute(_END_ENDLESS, {"most": MAX_CLEANED, **limits()})
    ended = (
        select(Token.id)
        .where(Token.kind == "session", Token.expires_at < text("clock_timestamp()"))
        .order_by(Token.expires_at)
        .limit(MAX_CLEANED)
        .with_for_update(skip_locked=True)
    )
    session.execute(delete(Token).where(Token.id.in_(ended)).execution_options(synchronize_session=False))
