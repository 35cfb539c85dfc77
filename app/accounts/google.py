"""Signing in with Google: the token is judged by Google's tokeninfo endpoint, then by what it says."""

import re
import time
from dataclasses import dataclass
from typing import Any, TypeGuard

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts import ownership, registration, sessions, tokens
from app.accounts.models import User
from app.accounts.signin import add_user
from app.core.bodies import storable
from app.core.database import transaction
from app.core.emails import is_email
from app.core.errors import Invalid, Refused, Unauthenticated, Unavailable
from app.core.http_client import HTTPError, InvalidURL, plain_client
from app.core.refusals import GOOGLE_UNAVAILABLE, INVALID_GOOGLE_TOKEN, OTHER_GOOGLE_ACCOUNT
from app.core.settings import get_settings

_THREE_PARTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# Tuples: what is compared with them may be of any type.
_ISSUERS = ("accounts.google.com", "https://accounts.google.com")
_VERIFIED = (True, "true")
_MAX_LENGTH = 255
_REJECTED = frozenset({400, 401})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who Google says somebody is; the e-mail is verified."""

    subject: str
    email: str
    name: str


def identify(id_token: str) -> Identity:
    """Ask Google whose token this is. Uses the network: call it with no transaction open.

    Raises `Unauthenticated` for a bad token, `Unavailable` where nobody can tell.
    """
    if not _THREE_PARTS.fullmatch(id_token):
        raise _invalid()
    settings = get_settings()
    if not settings.google_client_id:
        raise _unavailable()
    claims = _ask(settings.google_tokeninfo_url, id_token)
    if (
        claims.get("aud") != settings.google_client_id
        or claims.get("iss") not in _ISSUERS
        or not _is_later(claims.get("exp"))
        or claims.get("email_verified") not in _VERIFIED
    ):
        raise _invalid()
    subject, email, name = claims.get("sub"), claims.get("email"), claims.get("name")
    if not (_is_text(subject) and _is_text(email) and is_email(email) and max(len(subject), len(email)) <= _MAX_LENGTH):
        raise _invalid()
    return Identity(subject, email, name[:_MAX_LENGTH] if _is_text(name) else email.partition("@")[0])


def sign_in(session: Session, identity: Identity, client: str | None) -> tuple[User, tokens.NewToken]:
    """The user of this Google account, or of its verified e-mail, or a new one; and a new session.

    An account whose address was never proven is linked without what its maker left in it (`ownership.prove`). Raises
    `Refused` where another Google account has the address, `Forbidden` for a new user where registration is closed.
    """
    user = _known(session, identity)
    if user is None:
        registration.refuse_if_closed(session)
        proven = {"google_subject": identity.subject, "email_verified_at": func.clock_timestamp()}
        user = add_user(session, name=identity.name, email=identity.email, password_hash=None, **proven)
        # Another request may have made the user a moment ago.
        user = user or _known(session, identity)
    assert user is not None
    if user.google_subject not in {None, identity.subject}:
        raise Refused(OTHER_GOOGLE_ACCOUNT)
    # Also one that a version before `email_verified_at` linked: its password may be of whoever registered the address.
    ownership.prove(session, user)
    user.google_subject = identity.subject
    return user, sessions.begin(session, user.id, client, by="google")


_REQUIRED = "The id token field is required: the account has no password; sign in with Google again."
_NOT_YOURS = "This is not a valid token of the Google account you sign in with."


def confirm(user_id: int, id_token: str | None) -> None:
    """Have the user show that they are still signed in to their Google account. Uses the network.

    Raises `Invalid`, `Unavailable`.
    """
    if id_token is None:
        raise Invalid({"id_token": [_REQUIRED]})
    try:
        subject = identify(id_token).subject
    except Unauthenticated:
        subject = None
    with transaction() as session:
        own = session.scalar(select(User.google_subject).where(User.id == user_id))
    if own is None or own != subject:
        raise Invalid({"id_token": [_NOT_YOURS]})


def _known(session: Session, identity: Identity) -> User | None:
    same = select(User).where(User.google_subject == identity.subject).with_for_update(key_share=True)
    return session.scalar(same) or ownership.find(session, identity.email, lock=True)


def _ask(url: str, id_token: str) -> dict[str, Any]:
    try:
        with plain_client() as client:
            answer = client.get(url, params={"id_token": id_token})
        if answer.status_code in _REJECTED:
            raise _invalid()
        claims = answer.json() if answer.is_success else None
    except (HTTPError, InvalidURL, ValueError, RecursionError) as error:
        log.warning("Google cannot be reached", error=type(error).__name__)
        raise _unavailable() from error
    if not isinstance(claims, dict):
        log.warning("Google cannot be reached", status=answer.status_code)
        raise _unavailable()
    return claims


def _is_text(claim: Any) -> TypeGuard[str]:
    """Whether a claim is a text that says something and can be stored."""
    return isinstance(claim, str) and claim != "" and storable(claim)


def _is_later(expiry: Any) -> bool:
    try:
        return float(expiry) > time.time()
    except (TypeError, ValueError, OverflowError):
        return False


def _invalid() -> Unauthenticated:
    return Unauthenticated(INVALID_GOOGLE_TOKEN)


def _unavailable() -> Unavailable:
    return Unavailable(GOOGLE_UNAVAILABLE)
