"""The audit log: who did what to an account or to the installation, when, and from where.

Rows are only ever added, in the transaction of what they tell of; they go by age, or with their account.
No secret, message text or phone number of a recipient gets here: details are names, numbers of rows and words.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from app.accounts.models import AuditEvent
from app.core import caller
from app.core.database import in_place
from app.core.settings import get_settings
from app.core.validation import MAX_ID


class Action(StrEnum):
    """What was done. `subject` is the number of the row that it was done to, where there is one."""

    REGISTERED = "registered"
    SIGNED_IN = "signed_in"
    SIGNED_OUT = "signed_out"
    SESSION_ENDED = "session_ended"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a word
    PASSWORD_RESET = "password_reset"  # noqa: S105 - a word
    EMAIL_CONFIRMED = "email_confirmed"
    SECOND_FACTOR_ON = "second_factor_on"
    SECOND_FACTOR_OFF = "second_factor_off"
    KEY_CREATED = "key_created"
    KEY_REVOKED = "key_revoked"
    SETTINGS_CHANGED = "settings_changed"
    WEBHOOKS_CHANGED = "webhooks_changed"
    WEBHOOK_SECRET_ROTATED = "webhook_secret_rotated"  # noqa: S105 - a word
    PHONE_ENROLLED = "phone_enrolled"
    PHONE_APPROVED = "phone_approved"
    PHONE_CHANGED = "phone_changed"
    PHONE_REMOVED = "phone_removed"
    CAMPAIGN_STARTED = "campaign_started"
    CAMPAIGN_PAUSED = "campaign_paused"
    CAMPAIGN_RESUMED = "campaign_resumed"
    CAMPAIGN_CANCELLED = "campaign_cancelled"
    CAMPAIGN_RETRIED = "campaign_retried"
    CAMPAIGN_DELETED = "campaign_deleted"
    EXPORTED = "exported"
    PROMO_REDEEMED = "promo_redeemed"
    PREMIUM_GIVEN = "premium_given"
    ACCOUNT_CREATED = "account_created"
    ACCOUNT_DELETED = "account_deleted"
    USER_BLOCKED = "user_blocked"
    USER_UNBLOCKED = "user_unblocked"
    OPERATOR_MADE = "operator_made"
    OPERATOR_UNMADE = "operator_unmade"
    FLOWER_USED = "flower_used"
    PROMO_CREATED = "promo_created"
    RELEASE_PUBLISHED = "release_published"
    RELEASE_WITHDRAWN = "release_withdrawn"
    BACKUP_MADE = "backup_made"
    RESTORED = "restored"


def record(session: Session, action: Action, user_id: int | None, subject: int | None = None, **details: Any) -> None:
    """Write down that `action` was done to the account `user_id` (None: to the installation), by whoever calls now.

    In the transaction that does it, so that one is never without the other.
    """
    by = caller.current()
    session.execute(
        insert(AuditEvent).values(
            user_id=user_id,
            action=action.value,
            subject=subject,
            details=details or None,
            by=by.by,
            actor_id=by.user_id,
            token_id=by.token_id,
            address=by.address,
        )
    )


_LIST = """
    SELECT id, user_id, action, subject, details, by, actor_id, token_id, address, created_at
    FROM audit_events WHERE {which} AND id < :before AND (CAST(:action AS text) IS NULL OR action = :action)
      AND created_at >= COALESCE(CAST(:since AS timestamptz), '-infinity')
      AND created_at <= COALESCE(CAST(:until AS timestamptz), 'infinity')
    ORDER BY id DESC LIMIT :most
"""
_OF_ACCOUNT = text(_LIST.format(which="user_id = :user"))
_OF_ALL = text(_LIST.format(which="true"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log."""

    id: int
    user_id: int | None
    action: str
    subject: int | None
    details: dict[str, Any] | None
    by: str
    actor_id: int | None
    token_id: int | None
    address: str | None
    created_at: datetime


def entries(
    session: Session,
    user_id: int | None,
    *,
    most: int,
    before: int | None = None,
    action: Action | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[Entry], int | None]:
    """What was done to an account, or anywhere (None), newest first, and where the next page begins."""
    values = {
        "user": user_id,
        "before": before or MAX_ID,
        "action": action,
        "since": since,
        "until": until,
        "most": most + 1,
    }
    found = [Entry(*row) for row in session.execute(_OF_ALL if user_id is None else _OF_ACCOUNT, values)]
    return found[:most], found[most - 1].id if len(found) > most else None


def as_its_owner_sees(entry: Entry, user_id: int) -> Entry:
    """Of an operator the account's owner learns that it was one."""
    if entry.actor_id in {None, user_id}:
        return entry
    return replace(entry, by="operator", token_id=None, address=None)


BATCH_SIZE = 2000
_IS_OLD = "created_at < (SELECT clock_timestamp() - CAST(:kept AS interval))"
_OLD = text(f"""
    DELETE FROM audit_events WHERE {in_place("audit_events", f"WHERE {_IS_OLD} ORDER BY created_at LIMIT :most")}
""")  # noqa: S608 - constants


def clean(session: Session) -> int:
    """Delete a batch of what is past its age; how many."""
    gone = session.execute(_OLD, {"kept": get_settings().keep_audit_log, "most": BATCH_SIZE})
    return int(gone.rowcount)  # type: ignore[attr-defined]
