"""A user's webhook URLs: shown, set, and switched on again by setting them."""

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.core.database import among
from app.core.envelope import Timestamp
from app.core.outbound import nudge
from app.core.task_names import TaskName
from app.webhooks.guard import origin_of
from app.webhooks.outbox import AccountHook


class WebhookOut(BaseModel):
    """A URL and its health."""

    url: str | None = Field(examples=["https://app.example/sms/status"])
    failing_since: Timestamp | None = Field(default=None, examples=[None])
    disabled_at: Timestamp | None = Field(default=None, examples=[None])
    disabled_reason: str | None = Field(default=None, examples=[None])


class WebhooksOut(BaseModel):
    """The account's URLs. `disabled_at` and `disabled_reason` are those of the URL disabled last."""

    webhook_url_incoming: str | None = Field(examples=["https://app.example/sms/incoming"])
    webhook_url_status: str | None = Field(examples=["https://app.example/sms/status"])
    disabled_at: Timestamp | None = Field(examples=[None])
    disabled_reason: str | None = Field(examples=[None])
    incoming: WebhookOut
    status: WebhookOut


class WebhooksChanged(WebhooksOut):
    """The URLs after a change."""

    replayable: int = Field(description="How many failed deliveries of these URLs can be replayed", examples=[0])


_SHOW = text("""
    SELECT hook, url, failing_since, disabled_at, disabled_reason FROM webhook_urls WHERE user_id = :user
    ORDER BY disabled_at NULLS FIRST
""")
# In the order in which records of calls lock them.
_LOCK = text("""
    SELECT hook, origin FROM webhook_urls WHERE user_id = :user AND hook = ANY(:hooks) ORDER BY hook FOR NO KEY UPDATE
""")
_SET = text("""
    INSERT INTO webhook_urls (user_id, hook, url, origin) VALUES (:user, :hook, :url, :origin)
    ON CONFLICT (user_id, hook) DO UPDATE
    SET url = excluded.url, origin = excluded.origin, failing_since = NULL, disabled_at = NULL, disabled_reason = NULL,
        owner_told_at = NULL, telling_until = NULL
""")
_DISARM = (
    text("DELETE FROM webhook_urls WHERE user_id = :user"),
    text("DELETE FROM webhook_secrets WHERE user_id = :user"),
)
_REMOVE = text("DELETE FROM webhook_urls WHERE user_id = :user AND hook = ANY(:hooks)")
_HASTEN = text(f"""
    WITH waiting AS (
        SELECT delivery_id FROM webhook_queue
        WHERE user_id = :user AND hook = ANY(:hooks) AND lease_id IS NULL AND next_attempt_at > clock_timestamp()
        ORDER BY delivery_id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    ), hastened AS (
        UPDATE webhook_queue SET next_attempt_at = clock_timestamp() WHERE {among("delivery_id", "waiting")}
        RETURNING origin
    )
    SELECT DISTINCT origin FROM hastened
""")  # noqa: S608 - a constant
MAX_HASTENED = 10_000
_RESET = text("""
    UPDATE webhook_targets SET next_try_at = NULL, asked_until = NULL, fail_count = 0, failing_since = NULL
    WHERE user_id = :user AND origin = ANY(ARRAY(
        SELECT origin FROM webhook_targets WHERE user_id = :user AND origin = ANY(:origins)
        ORDER BY origin FOR NO KEY UPDATE))
""")
_REPLAYABLE = text("""
    SELECT count(*) FROM webhook_deliveries WHERE user_id = :user AND state = 'failed' AND hook = ANY(:hooks)
""")


def shown(session: Session, user_id: int) -> WebhooksOut:
    """The user's URLs."""
    return WebhooksOut(**_fields(session, user_id))


def change(session: Session, user_id: int, urls: Mapping[AccountHook, str | None]) -> WebhooksChanged:
    """Set the given URLs, None to remove one. Setting one, the same too, enables it and ends its back-off.

    What waits for the old URL goes to the new one: it is due at once, whatever the old receiver did; of more than
    10,000 the rest by its schedule.
    """
    given = {hook: url for hook, url in urls.items() if url is not None}
    present = session.execute(_LOCK, {"user": user_id, "hooks": list(urls)}).all()
    before = [row.origin for row in present if row.hook in given]
    origins = {hook: origin_of(url) for hook, url in given.items()}
    for hook, url in sorted(given.items()):
        session.execute(_SET, {"user": user_id, "hook": hook, "url": url, "origin": origins[hook]})
    session.execute(_REMOVE, {"user": user_id, "hooks": [hook for hook in urls if hook not in given]})
    # A call that is under way finds the new URL when it is recorded, because a record waits for the lock of the URL.
    waiting = {"user": user_id, "hooks": list(given), "most": MAX_HASTENED}
    hastened = session.scalars(_HASTEN, waiting).all()
    session.execute(_RESET, {"user": user_id, "origins": [*hastened, *before, *origins.values()]})
    audit.record(session, Action.WEBHOOKS_CHANGED, user_id, set=sorted(given), removed=sorted(urls.keys() - given))
    nudge(session, TaskName.DELIVER)
    replayable: int = session.scalar(_REPLAYABLE, {"user": user_id, "hooks": list(given)}) or 0
    return WebhooksChanged(**_fields(session, user_id), replayable=replayable)


def _fields(session: Session, user_id: int) -> dict[str, Any]:
    found = {
        hook: WebhookOut(url=url, failing_since=since, disabled_at=at, disabled_reason=reason)
        for hook, url, since, at, reason in session.execute(_SHOW, {"user": user_id})
    }
    last = list(found.values())[-1] if found else WebhookOut(url=None)
    hooks = {hook: found.get(hook, WebhookOut(url=None)) for hook in get_args(AccountHook)}
    return {
        "webhook_url_incoming": hooks["incoming"].url,
        "webhook_url_status": hooks["status"].url,
        "disabled_at": last.disabled_at,
        "disabled_reason": last.disabled_reason,
        **hooks,
    }


def disarm(session: Session, user_id: int) -> None:
    """Nothing more is posted for the account."""
    for statement in _DISARM:
        session.execute(statement, {"user": user_id})
