"""Whose an account is: proving an address, and what happens to an account that was prepared for somebody else.

Anybody can register an address that is not theirs. Who later shows that the address is theirs, by Google or by a mail,
gets the account without whatever could still act for the one who made it.
"""

from datetime import timedelta
from importlib import import_module

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.models import AccountCode, Token, User
from app.core import outbound
from app.core.emails import normalize
from app.core.task_names import TaskName
from app.features import PACKAGES

# A send whose token was judged before is written within moments, but a lock for each send would be paid by everybody.
# Until then nothing of the account's can go out: it has no phone.
STRAGGLING = timedelta(seconds=5)


def is_address(email: str) -> ColumnElement[bool]:
    """The condition that a user has this address, however it is spelled."""
    return func.coalesce(User.email_key, func.lower(User.email)) == normalize(email)


def find(session: Session, email: str, *, lock: bool = False) -> User | None:
    """The user of an address, however it is spelled."""
    query = select(User).where(is_address(email))
    return session.scalar(query.with_for_update(key_share=True) if lock else query)


def disarm(session: Session, user_id: int) -> None:
    """End everything that acts for the account: tokens, codes, phones, webhooks. What it had accepted is withdrawn."""
    # Once more while there were any: a call under way may have made one (`principals.hold`).
    while session.execute(delete(Token).where(Token.user_id == user_id).returning(Token.id)).all():
        pass
    session.execute(delete(AccountCode).where(AccountCode.user_id == user_id))
    for package in PACKAGES:  # phones and webhooks lie above this one
        if package.disarming:
            import_module(f"app.{package.name}.{package.disarming}").disarm(session, user_id)
    session.execute(
        update(User)
        .where(User.id == user_id)
        .values(default_device_id=None, withdraw_before=func.clock_timestamp() + STRAGGLING)
        .execution_options(synchronize_session=False)
    )
    outbound.nudge(session, TaskName.ERASE)
    outbound.nudge(session, TaskName.MOVE)


def prove(session: Session, user: User) -> None:
    """Note that the address is the user's, who did not sign in with the account's password. Lock the row before."""
    if user.email_verified_at is None:
        disarm(session, user.id)
        user.password_hash = None
        user.totp_secret = None
        if user.is_operator:  # who was made one had the account, and need not have the address
            user.is_operator = False
            audit.record(session, Action.OPERATOR_UNMADE, user.id)
        user.email_verified_at = session.scalar(select(func.clock_timestamp()))


def delete_account(session: Session, user_id: int) -> None:
    """End the account at once; upkeep deletes its rows. Its address may be registered again."""
    disarm(session, user_id)
    audit.record(session, Action.ACCOUNT_DELETED, None, user_id)
    session.execute(
        update(User)
        .where(User.id == user_id)
        .values(
            email=f"deleted-{user_id}",
            email_key=f"deleted-{user_id}",
            name="",
            google_subject=None,
            password_hash=None,
            totp_secret=None,
            recovery_codes=None,
            deleted_at=func.clock_timestamp(),
        )
        .execution_options(synchronize_session=False)
    )
