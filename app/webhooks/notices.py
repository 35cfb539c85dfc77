"""Mail to owners whose webhook URL was switched off."""

import structlog
from sqlalchemy import text

from app.core.database import transaction
from app.core.mail import MailNotSentError, send

MOST_AT_ONCE = 5

log = structlog.get_logger(__name__)

# Told before the mail is sent, so that two of these at once send one mail; taken back where it could not be sent.
_TAKE = text("""
    UPDATE webhook_urls w SET owner_told_at = clock_timestamp()
    FROM (SELECT user_id, hook FROM webhook_urls WHERE disabled_at IS NOT NULL AND owner_told_at IS NULL
          ORDER BY disabled_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED) due, users u
    WHERE w.user_id = due.user_id AND w.hook = due.hook AND u.id = w.user_id
    RETURNING w.user_id, w.hook, w.url, w.disabled_reason, u.email
""")
_TAKE_BACK = text("UPDATE webhook_urls SET owner_told_at = NULL WHERE user_id = :user AND hook = :hook")


def tell_owners() -> int:
    """Mail a few owners whose URL was switched off since; no transaction is open meanwhile. Answers how many."""
    with transaction() as session:
        due = session.execute(_TAKE, {"most": MOST_AT_ONCE}).all()
    told = 0
    for user, hook, url, reason, email in due:
        try:
            send(email, f"Your webhook for {hook} events was switched off", _letter(hook, url, reason))
            told += 1
        except MailNotSentError as error:
            log.warning("owner not told that a webhook URL was switched off", user=user, error=str(error))
            with transaction() as session:
                session.execute(_TAKE_BACK, {"user": user, "hook": hook})
    return told


def _letter(hook: str, url: str, reason: str) -> str:
    return (
        f"The webhook URL for {hook} events of your account was switched off:\n\n"
        f"  {url}\n\n"
        f"{reason}\n\n"
        "Deliveries that failed are kept for 30 days. To switch the URL on again, set it again with PUT /api/webhooks; "
        "the answer says how many failed deliveries can be replayed with POST /api/webhooks/deliveries/replay.\n"
    )
