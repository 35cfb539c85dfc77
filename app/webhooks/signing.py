"""Signatures by the Standard Webhooks specification (standardwebhooks.com), with a secret per user."""

import base64
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from sqlalchemy import text
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

ROTATION = timedelta(hours=24)


def new_secret() -> str:
    """A secret of 256 bits, spelled as the specification says."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


_ENSURE = text("""
    INSERT INTO webhook_secrets (user_id, secret)
    SELECT * FROM unnest(CAST(:users AS bigint[]), CAST(:secrets AS text[])) ORDER BY 1 ON CONFLICT DO NOTHING
""")
_SECRETS = text("""
    SELECT user_id, secret, previous_secret, previous_until > clock_timestamp() FROM webhook_secrets
    WHERE user_id = ANY(:users)
""")
_CURRENT = text("""
    SELECT secret, CASE WHEN previous_until > clock_timestamp() THEN previous_until END
    FROM webhook_secrets WHERE user_id = :user
""")
_ROTATE = text("""
    UPDATE webhook_secrets SET previous_secret = secret, previous_until = clock_timestamp() + :keep, secret = :secret
    WHERE user_id = :user
""")


def ensure_secrets(session: Session, user_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The secrets each user's webhooks are signed with now, newest first; made where there are none yet."""
    users = sorted(set(user_ids))
    found = _secrets(session, users)
    missing = [user for user in users if user not in found]
    if missing:
        session.execute(_ENSURE, {"users": missing, "secrets": [new_secret() for _ in missing]})
        found |= _secrets(session, missing)
    return found


def _secrets(session: Session, users: Sequence[int]) -> dict[int, tuple[str, ...]]:
    rows = session.execute(_SECRETS, {"users": list(users)})
    return {user: (secret, previous) if valid else (secret,) for user, secret, previous, valid in rows}


def current(session: Session, user_id: int) -> tuple[str, datetime | None]:
    """The user's secret, and until when the one before it signs too."""
    ensure_secrets(session, [user_id])
    secret, until = session.execute(_CURRENT, {"user": user_id}).one()
    return secret, until


def rotate(session: Session, user_id: int) -> None:
    """Make a new secret for the user; the one before it signs beside it for 24 hours."""
    ensure_secrets(session, [user_id])
    session.execute(_ROTATE, {"user": user_id, "secret": new_secret(), "keep": ROTATION})


_signer = lru_cache(1024)(Webhook)


def headers(webhook_id: str, body: str, signing_secrets: Sequence[str]) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp` and `webhook-signature` for a call made now."""
    seconds = int(time.time())
    moment = datetime.fromtimestamp(seconds, UTC)
    signatures = (_signer(secret).sign(webhook_id, moment, body) for secret in signing_secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(signatures),
    }
