"""Mail to owners whose webhook URL was switched off."""

from datetime import timedelta

import structlog
from sqlalchemy import text

from app.core.database import transaction
from app.core.mail import MailNotSentError, send

BATCH_SIZE = 5
# Longer than that many mails take with a slow server; then, too, a mail that could not be sent is tried again.
LEASE = timedelta(minutes=5)

log = structlog.get_logger(__name__)

# Two of these at once send one mail, and one that dies before its mail is sent leaves it to the next. Those that could
# not be sent are tried again after all others, so that addresses that no server takes keep nobody's mail.
_TAKE = text("""
    UPDATE webhook_urls w SET telling_until = clock_timestamp() + :lease
    FROM (SELECT user_id, hook FROM webhook_urls
          WHERE disabled_at IS NOT NULL AND owner_told_at IS NULL
            AND COALESCE(telling_until < clock_timestamp(), true)
          ORDER BY telling_until NULLS FIRST, disabled_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED) due, users u
    WHERE w.user_id = due.user_id AND w.hook = due.hook AND u.id = w.user_id
    RETURNING w.user_id, w.hook, w.url, w.disabled_at, w.disabled_reason, u.email
""")
# Not where the URL was set again and switched off once more meanwhile: of that the owner knows nothing yet.
_TOLD = text("""
    UPDATE webhook_urls SET owner_told_at = clock_timestamp()
    WHERE user_id = :user AND hook = :hook AND disabled_at = :disabled_at
""")


def notify_owners() -> int:
    """Mail a few owners whose URL was switched off since; no transaction is open meanwhile. Answers how many."""
    with transaction() as session:
        due = session.execute(_TAKE, {"most": BATCH_SIZE, "lease": LEASE}).all()
    told = 0
    for user, hook, url, disabled_at, reason, email in due:
        try:
            send(email, f"Your webhook for {hook} events was disabled", _letter(hook, url, reason))
        except MailNotSentError as error:
            log.warning("owner not notified of disabled webhook URL", user=user, error=str(error))
            continue
        with transaction() as session:
            session.execute(_TOLD, {"user": user, "hook": hook, "disabled_at": disabled_at})
        told += 1
    return told


def _letter(hook: str, url: str, reason: str) -> str:
    return (
        f"The webhook URL for {hook} events of your account was disabled:\n\n"
        f"  {url}\n\n"
        f"{reason}\n\n"
        "Failed deliveries are kept for 30 days. To enable the URL, set it again with PUT /api/webhooks; "
        "the answer says how many failed deliveries can be replayed with POST /api/webhooks/deliveries/replay.\n"
    )
