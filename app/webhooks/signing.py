"""Signatures by the Standard Webhooks specification (standardwebhooks.com), with a secret per user."""

import base64
import hmac
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.core.arrays import unnest
from app.webhooks.models import WebhookSecret

ROTATION = timedelta(hours=24)
# Each costs a signature in every webhook; more rotations than this in a day end the oldest early.
MAX_PREVIOUS = 10


def new_secret() -> str:
    """A secret of 256 bits, spelled as the specification says."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


_ENSURE = text(f"""
    INSERT INTO webhook_secrets (user_id, secret)
    SELECT * FROM {unnest(WebhookSecret.user_id, WebhookSecret.secret)} ORDER BY 1 ON CONFLICT DO NOTHING
""")  # noqa: S608 - names of columns
_PREVIOUS = """
    unnest(previous_secrets, previous_ends) AS previous(secret, ends) WHERE previous.ends > clock_timestamp()
"""
# Of a row of `webhook_secrets`: all that sign now, the newest first.
VALID_SECRETS = f"ARRAY[secret] || ARRAY(SELECT previous.secret FROM {_PREVIOUS} ORDER BY previous.ends DESC)"  # noqa: S608
_SECRETS = text(f"SELECT user_id, {VALID_SECRETS} FROM webhook_secrets WHERE user_id = ANY(:users)")  # noqa: S608 - a constant
_CURRENT = text(f"""
    SELECT secret, (SELECT max(previous.ends) FROM {_PREVIOUS}) FROM webhook_secrets WHERE user_id = :user
""")  # noqa: S608 - constants
# The row's lock puts rotations at the same time one after the other, so that each of them keeps what it replaces.
_ROTATE = text(f"""
    UPDATE webhook_secrets SET secret = :secret, (previous_secrets, previous_ends) = (
        SELECT array_agg(kept.secret ORDER BY kept.ends DESC), array_agg(kept.ends ORDER BY kept.ends DESC)
        FROM (SELECT webhook_secrets.secret, clock_timestamp() + :keep AS ends
              UNION ALL SELECT previous.secret, previous.ends FROM {_PREVIOUS}
              ORDER BY ends DESC LIMIT :most) kept)
    WHERE user_id = :user
""")  # noqa: S608 - constants


def ensure_secrets(session: Session, user_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The secrets each user's webhooks are signed with now, newest first; made where there are none yet."""
    users = sorted(set(user_ids))
    found = _secrets(session, users)
    missing = [user for user in users if user not in found]
    if missing:
        session.execute(_ENSURE, {"user_id": missing, "secret": [new_secret() for _ in missing]})
        found |= _secrets(session, missing)
    return found


def _secrets(session: Session, users: Sequence[int]) -> dict[int, tuple[str, ...]]:
    rows = session.execute(_SECRETS, {"users": list(users)})
    return {user: tuple(valid) for user, valid in rows}


def current(session: Session, user_id: int) -> tuple[str, datetime | None]:
    """The user's secret, and until when the one before it signs too."""
    ensure_secrets(session, [user_id])
    secret, until = session.execute(_CURRENT, {"user": user_id}).one()
    return secret, until


def rotate(session: Session, user_id: int) -> None:
    """Make a new secret for the user; the one before it signs beside it for 24 hours, whatever is rotated meanwhile."""
    ensure_secrets(session, [user_id])
    session.execute(_ROTATE, {"user": user_id, "secret": new_secret(), "keep": ROTATION, "most": MAX_PREVIOUS})
    audit.record(session, Action.WEBHOOK_SECRET_ROTATED, user_id)


@lru_cache(1024)
def _begun(secret: str) -> hmac.HMAC:
    """What every signature by the secret begins with: each is made on a copy, for a fifth of what a new one takes."""
    return hmac.new(base64.b64decode(secret.removeprefix("whsec_")), digestmod="sha256")


def _signature(secret: str, signed: bytes) -> str:
    made = _begun(secret).copy()
    made.update(signed)
    return "v1," + base64.b64encode(made.digest()).decode("ascii")


def headers(webhook_id: str, body: str, signing_secrets: Sequence[str]) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp` and `webhook-signature` for a call made now."""
    moment = str(int(time.time()))
    signed = f"{webhook_id}.{moment}.{body}".encode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": moment,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in signing_secrets),
    }
