"""Campaigns, their recipients, who was left out, and what is counted of them."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, Numeric, SmallInteger, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.campaigns.states import CampaignStatus, PausedBy
from app.core.database import Base, BigId, CreatedAt, one_of

NAME_LENGTH = 255


class Campaign(Base):
    """A text to many recipients, made into messages while it runs.

    Everything about a campaign is decided under the lock of this row, which comes before all others.
    """

    __tablename__ = "campaigns"
    __table_args__ = (
        Index("ix_campaigns_user_id", "user_id", "id"),
        Index("ix_campaigns_running", "user_id", "id", postgresql_where=text("status = 'running'")),
        Index(None, "next_look_at", postgresql_where=text("next_look_at IS NOT NULL")),
        one_of("status", CampaignStatus),
        one_of("paused_by", PausedBy),
    )

    id: Mapped[BigId]
    user_id: Mapped[int]
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    status: Mapped[str] = mapped_column(String(10), server_default=text("'draft'"))
    message: Mapped[str] = mapped_column(Text)
    # Null for the account's default, `"active"`, one phone's number or a list of numbers.
    devices: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    sim_slot: Mapped[int | None] = mapped_column(SmallInteger)
    price: Mapped[Decimal | None] = mapped_column(Numeric(14, 4))
    my_id: Mapped[str | None] = mapped_column(String(255))
    callback_url: Mapped[str | None] = mapped_column(Text)
    validity_period: Mapped[int | None] = mapped_column(Integer)
    rate_per_minute: Mapped[int | None] = mapped_column(Integer)
    # `{from, to, days, zone}`.
    hours: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    start_at: Mapped[datetime | None]
    end_at: Mapped[datetime | None]
    # `{first, delivered_share | sent_share, within_minutes}`, `{failed_share, of_last}`.
    canary: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    stop_rule: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    paused_by: Mapped[str | None] = mapped_column(String(10))
    # Why it was paused or waits: a code of `sentences`, and what its sentence speaks of.
    reason_code: Mapped[str | None] = mapped_column(String(40))
    reason: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    # How many recipients are to be served, without those left out, which are counted by reason.
    recipients: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # The names of its recipients' fields, which its text may speak of.
    columns: Mapped[list[str]] = mapped_column(JSONB, server_default=text("'[]'"))
    left_out: Mapped[dict[str, int]] = mapped_column(JSONB, server_default=text("'{}'"))
    # When its rate allows the next message, if it has one.
    next_slot_at: Mapped[datetime | None]
    # When feeding or starting has to look at it again by itself.
    next_look_at: Mapped[datetime | None]
    # The last of the first messages was made, and whether they passed: null while it is not known.
    canary_made_at: Mapped[datetime | None]
    canary_passed: Mapped[bool | None]
    # The newest results, `+` and `-`, as many as the stop rule looks at.
    newest_results: Mapped[str] = mapped_column(Text, server_default=text("''"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # When its recipients and who was left out were deleted for their age (`retention`).
    recipients_deleted_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class CampaignRecipient(Base):
    """One recipient. Narrow, and without references: there may be a million.

    `fields` fill the text's placeholders beside the name. `zone` is where its hours are, `''` for the account's.
    """

    __tablename__ = "campaign_recipients"
    __table_args__ = (
        # What feeding takes next, by zone.
        Index("ix_campaign_recipients_waiting", "campaign_id", "zone", "place", postgresql_where=text("state = 0")),
        {"postgresql_with": {"autovacuum_vacuum_scale_factor": "0.05"}},
    )

    campaign_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    place: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[str] = mapped_column(String(32))
    name: Mapped[str | None] = mapped_column(String(255))
    fields: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    zone: Mapped[str] = mapped_column(String(40), server_default=text("''"))
    # A `RecipientState`.
    state: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    message_id: Mapped[int | None]


class CampaignLeftOut(Base):
    """A row that was left out, or a recipient: the first 10,000 of a campaign. `line` is that of the file or list."""

    __tablename__ = "campaign_left_out"
    __table_args__ = (Index(None, "campaign_id", "id"),)

    id: Mapped[BigId]
    campaign_id: Mapped[int]
    line: Mapped[int | None]
    value: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(String(30))
    sentence: Mapped[str] = mapped_column(Text, server_default=text("''"))


class CampaignTotal(Base):
    """How many messages have a result, by phone and reason (`CampaignDelta`)."""

    __tablename__ = "campaign_totals"

    campaign_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    result: Mapped[str] = mapped_column(String(10), primary_key=True)
    reason: Mapped[str] = mapped_column(String(20), primary_key=True)
    n: Mapped[int]


class CampaignMinute(Base):
    """How the counts by result changed in a minute."""

    __tablename__ = "campaign_minutes"

    campaign_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    result: Mapped[str] = mapped_column(String(10), primary_key=True)
    n: Mapped[int]
