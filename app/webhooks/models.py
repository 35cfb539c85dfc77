"""Webhooks: account URLs and secrets, deliveries with their attempts, the queue of what still waits, and targets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Identity, Index, SmallInteger, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import QUEUE_STORAGE, Base, BigId, CreatedAt, one_of


class WebhookUrl(Base):
    """Where a user's `status` or `incoming` events go, and whether and why that was switched off.

    Until `telling_until` some process is mailing the owner that it was.
    """

    __tablename__ = "webhook_urls"
    __table_args__ = (one_of("hook", ("incoming", "status")),)

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hook: Mapped[str] = mapped_column(String(8), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    origin: Mapped[str] = mapped_column(String(300))
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    owner_told_at: Mapped[datetime | None]
    telling_until: Mapped[datetime | None]


class WebhookSecret(Base):
    """What a user's webhooks are signed with; each of the previous secrets signs too, until its end."""

    __tablename__ = "webhook_secrets"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    secret: Mapped[str] = mapped_column(String(80))
    previous_secrets: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    previous_ends: Mapped[list[datetime]] = mapped_column(ARRAY(DateTime(timezone=True)), server_default=text("'{}'"))


class WebhookDelivery(Base):
    """One event for one URL: written in the transaction of the change it tells of, kept a while after it was ended.

    `hook` says where it goes: `callback` to a URL of its own, `status` and `incoming` to the account's URL at the time
    of the attempt. `body` is what every attempt posts, byte for byte. `state` is pending, delivered or failed; one that
    was accepted at its first call stays as it was written, with no row in the queue any more. `attempts` counts the
    calls of the others.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_user", "user_id", "id"),
        Index("ix_webhook_deliveries_failed", "user_id", "id", postgresql_where=text("state = 'failed'")),
        Index("ix_webhook_deliveries_message", "message_id", postgresql_where=text("message_id IS NOT NULL")),
        Index(
            "ix_webhook_deliveries_finished", "state", "finished_at", postgresql_where=text("finished_at IS NOT NULL")
        ),
        one_of("hook", ("callback", "incoming", "status")),
        one_of("state", ("pending", "delivered", "failed")),
    )

    id: Mapped[BigId]
    webhook_id: Mapped[UUID]
    user_id: Mapped[int]
    message_id: Mapped[int | None]
    hook: Mapped[str] = mapped_column(String(8))
    event: Mapped[str] = mapped_column(String(16))
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10), server_default=text("'pending'"))
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]


class WebhookQueueEntry(Base):
    """A delivery that still waits: narrow, so that claiming costs the same however long the history is.

    A claim sets the lease and moves `next_attempt_at` to its end, so a lease nobody ended is due again by itself.
    `lane` is the `Lane` of its message. `attempt` counts this round of the schedule; a replay begins a new one.
    """

    __tablename__ = "webhook_queue"
    __table_args__ = (
        Index("ix_webhook_queue_claim", "user_id", "origin", "lane", "next_attempt_at", "delivery_id"),
        Index("ix_webhook_queue_order", "message_id", postgresql_where=text("message_id IS NOT NULL")),
        Index("ix_webhook_queue_leased", "lease_until", postgresql_where=text("lease_until IS NOT NULL")),
        {"postgresql_with": QUEUE_STORAGE, "info": {"queue": True}},
    )

    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[int]
    message_id: Mapped[int | None]
    hook: Mapped[str] = mapped_column(String(8))
    lane: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    origin: Mapped[str] = mapped_column(String(300))
    url: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    next_attempt_at: Mapped[CreatedAt]
    lease_id: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]


class WebhookAttempt(Base):
    """What one call came to: status and the first KiB of the answer, or the error. `url` is empty for a callback."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    status_code: Mapped[int | None] = mapped_column(SmallInteger)
    answer: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    duration_ms: Mapped[int]
    created_at: Mapped[CreatedAt]


class WebhookTarget(Base):
    """Room and back-off of one user towards one origin (`scheme://host:port`).

    Until `asked_until` the receiver itself asked to be left alone; `next_try_at` is never earlier. `failing_since` is
    when the failures began that nothing accepted has ended yet.
    """

    __tablename__ = "webhook_targets"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    origin: Mapped[str] = mapped_column(String(300), primary_key=True)
    next_try_at: Mapped[datetime | None]
    asked_until: Mapped[datetime | None]
    fail_count: Mapped[int] = mapped_column(server_default=text("0"))
    max_in_flight: Mapped[int] = mapped_column(SmallInteger, server_default=text("2"))
    last_served_at: Mapped[datetime | None]
    ever_accepted: Mapped[bool] = mapped_column(server_default=text("false"))
    failing_since: Mapped[datetime | None]
