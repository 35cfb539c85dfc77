"""The link that a start prints: good once and for ten minutes, for who reads the operator's terminal.

It makes the first account and its owner an operator; where there is one, it signs that operator in.
"""

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.orm import Session

from app.accounts import audit, registration, sessions, tokens
from app.accounts.audit import Action
from app.accounts.models import SignInLink, User
from app.accounts.passwords import hash_password
from app.accounts.signin import add_user
from app.core.database import transaction
from app.core.errors import Invalid, Refused
from app.core.operator_link import VALID_FOR
from app.core.refusals import LINK_USED
from app.core.security import digest

_CLEAN = text("DELETE FROM sign_in_links WHERE expires_at < clock_timestamp()")


def make(session: Session, secret: str) -> None:
    """Let a link with this secret be used."""
    expires_at = func.clock_timestamp() + VALID_FOR
    session.execute(insert(SignInLink).values(secret_hash=digest(secret), expires_at=expires_at))


def is_valid(session: Session, secret: str) -> bool:
    """Whether the link can still be used."""
    found = select(SignInLink.expires_at > func.clock_timestamp()).where(SignInLink.secret_hash == digest(secret))
    return bool(session.scalar(found))


def owner(session: Session) -> User | None:
    """Who the link signs in: the first operator, else the first account; None where there is no account yet."""
    query = (
        select(User)
        .where(User.deleted_at.is_(None), User.blocked_at.is_(None))
        .order_by(User.is_operator.desc(), User.id)
        .limit(1)
    )
    return session.scalar(query)


def sign_in(secret: str, client: str | None) -> tokens.NewToken:
    """Use the link where there is an account: it becomes the operator's. Raises `Refused`."""
    with transaction() as session:
        _use(session, secret)
        user = owner(session)
        if user is None:
            raise Refused(LINK_USED)
        if not user.is_operator:
            user.is_operator = True
            audit.record(session, Action.OPERATOR_MADE, user.id, by="link")
        return sessions.begin(session, user.id, client, by="link")


def register(secret: str, *, name: str, email: str, password: str, client: str | None) -> tokens.NewToken:
    """Use the link where there is no account: make the first one, an operator's. Raises `Refused`, `Invalid`."""
    with transaction() as session:
        if not is_valid(session, secret):
            raise Refused(LINK_USED)
    hashed = hash_password(password)
    with transaction() as session:
        registration.one_at_a_time(session)
        _use(session, secret)
        if owner(session) is not None:
            raise Refused(LINK_USED)
        user = add_user(session, name=name, email=email, password_hash=hashed, is_operator=True)
        if user is None:
            raise Invalid({"email": ["The email has already been taken."]})
        return sessions.begin(session, user.id, client, Action.REGISTERED, by="link")


def _use(session: Session, secret: str) -> None:
    used = (
        delete(SignInLink)
        .where(SignInLink.secret_hash == digest(secret), SignInLink.expires_at > func.clock_timestamp())
        .returning(SignInLink.secret_hash)
    )
    if session.execute(used).first() is None:
        raise Refused(LINK_USED)
    session.execute(_CLEAN)
