"""Registering and signing in with a password."""

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts import passwords, registration, tokens
from app.accounts.models import User
from app.core.database import transaction
from app.core.errors import Invalid, Unauthenticated

SESSION_NAME = "Sign-in"


def add_user(session: Session, *, name: str, email: str, password_hash: str | None) -> User | None:
    """The new user, None where somebody has this e-mail in any spelling, even if they registered a moment ago."""
    return session.scalar(
        insert(User)
        .values(name=name, email=email, password_hash=password_hash)
        .on_conflict_do_nothing()
        .returning(User)
    )


def register(session: Session, *, name: str, email: str, password: str) -> tuple[User, tokens.NewToken]:
    """A new user with a session. Raises `Forbidden` where registration is closed, `Invalid` for a known e-mail."""
    registration.refuse_if_closed(session)
    user = add_user(session, name=name, email=email, password_hash=passwords.hash_password(password))
    if user is None:
        raise Invalid({"email": ["The email has already been taken."]})
    return user, tokens.issue(session, user.id, "session", SESSION_NAME)


def login(*, email: str, password: str) -> tuple[User, tokens.NewToken]:
    """The user and a new session, in transactions of its own: none is open while the password is hashed.

    Raises the same `Unauthenticated`, after the same time, for an unknown e-mail and a wrong password.
    """
    with transaction() as session:
        user = session.scalar(select(User).where(func.lower(User.email) == func.lower(email)))
    if not passwords.matches(user.password_hash if user else None, password) or user is None:
        raise Unauthenticated("Invalid credentials")
    renewed = passwords.renewed(user.password_hash, password)
    with transaction() as session:
        if renewed:
            session.execute(update(User).where(User.id == user.id).values(password_hash=renewed))
        return user, tokens.issue(session, user.id, "session", SESSION_NAME)
