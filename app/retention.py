"""Deleting what is older than the operator and an account's owner want it kept: messages, and recipients of campaigns.

Account by account and in small batches, so that no statement reads more than one account's rows, and one with millions
costs the others nothing. Figures of accounts, phones and campaigns are counted apart and stay.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import usage
from app.accounts.usage import UsageKind
from app.campaigns.states import CampaignStatus
from app.core.database import in_place
from app.core.settings import get_settings
from app.messages.states import Status

BATCH_SIZE = 1000
MAX_ACCOUNTS = 500

OUTGOING = (Status.SENT, Status.DELIVERED, Status.FAILED, Status.CANCELLED)
INCOMING = (Status.RECEIVED,)

_ACCOUNTS = text("""
    SELECT id FROM users
    WHERE id > :after AND deleted_at IS NULL
      AND (:everybody OR keep_messages_days IS NOT NULL OR keep_incoming_days IS NOT NULL)
    ORDER BY id LIMIT :most
""")


def accounts(session: Session, after: int = 0) -> Sequence[int]:
    """The next accounts of which not everything is kept for good; none after the last."""
    settings = get_settings()
    everybody = any((settings.keep_messages, settings.keep_incoming, settings.keep_recipients))
    return session.scalars(_ACCOUNTS, {"after": after, "everybody": everybody, "most": MAX_ACCOUNTS}).all()


# The shorter one counts, of the operator's and the owner's; where there is neither, nothing is before it.
_BEFORE = text("""
    SELECT now - LEAST(messages, own) AS messages, now - LEAST(incoming, own_incoming) AS incoming,
           now - LEAST(recipients, messages, own) AS recipients
    FROM (SELECT clock_timestamp() AS now, CAST(:messages AS interval) AS messages,
                 CAST(:incoming AS interval) AS incoming, CAST(:recipients AS interval) AS recipients,
                 make_interval(days => keep_messages_days) AS own,
                 make_interval(days => keep_incoming_days) AS own_incoming
          FROM users WHERE id = :user) AS periods
""")


def clean(session: Session, user_id: int) -> int:
    """Delete a batch of what one account has and nobody wants kept; how many rows of messages and recipients."""
    settings = get_settings()
    periods = {
        "messages": settings.keep_messages,
        "incoming": settings.keep_incoming,
        "recipients": settings.keep_recipients,
    }
    before = session.execute(_BEFORE, {"user": user_id, **periods}).one_or_none()
    if before is None:
        return 0
    done = _recipients(session, user_id, before.recipients, BATCH_SIZE)
    done += _messages(session, user_id, OUTGOING, before.messages, BATCH_SIZE - done)
    return done + _messages(session, user_id, INCOMING, before.incoming, BATCH_SIZE - done)


# By an index that has them in this order. One that changed lately, as a message that was scheduled long ahead, stays.
_DELETE_MESSAGES = text("""
    WITH old AS MATERIALIZED (
        SELECT id FROM messages
        WHERE user_id = :user AND status = :status AND deleted_at IS NULL AND created_at < :before
          AND updated_at < :before
        ORDER BY created_at, id LIMIT :most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM messages WHERE id IN (SELECT id FROM old) RETURNING id
    ), parts AS (
        DELETE FROM message_attachments WHERE message_id IN (SELECT id FROM gone)
    ), steps AS (
        DELETE FROM message_steps WHERE message_id IN (SELECT id FROM gone)
    )
    SELECT count(*), CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) FROM gone
""")


def _messages(session: Session, user_id: int, statuses: Sequence[Status], before: datetime | None, most: int) -> int:
    done = 0
    for status in statuses if before is not None else ():
        if done >= most:
            break
        values = {"user": user_id, "status": status.value, "before": before, "most": most - done}
        n, today = session.execute(_DELETE_MESSAGES, values).one()
        # Off what lists show, as for one that its owner deletes.
        usage.count(session, [(user_id, today, UsageKind.hidden(status), n, 0)])
        done += n
    return done


_OVER = text(f"""
    SELECT id FROM campaigns
    WHERE user_id = :user AND status IN ('{CampaignStatus.FINISHED}', '{CampaignStatus.CANCELLED}')
      AND finished_at < :before AND next_look_at IS NULL AND recipients_deleted_at IS NULL
    ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 - names of states
_DELETE_RECIPIENTS = tuple(
    text(f"DELETE FROM {table} WHERE {in_place(table, f'WHERE campaign_id = :campaign ORDER BY {order} LIMIT :most')}")  # noqa: S608 - constants
    for table, order in (("campaign_recipients", "place"), ("campaign_left_out", "id"))
)
_EMPTIED = text("UPDATE campaigns SET recipients_deleted_at = clock_timestamp() WHERE id = :campaign")


def _recipients(session: Session, user_id: int, before: datetime | None, most: int) -> int:
    """Of campaigns that are over: one after the other, under its lock, since one may be begun again."""
    done = 0
    while before is not None and done < most:
        campaign = session.scalar(_OVER, {"user": user_id, "before": before})
        if campaign is None:
            break
        for statement in _DELETE_RECIPIENTS:
            values = {"campaign": campaign, "most": most - done}
            done += session.execute(statement, values).rowcount  # type: ignore[attr-defined]
        if done < most:
            session.execute(_EMPTIED, {"campaign": campaign})
    return done
