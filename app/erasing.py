"""What is left of deleted accounts, deleted in batches that hold no lock for long; and withdrawing what an account had
accepted before it came to its rightful owner.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.accounts import ownership
from app.campaigns import life
from app.core import outbound
from app.core.database import interval
from app.core.task_names import TaskName
from app.messages.dispatch.pace import STRAGGLING
from app.messages.life import transitions
from app.messages.life.transitions import Change
from app.messages.states import Event, Stage

BATCH_SIZE = 1000
MAX_ACCOUNTS = 100
# For each of them every table is looked at.
MAX_DELETED = 10

_BY_USER = "user_id = :user"
_BY_CAMPAIGN = "campaign_id IN (SELECT id FROM campaigns WHERE user_id = :user)"
_BY_DEVICE = "device_id IN (SELECT id FROM devices WHERE user_id = :user)"
# In this order: first what sends and calls.
ROWS: tuple[tuple[str, str], ...] = (
    ("message_queue", _BY_USER),
    ("webhook_queue", _BY_USER),
    ("held_campaigns", _BY_CAMPAIGN),
    ("campaign_recipients", _BY_CAMPAIGN),
    ("campaign_left_out", _BY_CAMPAIGN),
    ("campaign_totals", _BY_CAMPAIGN),
    ("campaign_minutes", _BY_CAMPAIGN),
    ("campaign_deltas", _BY_CAMPAIGN),
    ("messages", f"{_BY_USER} AND deleted_at IS NULL"),
    ("messages", f"{_BY_USER} AND deleted_at IS NOT NULL"),
    ("message_attachments", _BY_USER),
    ("webhook_targets", _BY_USER),
    ("webhook_urls", _BY_USER),
    ("conversation_reads", _BY_USER),
    ("webhook_secrets", _BY_USER),
    ("contacts", _BY_USER),
    ("contact_groups", _BY_USER),
    ("templates", _BY_USER),
    ("opt_outs", _BY_USER),
    ("opt_out_settings", _BY_USER),
    ("opt_out_replies", _BY_USER),
    ("inbound_seen", _BY_DEVICE),
    ("device_releases", _BY_DEVICE),
    ("device_health", _BY_DEVICE),
    ("device_deltas", _BY_DEVICE),
    ("device_totals", _BY_DEVICE),
    ("device_state", _BY_DEVICE),
    ("dispatch_cursors", _BY_USER),
    ("queue_marks", _BY_USER),
    ("idempotency_keys", _BY_USER),
    ("usage_deltas", _BY_USER),
    ("usage_totals", _BY_USER),
    ("usage_hours", _BY_USER),
    ("tokens", _BY_USER),
    ("account_codes", _BY_USER),
    ("promo_redemptions", _BY_USER),
    ("audit_events", _BY_USER),
)
# By these others' rows are found, of which a call under way may write some.
KEPT_FOR_OTHERS: tuple[tuple[str, str], ...] = (
    ("campaigns", _BY_USER),
    ("devices", _BY_USER),
    ("webhook_deliveries", _BY_USER),
)

# A few rows for each row of the table, by their column that names it.
PARTS = {"messages": ("message_steps", "message_id"), "webhook_deliveries": ("webhook_attempts", "delivery_id")}

_DELETED = text(f"""
    SELECT id, deleted_at < clock_timestamp() - {interval(STRAGGLING)} AS over
    FROM users WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 - a constant
_HANDED_OVER = text("""
    SELECT id, withdraw_before, withdraw_before < clock_timestamp() - CAST(:straggling AS interval) AS over
    FROM users WHERE withdraw_before IS NOT NULL AND deleted_at IS NULL
    ORDER BY withdraw_before LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
""")
# What a phone was given stays: the phone may still report it.
_WAITING = text(f"""
    SELECT q.message_id FROM message_queue q JOIN messages m ON m.id = q.message_id
    WHERE q.user_id = :user AND q.stage IN ({Stage.WAITING}, {Stage.HELD}) AND m.created_at < :before
    LIMIT :most
""")  # noqa: S608 - names of columns and of states


def erase(session: Session) -> bool:
    """One batch of one account of each kind; nudges itself while there is more, and says so."""
    is_more = life.withdraw_forgotten(session), _withdraw(session), _erase(session)
    if any(is_more):
        outbound.nudge(session, TaskName.ERASE)
    return any(is_more)


def _withdraw(session: Session) -> bool:
    """Whether there may be more at once; what a call under way wrote meanwhile is found by the next tick."""
    left = BATCH_SIZE
    users = session.execute(_HANDED_OVER, {"most": MAX_ACCOUNTS, "straggling": ownership.STRAGGLING}).all()
    for user in users:
        values = {"user": user.id, "before": user.withdraw_before, "most": left}
        life.stop_all(session, user.id, user.withdraw_before)
        waiting = session.scalars(_WAITING, values).all()
        transitions.apply(session, [Change(number, Event.WITHDRAWN) for number in waiting])
        left -= len(waiting)
        if left <= 0:
            return True
        if user.over:
            session.execute(text("UPDATE users SET withdraw_before = NULL WHERE id = :user"), {"user": user.id})
    return len(users) == MAX_ACCOUNTS and any(user.over for user in users)


def _erase(session: Session) -> bool:
    """Whether anything went; what a call under way wrote meanwhile, or holds, is found by a later tick."""
    left = BATCH_SIZE
    for user in session.execute(_DELETED, {"most": MAX_DELETED}).all():
        left -= _erase_account(session, user, left)
        if left <= 0:
            return True
    return left < BATCH_SIZE


def _erase_account(session: Session, user: Row[Any], most: int) -> int:
    """How many rows went. The account's own is the last, once nothing that was under way can write another."""
    erased = 0
    for tables in (ROWS, KEPT_FOR_OTHERS):
        for table, condition in tables:
            erased += _delete(session, table, condition, {"user": user.id, "most": most - erased})
            if erased >= most:
                return erased
        if not user.over or _is_any_left(session, tables, user.id):
            return erased
    session.execute(text("DELETE FROM users WHERE id = :user"), {"user": user.id})
    return erased + 1


def _is_any_left(session: Session, tables: Sequence[tuple[str, str]], user_id: int) -> bool:
    """In one look: what is moved from one table to another at this moment is seen in one of them."""
    exists = (f"EXISTS (SELECT FROM {table} WHERE {condition})" for table, condition in tables)
    return bool(session.scalar(text(f"SELECT {' OR '.join(exists)}"), {"user": user_id}))


def _delete(session: Session, table: str, condition: str, values: dict[str, Any]) -> int:
    """How many rows of the table went; what belongs to each goes along. Who holds one is not waited for: it may be
    waiting for another.
    """
    part, column = PARTS.get(table, ("", ""))
    returned = "id" if part else "1"
    along = f", along AS (DELETE FROM {part} WHERE {column} IN (SELECT id FROM deleted))" if part else ""  # noqa: S608
    statement = f"""
        WITH gone AS MATERIALIZED (SELECT ctid FROM {table} WHERE {condition} LIMIT :most FOR UPDATE SKIP LOCKED),
             deleted AS (DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM gone) RETURNING {returned}) {along}
        SELECT count(*) FROM deleted
    """  # noqa: S608 - constants
    return int(session.scalar(text(statement), values) or 0)
