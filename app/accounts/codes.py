"""Codes by mail: to prove an address, and to set a new password. Good once, for half an hour."""

from datetime import timedelta
from typing import Literal

import structlog
from sqlalchemy import delete, func, text
from sqlalchemy.orm import Session

from app.accounts import audit, ownership, passwords
from app.accounts.audit import Action
from app.accounts.models import AccountCode, Token, User
from app.core.database import transaction
from app.core.errors import Invalid
from app.core.mail import MailNotSentError, send
from app.core.security import digest, random_text
from app.core.settings import get_settings

Purpose = Literal["password", "email"]

VALID_FOR = timedelta(minutes=30)
_SECRET_LENGTH = 43
_BAD_CODE = "This code is invalid, was already used, or has expired."

log = structlog.get_logger(__name__)

# A code that is a minute old is replaced by the next; before that no other mail goes out.
_MAKE = text("""
    INSERT INTO account_codes AS c (user_id, purpose, secret_hash, expires_at)
    VALUES (:user, :purpose, :secret, clock_timestamp() + :valid_for)
    ON CONFLICT (user_id, purpose) DO UPDATE
        SET secret_hash = excluded.secret_hash, expires_at = excluded.expires_at, created_at = clock_timestamp()
        WHERE c.created_at < clock_timestamp() - interval '1 minute'
    RETURNING 1
""")

_SUBJECTS: dict[Purpose, str] = {
    "password": "Reset your smsfleet password",
    "email": "Confirm your e-mail address for smsfleet",
}
_TEXTS: dict[Purpose, str] = {
    "password": """\
Someone asked to set a new password for the smsfleet account with this address.

The code, valid once within 30 minutes:

{code}
{link}
If it was not you, do nothing; your password stays the same.
""",
    "email": """\
Someone registered an smsfleet account with this address.

To confirm that the address is yours, sign in and enter this code within 30 minutes:

{code}

If it was not you, do nothing, and do not share the code.
""",
}


def mail_reset(email: str) -> None:
    """Mail a code to the user of this address, if there is one. Opens transactions of its own, and uses the network."""
    with transaction() as session:
        user = ownership.find(session, email)
        code = _make(session, user.id, "password") if user else None
    if user and code:
        _mail(user, "password", code)


def mail_proof(user_id: int) -> None:
    """Mail a code that proves the user's address. Opens transactions of its own, and uses the network."""
    with transaction() as session:
        user = session.get(User, user_id)
        code = _make(session, user.id, "email") if user and user.email_verified_at is None else None
    if user and code:
        _mail(user, "email", code)


def _make(session: Session, user_id: int, purpose: Purpose) -> str | None:
    secret = random_text(_SECRET_LENGTH)
    values = {"user": user_id, "purpose": purpose, "secret": digest(secret), "valid_for": VALID_FOR}
    return secret if session.execute(_MAKE, values).first() else None


def _mail(user: User, purpose: Purpose, code: str) -> None:
    try:
        # To the spelling that counts: another spelling may be another mailbox.
        send(user.email_key or user.email, _SUBJECTS[purpose], _TEXTS[purpose].format(code=code, link=_link(code)))
    except MailNotSentError as error:
        log.warning("sending code failed", user=user.id, purpose=purpose, error=str(error))


RESET_PATH = "/reset-password?code="


def _link(code: str) -> str:
    """Only to the address that the operator gave: a request may name any host."""
    settings = get_settings()
    if settings.public_url is None and not settings.is_local:
        return ""
    address = str(settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    return f"\nOr open {address}{RESET_PATH}{code}\n"


def _use(session: Session, purpose: Purpose, code: str, user_id: int | None = None) -> int:
    """Whose code it is; it is used up. Raises `Invalid`."""
    is_it = [
        AccountCode.secret_hash == digest(code.strip()),
        AccountCode.purpose == purpose,
        AccountCode.expires_at > func.clock_timestamp(),
    ]
    if user_id is not None:
        is_it.append(AccountCode.user_id == user_id)
    owner = session.scalar(delete(AccountCode).where(*is_it).returning(AccountCode.user_id))
    if owner is None:
        raise Invalid({"code": [_BAD_CODE]})
    return int(owner)


def forget_reset(session: Session, user_id: int) -> None:
    """A code that was mailed before the password was changed sets none any more."""
    session.execute(delete(AccountCode).where(AccountCode.user_id == user_id, AccountCode.purpose == "password"))


def prove_email(session: Session, user_id: int, code: str) -> None:
    """Prove the address of the user who is signed in. Raises `Invalid`."""
    _use(session, "email", code, user_id)
    user = session.get_one(User, user_id, with_for_update={"key_share": True}, populate_existing=True)
    if user.email_verified_at is None:
        user.email_verified_at = session.scalar(func.clock_timestamp().select())
        audit.record(session, Action.EMAIL_CONFIRMED, user_id)


def reset_password(code: str, password: str) -> None:
    """Set a new password, which ends all sessions; it proves the address, too. Raises `Invalid`."""
    with transaction() as session:
        known = session.query(AccountCode.user_id).filter(AccountCode.secret_hash == digest(code.strip())).first()
    if known is None:  # before the work of hashing
        raise Invalid({"code": [_BAD_CODE]})
    hashed = passwords.hash_password(password)
    with transaction() as session:
        user_id = _use(session, "password", code)
        user = session.get_one(User, user_id, with_for_update={"key_share": True})
        ownership.prove(session, user)
        user.password_hash = hashed
        audit.record(session, Action.PASSWORD_RESET, user_id)
        session.execute(delete(Token).where(Token.user_id == user_id, Token.kind == "session"))
