"""The second factor of signing in with a password: a code by the clock (TOTP, RFC 6238), or a recovery code.

A code is good once: the step that it was made of is remembered, so that who looks over a shoulder is too late.
"""

import base64
import hashlib
import hmac
import secrets
import struct
from urllib.parse import quote

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.models import User
from app.core.errors import Invalid, Unauthenticated
from app.core.refusals import SECOND_FACTOR_NEEDED, WRONG_SECOND_FACTOR
from app.core.security import digest, random_text

STEP_SECONDS = 30
DIGITS = 6
# Clocks of phones are off by a little.
STEPS_AROUND = 1
RECOVERY_CODES = 10
SECRET_FORM = "[A-Z2-7]{16,64}"  # noqa: S105 - what one looks like
_SECRET_BYTES = 20
_RECOVERY_LENGTH = 12
_WRONG = "The code is wrong. Check that the phone's clock is right."


def new_secret() -> str:
    """As authenticator apps take it: base32."""
    return base64.b32encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def address(secret: str, email: str) -> str:
    """What the QR code for an authenticator app holds."""
    return f"otpauth://totp/smsfleet:{quote(email)}?secret={secret}&issuer=smsfleet"


def code_of(secret: str, step: int) -> str:
    """The code of a step of time."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8), casefold=True)
    mac = hmac.new(key, struct.pack(">Q", step), hashlib.sha1).digest()
    number = struct.unpack_from(">I", mac, mac[-1] & 0x0F)[0] & 0x7FFFFFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def _step(session: Session) -> int:
    seconds: float = session.scalar(select(func.extract("epoch", func.clock_timestamp())))  # type: ignore[assignment]
    return int(seconds) // STEP_SECONDS


def _matching(secret: str, code: str, now: int) -> int | None:
    """The step that a code is of, of those around now."""
    steps = range(now - STEPS_AROUND, now + STEPS_AROUND + 1)
    found = [step for step in steps if hmac.compare_digest(code_of(secret, step).encode(), code.encode())]
    return found[0] if found else None


def turn_on(session: Session, user: User, secret: str, code: str) -> list[str]:
    """Ask for a code from now on; the recovery codes, which are shown once. Raises `Invalid`. Lock the row before."""
    try:
        step = _matching(secret, code.replace(" ", ""), _step(session))
    except ValueError:
        step = None
    if step is None:
        raise Invalid({"code": [_WRONG]})
    codes = [random_text(_RECOVERY_LENGTH) for _ in range(RECOVERY_CODES)]
    user.totp_secret, user.totp_step = secret, step
    user.recovery_codes = [digest(each) for each in codes]
    audit.record(session, Action.SECOND_FACTOR_ON, user.id)
    return codes


def turn_off(session: Session, user: User) -> None:
    """Ask for no code any more."""
    user.totp_secret, user.totp_step, user.recovery_codes = None, None, None
    audit.record(session, Action.SECOND_FACTOR_OFF, user.id)


def is_code(given: str | None) -> bool:
    """Whether this looks like a code by the clock, not like a recovery code."""
    return given is not None and given.replace(" ", "").isdigit()


def check(session: Session, user: User, code: str | None) -> None:
    """Use up the code of who signs in. Raises `Unauthenticated`. Lock the row before."""
    if user.totp_secret is None:
        return
    if not code:
        raise Unauthenticated(SECOND_FACTOR_NEEDED)
    given = code.replace(" ", "")
    step = _matching(user.totp_secret, given, _step(session))
    if step is not None and step > (user.totp_step or 0):
        user.totp_step = step
        return
    left = [each for each in user.recovery_codes or [] if not hmac.compare_digest(each, digest(given))]
    if len(left) == len(user.recovery_codes or []):
        raise Unauthenticated(WRONG_SECOND_FACTOR)
    user.recovery_codes = left
