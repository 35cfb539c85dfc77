"""Users, their tokens, promo codes and usage counters."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import QUEUE_STORAGE, Base, BigId, CreatedAt


class User(Base):
    """Somebody who owns phones, and sends."""

    __tablename__ = "users"
    __table_args__ = (
        # By the address that the row was given, or by its spelling where a version before `email_key` wrote it.
        Index("uq_users_email_key", text("COALESCE(email_key, lower(email))"), unique=True),
        Index(None, "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        Index(None, "withdraw_before", postgresql_where=text("withdraw_before IS NOT NULL")),
        Index(None, "hours_set_at", postgresql_where=text("hours_set_at IS NOT NULL")),
    )

    id: Mapped[BigId]
    name: Mapped[str] = mapped_column(String(255))
    # As it was typed, for showing; `email_key` is its `core.emails.normalize`, by which it is found.
    email: Mapped[str] = mapped_column(String(255))
    email_key: Mapped[str | None] = mapped_column(String(255))
    # When somebody showed that they read the mail of this address.
    email_verified_at: Mapped[datetime | None]
    password_hash: Mapped[str | None]
    google_subject: Mapped[str | None] = mapped_column(unique=True)
    premium_expires_at: Mapped[datetime | None]
    default_region: Mapped[str | None] = mapped_column(String(2))
    default_device_id: Mapped[int | None]
    keep_inbound: Mapped[bool] = mapped_column(server_default=text("true"))
    # For how long messages are kept, in days; null: as long as the operator keeps them.
    keep_messages_days: Mapped[int | None] = mapped_column(SmallInteger)
    keep_incoming_days: Mapped[int | None] = mapped_column(SmallInteger)
    device_events: Mapped[bool] = mapped_column(server_default=text("false"))
    offline_alert_minutes: Mapped[int | None] = mapped_column(SmallInteger)
    # Whether a message that certainly did not leave its phone is tried on another.
    failover: Mapped[bool] = mapped_column(server_default=text("true"))
    # The delay that a phone begins with when it is enrolled.
    default_send_delay_seconds: Mapped[int] = mapped_column(server_default=text("0"))
    # Whether a phone that is enrolled waits until its owner switches it on.
    approve_new_phones: Mapped[bool] = mapped_column(server_default=text("false"))
    # At most so many `messages` to many go to one number in so many `days`; null is no cap.
    frequency_cap: Mapped[dict[str, int] | None] = mapped_column(JSONB(none_as_null=True))
    # For how long a number does not get the same text again; null is no guard.
    same_content_minutes: Mapped[int | None]
    # Whether they run the installation: the operators' pages are theirs.
    is_operator: Mapped[bool] = mapped_column(server_default=text("false"))
    # The second factor (`second_factor`): none is asked for without a secret; the last step that was used.
    totp_secret: Mapped[str | None] = mapped_column(String(64))
    totp_step: Mapped[int | None]
    recovery_codes: Mapped[list[bytes] | None] = mapped_column(ARRAY(LargeBinary))
    # Of the dashboard; none: what the browser asks for.
    language: Mapped[str | None] = mapped_column(String(2))
    # Whether a number is served by the phone that it last wrote to or was last served by.
    sticky_phone: Mapped[bool] = mapped_column(server_default=text("false"))
    # By whose clock the account lives, and those of countries with several; null is UTC, and none.
    time_zone: Mapped[str | None] = mapped_column(String(64))
    country_zones: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    # When bulk messages may go out, as `AllowedHours.stored`; null is always.
    allowed_hours: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # Since when what waits has to be judged anew, because hours or zones were changed.
    hours_set_at: Mapped[datetime | None]
    # The last of its messages that was.
    hours_judged_to: Mapped[int | None]
    # What was accepted before is cancelled: the account was prepared by somebody else, or is deleted.
    withdraw_before: Mapped[datetime | None]
    # Since when an operator lets it do nothing (`blocking`).
    blocked_at: Mapped[datetime | None]
    # Nobody's any more; upkeep deletes what is left of it.
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class Token(Base):
    """A credential of the public API: an API key, or a session from signing in. Revoked is deleted."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("kind IN ('key', 'session')", name="kind"),
        Index(None, "user_id"),
        Index("ix_tokens_sessions_expires_at", "expires_at", postgresql_where=text("kind = 'session'")),
    )

    id: Mapped[BigId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(255))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    abilities: Mapped[list[str]] = mapped_column(ARRAY(Text))
    # Whether phones may still be enrolled with it: not once one that it enrolled was removed.
    enrolls: Mapped[bool] = mapped_column(server_default=text("true"))
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class AccountCode(Base):
    """A secret in a mail, good once and for a while: to prove an address, or to set a new password."""

    __tablename__ = "account_codes"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(10), primary_key=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    expires_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]


class SignInLink(Base):
    """The secret of a link that signs the operator in, good once and for a while (`sign_in_links`)."""

    __tablename__ = "sign_in_links"

    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    expires_at: Mapped[datetime]


class PromoCode(Base):
    """A code that adds months of premium; `code` is kept in upper case."""

    __tablename__ = "promo_codes"

    id: Mapped[BigId]
    code: Mapped[str] = mapped_column(String(64), unique=True)
    months: Mapped[int] = mapped_column(SmallInteger)
    uses_limit: Mapped[int | None]
    used: Mapped[int] = mapped_column(server_default=text("0"))
    valid_until: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class PromoRedemption(Base):
    """Who redeemed a code; once per user."""

    __tablename__ = "promo_redemptions"

    promo_code_id: Mapped[int] = mapped_column(ForeignKey("promo_codes.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[CreatedAt]


class AuditEvent(Base):
    """Something that was done to an account or, without `user_id`, to the installation (`audit`); never changed.

    References nothing: it outlives the tokens and phones that it names.
    """

    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "user_id", "id"), Index(None, "created_at"))

    id: Mapped[BigId]
    user_id: Mapped[int | None]
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[int | None]
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    by: Mapped[str] = mapped_column(String(10))
    actor_id: Mapped[int | None]
    token_id: Mapped[int | None]
    address: Mapped[str | None] = mapped_column(String(45))
    created_at: Mapped[CreatedAt]


class UsageDelta(Base):
    """A change of a figure, inserted by the batch that caused it; no row is shared, so no sender waits for another."""

    __tablename__ = "usage_deltas"
    __table_args__ = (
        Index(None, "user_id", "id"),
        {"postgresql_with": QUEUE_STORAGE},
    )

    id: Mapped[BigId]
    user_id: Mapped[int]
    day: Mapped[date]
    kind: Mapped[str] = mapped_column(String(20))
    n: Mapped[int]
    amount: Mapped[Decimal] = mapped_column(Numeric(20, 4), server_default=text("0"))


class UsageHour(Base):
    """What was folded in an hour, of the kinds that are drawn by the hour; kept for days."""

    __tablename__ = "usage_hours"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    n: Mapped[int]


class UsageTotal(Base):
    """Folded deltas: one row a user, day (UTC) and kind."""

    __tablename__ = "usage_totals"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    n: Mapped[int]
    amount: Mapped[Decimal] = mapped_column(Numeric(24, 4))
