"""API keys and sessions: made, listed, revoked."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.models import Token
from app.accounts.principals import Principal, hold
from app.core.errors import Forbidden, Invalid, NotFound
from app.core.refusals import KEY_OUTLIVES
from app.core.security import digest, random_text
from app.core.validation import row_id

MODEL = "PersonalAccessToken"
Kind = Literal["key", "session"]
_SECRET_LENGTH = 43


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; `plain` is shown once and cannot be had again."""

    id: int
    name: str
    abilities: list[str]
    plain: str
    expires_at: datetime | None
    created_at: datetime


def issue(
    session: Session,
    user_id: int,
    kind: Kind,
    name: str,
    *,
    abilities: Iterable[str] = ("*",),
    expires_at: datetime | None = None,
) -> NewToken:
    """Make a token of the user."""
    secret = random_text(_SECRET_LENGTH)
    granted = list(dict.fromkeys(abilities))
    row = session.execute(
        insert(Token)
        .values(
            user_id=user_id,
            kind=kind,
            name=name,
            secret_hash=digest(secret),
            abilities=granted,
            expires_at=expires_at,
        )
        .returning(Token.id, Token.created_at)
    ).one()
    return NewToken(row.id, name, granted, f"{row.id}|{secret}", expires_at, row.created_at)


def create_key(
    session: Session, maker: Principal, name: str, abilities: Sequence[str] | None, expires_at: datetime | None
) -> NewToken:
    """Make an API key that can do no more than its maker, and if that is a key, no longer.

    Without `expires_at` it ends with that key. Raises `Forbidden` for more than the maker can and for an end behind
    the maker's, `Invalid` for one in the past.
    """
    wanted = ["*"] if abilities is None else abilities
    if not all(map(maker.can, wanted)):
        raise Forbidden
    hold(session, maker)
    if maker.kind == "key" and maker.expires_at is not None:
        expires_at = expires_at or maker.expires_at
        if expires_at > maker.expires_at:
            raise Forbidden(KEY_OUTLIVES)
    if expires_at is not None and not session.scalar(select(expires_at > func.clock_timestamp())):
        raise Invalid({"expires_at": ["The expires at field must be a date after now."]})
    return make_key(session, maker.user_id, name, wanted, expires_at)


def make_key(
    session: Session, user_id: int, name: str, abilities: Iterable[str], expires_at: datetime | None
) -> NewToken:
    """Make an API key of the user, whoever asks."""
    key = issue(session, user_id, "key", name, abilities=abilities, expires_at=expires_at)
    audit.record(session, Action.KEY_CREATED, user_id, key.id, name=name, abilities=key.abilities)
    return key


def keys(session: Session, user_id: int) -> list[Token]:
    """The user's API keys, the oldest first; sessions are none."""
    query = select(Token).where(Token.user_id == user_id, Token.kind == "key").order_by(Token.id)
    return list(session.scalars(query))


def revoke(session: Session, revoker: Principal, kind: Kind, token: str) -> None:
    """End an API key or a session at once, in every process.

    Raises `NotFound`, and `Forbidden` for one that can do more than the token that asks.
    """
    named = (Token.id == (row_id(token) or 0), Token.user_id == revoker.user_id, Token.kind == kind)
    found = session.execute(select(Token.id, Token.name, Token.abilities).where(*named).with_for_update()).one_or_none()
    if found is None:
        raise NotFound(MODEL)
    if not all(map(revoker.can, found.abilities)):
        raise Forbidden
    session.execute(delete(Token).where(*named))
    action = Action.KEY_REVOKED if kind == "key" else Action.SESSION_ENDED
    audit.record(session, action, revoker.user_id, found.id, name=found.name)


def sign_out(session: Session, principal: Principal) -> None:
    """End the token that this call came with."""
    session.execute(delete(Token).where(Token.id == principal.token_id))
    audit.record(session, Action.SIGNED_OUT, principal.user_id, principal.token_id)
