"""Phones: what their owner sees and sets, and the hot state that hand-out and presence keep beside it."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypedDict

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, Numeric, SmallInteger, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import QUEUE_STORAGE, Base, BigId, CreatedAt


class Device(Base):
    """A phone. A removed one keeps its row, because messages and late reports name it."""

    __tablename__ = "devices"
    __table_args__ = (
        Index(None, "user_id", "id"),
        Index("uq_devices_token_hash", "token_hash", unique=True, postgresql_where=text("token_hash IS NOT NULL")),
        Index("uq_devices_hook_secret", "hook_secret", unique=True),
    )

    id: Mapped[BigId]
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    device_id: Mapped[str] = mapped_column(String(36), unique=True)
    device_name: Mapped[str] = mapped_column(String(255))
    registered_name: Mapped[str] = mapped_column(String(128))
    phone_number: Mapped[str | None] = mapped_column(String(32))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    sms_rate: Mapped[Decimal] = mapped_column(Numeric(14, 4))
    send_delay_seconds: Mapped[int] = mapped_column(server_default=text("0"))
    send_delay_spread_seconds: Mapped[int] = mapped_column(server_default=text("0"))
    default_sim_slot: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    sim_selection: Mapped[str] = mapped_column(String(10), server_default=text("'default'"))
    limits: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    token_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    hook_secret: Mapped[str] = mapped_column(String(64))
    signing_key: Mapped[str] = mapped_column(String(64))
    # The token that it was last enrolled with, which ends when the phone is removed.
    enrolled_by: Mapped[int | None]
    # Enrolled, and not switched on by its owner yet, who wants to be asked (`users.approve_new_phones`).
    awaits_approval: Mapped[bool] = mapped_column(server_default=text("false"))
    push_token: Mapped[str | None] = mapped_column(String(256))
    sim_cards: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'"))
    app_version: Mapped[str | None] = mapped_column(String(32))
    battery: Mapped[int | None] = mapped_column(SmallInteger)
    created_at: Mapped[CreatedAt]
    removed_at: Mapped[datetime | None]


class DeviceState(Base):
    """Pace, window and presence of a phone. Nothing references it, so locking it blocks no insert elsewhere."""

    __tablename__ = "device_state"

    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    # Pace: the last release and when the next one may be.
    last_release_at: Mapped[datetime | None]
    next_slot_at: Mapped[datetime | None]
    next_sim_slot: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Window: how many may be released and not yet sent, from what was seen to be sent since `measured_since`.
    send_window: Mapped[int] = mapped_column(SmallInteger, server_default=text("20"))
    measured_since: Mapped[datetime | None]
    measured_in_flight: Mapped[int] = mapped_column(server_default=text("0"))
    measured_released: Mapped[int] = mapped_column(server_default=text("0"))
    # Presence: an authenticated request, a pull, an open stream; and the oldest wake, or loss of one, that no pull
    # followed yet.
    seen_at: Mapped[datetime | None]
    pulled_at: Mapped[datetime | None]
    stream_opened_at: Mapped[datetime | None]
    stream_seen_at: Mapped[datetime | None]
    woken_at: Mapped[datetime | None]
    # When the owner was told that the phone is offline; null again with the all-clear.
    offline_alert_at: Mapped[datetime | None]
    # Until when the phone's limits hold back everything that waits for it, and which of them (`dispatch/limits.py`).
    held_until: Mapped[datetime | None]
    held_by: Mapped[str | None] = mapped_column(String(32))
    # Failing (`health`): until when it gets nothing, and after that one message; each of its failing cards, by slot, as
    # seconds since 1970; when the owner was told.
    rests_until: Mapped[datetime | None]
    sim_rests: Mapped[dict[str, float] | None] = mapped_column(JSONB)
    failing_alert_at: Mapped[datetime | None]
    # Since when it sends nothing although it has accepted messages (`quiet`).
    quiet_since: Mapped[datetime | None]


class PhoneState(TypedDict):
    """A row of `device_state`."""

    device_id: int
    last_release_at: datetime | None
    next_slot_at: datetime | None
    next_sim_slot: int
    send_window: int
    measured_since: datetime | None
    measured_in_flight: int
    measured_released: int
    seen_at: datetime | None
    pulled_at: datetime | None
    stream_opened_at: datetime | None
    stream_seen_at: datetime | None
    woken_at: datetime | None
    offline_alert_at: datetime | None
    held_until: datetime | None
    held_by: str | None
    rests_until: datetime | None
    sim_rests: dict[str, float] | None
    failing_alert_at: datetime | None
    quiet_since: datetime | None


class PhoneRow(PhoneState):
    """With what decides what the phone may have; `sim_cards` only where it sends by all of them in turn."""

    token_hash: bytes
    user_id: int
    is_active: bool
    send_delay_seconds: int
    send_delay_spread_seconds: int
    default_sim_slot: int
    app_version: str | None
    limits: dict[str, Any]
    sim_selection: str
    sim_cards: list[dict[str, Any]] | None


class DeviceHealth(Base):
    """The last results of a SIM card, weighted, and its rests (`health`)."""

    __tablename__ = "device_health"

    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    sim_slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    sent: Mapped[float] = mapped_column(server_default=text("0"))
    failed: Mapped[float] = mapped_column(server_default=text("0"))
    last_sent_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    rests: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    rests_until: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(String(20))


class DeviceDelta(Base):
    """A change of a phone's figures, inserted by the batch that caused it (`figures`)."""

    __tablename__ = "device_deltas"
    __table_args__ = (
        Index(None, "device_id", "id"),
        {"postgresql_with": QUEUE_STORAGE},
    )

    id: Mapped[BigId]
    device_id: Mapped[int]
    sim_slot: Mapped[int] = mapped_column(SmallInteger)
    day: Mapped[date]
    kind: Mapped[str] = mapped_column(String(10))
    detail: Mapped[str] = mapped_column(String(20))
    n: Mapped[int]


class DeviceTotal(Base):
    """Folded deltas of a phone: one row a day (UTC), SIM slot, kind and detail; kept for a month."""

    __tablename__ = "device_totals"
    __table_args__ = (Index(None, "day"),)

    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    sim_slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    detail: Mapped[str] = mapped_column(String(20), primary_key=True)
    n: Mapped[int]


class PhoneWatch(Base):
    """One row: when phones could last reach the gateway, and when they could again after they could not."""

    __tablename__ = "phone_watch"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    seen_at: Mapped[datetime]
    back_at: Mapped[datetime | None]
