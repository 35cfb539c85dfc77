"""Registering and signing in with a password."""

from contextlib import nullcontext
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts import audit, codes, login_limits, ownership, passwords, registration, second_factor, sessions, tokens
from app.accounts.audit import Action
from app.accounts.models import User
from app.accounts.principals import Principal
from app.core.database import transaction
from app.core.emails import normalize
from app.core.errors import Invalid, Refused, Unauthenticated
from app.core.refusals import INVALID_CREDENTIALS, NO_PASSWORD


def add_user(session: Session, *, name: str, email: str, password_hash: str | None, **values: Any) -> User | None:
    """The new user, None where somebody has this e-mail in any spelling, even if they registered a moment ago.

    `values` are of other columns of the user.
    """
    return session.scalar(
        insert(User)
        .values(name=name, email=email, email_key=normalize(email), password_hash=password_hash, **values)
        .on_conflict_do_nothing()
        .returning(User)
    )


def register(*, name: str, email: str, password: str, client: str | None) -> tuple[User, tokens.NewToken]:
    """A new user with a session, in transactions of its own: none is open while the password is hashed.

    Raises `Forbidden` where registration is closed, `Invalid` for a known e-mail.
    """
    with transaction() as session:
        registration.refuse_if_closed(session)
    hashed = passwords.hash_password(password)
    with transaction() as session:
        registration.refuse_if_closed(session)
        user = add_user(session, name=name, email=email, password_hash=hashed)
        if user is None:
            raise Invalid({"email": ["The email has already been taken."]})
        return user, sessions.begin(session, user.id, client, Action.REGISTERED)


def login(*, email: str, password: str, client: str | None, code: str | None = None) -> tuple[User, tokens.NewToken]:
    """The user and a new session, in transactions of its own: none is open while the password is hashed.

    Raises the same `Unauthenticated`, after the same time, for an unknown e-mail and a wrong password; and another for
    the code of a second factor that is missing or wrong.
    """
    with transaction() as session:
        user = ownership.find(session, email)
    if not passwords.matches(user.password_hash if user else None, password) or user is None:
        raise Unauthenticated(INVALID_CREDENTIALS)
    renewed = passwords.renewed(user.password_hash, password)
    limit = login_limits.of_code(user.id) if second_factor.is_code(code) else nullcontext()
    with limit, transaction() as session:
        # The password may have been changed meanwhile, and no session of the old one may begin then.
        locked = session.get_one(User, user.id, with_for_update={"key_share": True})
        if locked.password_hash != user.password_hash:
            raise Unauthenticated(INVALID_CREDENTIALS)
        second_factor.check(session, locked, code)
        if renewed:
            locked.password_hash = renewed
        return user, sessions.begin(session, user.id, client, by="password")


_WRONG_PASSWORD = "The password is incorrect."  # noqa: S105 - a sentence


def confirm(user_id: int, password: str | None) -> str | None:
    """The hash of the password that the user knows; None where the account has none. Opens a transaction of its own.

    Raises `Invalid`.
    """
    with transaction() as session:
        stored = session.scalar(select(User.password_hash).where(User.id == user_id))
    if stored is None:
        return None
    if password is None or not passwords.matches(stored, password):
        raise Invalid(
            {"current_password": [_WRONG_PASSWORD if password else "The current password field is required."]}
        )
    return stored


def change_password(principal: Principal, old: str, new: str) -> None:
    """Change the password, and end the user's other sessions; API keys stay. Raises `Refused`, `Invalid`."""
    with login_limits.of_password(principal.user_id):
        stored = confirm(principal.user_id, old)
        if stored is None:
            raise Refused(NO_PASSWORD)
        hashed = passwords.hash_password(new)
        with transaction() as session:
            codes.forget_reset(session, principal.user_id)  # before the user is locked, as where one is used
            changed = session.execute(
                update(User)
                .where(User.id == principal.user_id, User.password_hash == stored)
                .values(password_hash=hashed)
                .returning(User.id)
            )
            if changed.first() is None:  # another change came first
                raise Invalid({"current_password": [_WRONG_PASSWORD]})
            audit.record(session, Action.PASSWORD_CHANGED, principal.user_id)
            sessions.end_all(session, principal.user_id, but=principal.token_id)
