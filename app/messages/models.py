"""Messages, the narrow queue of those that still wait, and what accepting and dispatch keep beside them."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypedDict
from uuid import UUID

from sqlalchemy import (
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
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, JSONB, Range
from sqlalchemy.orm import Mapped, mapped_column

from app.core.database import QUEUE_STORAGE, Base, BigId, CreatedAt, one_of
from app.messages.states import Stage, Status

_SHOWN = text("deleted_at IS NULL")


class Message(Base):
    """One SMS, to one recipient or from one sender.

    Hot and large, so it references nothing. Times of the stages released and accepted are in the queue row until the
    message leaves it, and are copied here then.
    """

    __tablename__ = "messages"
    __table_args__ = (
        # What lists walk, in their order (`queries`). There is none for a user's whole list: it is merged from those by
        # status, because every index costs each change of a message one more write.
        Index("ix_messages_user_status", "user_id", "status", "created_at", "id", postgresql_where=_SHOWN),
        Index("ix_messages_user_device", "user_id", "device_id", "status", "created_at", "id", postgresql_where=_SHOWN),
        Index(
            "ix_messages_user_recipient",
            "user_id",
            "recipient_number",
            "created_at",
            "id",
            postgresql_where=text("direction = 'outbound' AND deleted_at IS NULL"),
        ),
        Index(
            "ix_messages_user_sender",
            "user_id",
            "sender_number",
            "created_at",
            "id",
            postgresql_where=text("direction = 'inbound' AND deleted_at IS NULL"),
        ),
        Index(
            "ix_messages_user_my_id",
            "user_id",
            "my_id",
            "created_at",
            "id",
            postgresql_where=text("my_id IS NOT NULL AND deleted_at IS NULL"),
        ),
        Index(None, "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        one_of("status", Status),
        one_of("direction", ("inbound", "outbound")),
        one_of("kind", ("sms", "data", "mms")),
        one_of("failed_by", ("phone", "gateway", "owner")),
        # A status that a message came to has its time.
        *(
            CheckConstraint(f"status <> '{status}' OR {status}_at IS NOT NULL", name=f"{status}_at")
            for status in Status
            if status is not Status.PENDING
        ),
    )

    id: Mapped[BigId]
    message_id: Mapped[UUID] = mapped_column(unique=True)
    user_id: Mapped[int]
    device_id: Mapped[int | None]
    device_named: Mapped[bool] = mapped_column(server_default=text("false"))
    direction: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(10))
    lane: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    # The last attempt that was known to have left when its owner asked for another.
    left_attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    recipient_number: Mapped[str | None] = mapped_column(String(32))
    sender_number: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str | None] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(4), server_default=text("'sms'"))
    # What the parts of an MMS are; what is in them is in `message_attachments`, where no list reads it.
    attachments: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    price: Mapped[Decimal | None] = mapped_column(Numeric(14, 4))
    my_id: Mapped[str | None] = mapped_column(String(255))
    # The campaign that made it, of which nothing more is known here.
    campaign_id: Mapped[int | None]
    callback_url: Mapped[str | None] = mapped_column(Text)
    # The slot that the request named, and once it is sent the one that was used.
    sim_slot: Mapped[int | None] = mapped_column(SmallInteger)
    sim_named: Mapped[bool] = mapped_column(server_default=text("false"))
    # Sent although its recipient has opted out: asked for, or the answer to a keyword.
    ignores_opt_out: Mapped[bool] = mapped_column(server_default=text("false"))
    segments: Mapped[int | None] = mapped_column(SmallInteger)
    encoding: Mapped[str | None] = mapped_column(String(4))
    error_message: Mapped[str | None] = mapped_column(Text)
    uncertain: Mapped[bool] = mapped_column(server_default=text("false"))
    failed_by: Mapped[str | None] = mapped_column(String(8))
    counted_on: Mapped[date | None]
    # Only where the sender set an end; else the validity begins when a phone is given the message.
    valid_until: Mapped[datetime | None]
    # When the sender wants it to go, where that was not at once.
    scheduled_at: Mapped[datetime | None]
    routed_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]
    accepted_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    received_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]


class QueueEntry(Base):
    """A message that is still pending. Its row arbitrates between hand-out, cancel, moves and expiry.

    `device_id` 0 is queued (no phone yet). `stage` is a `Stage`; one that is not offered again because its phone
    enrolled anew counts as accepted. `lane` is a `Lane`.
    """

    __tablename__ = "message_queue"
    __table_args__ = (
        Index("ix_message_queue_claim", "user_id", "device_id", "stage", "lane", "message_id"),
        Index(None, "valid_until"),
        # What a campaign's counts and its pause read; and what waits for its time.
        Index(
            "ix_message_queue_campaign",
            "campaign_id",
            "stage",
            "message_id",
            postgresql_where=text("campaign_id IS NOT NULL"),
        ),
        Index(None, "due_at", "message_id", postgresql_where=text("due_at IS NOT NULL")),
        Index(None, "closes_at", postgresql_where=text(f"closes_at IS NOT NULL AND stage = {Stage.WAITING}")),
        {"postgresql_with": QUEUE_STORAGE, "info": {"queue": True}},
    )

    message_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[int]
    device_id: Mapped[int] = mapped_column(server_default=text("0"))
    stage: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    lane: Mapped[int] = mapped_column(SmallInteger)
    named: Mapped[bool] = mapped_column(server_default=text("false"))
    cancelling: Mapped[bool] = mapped_column(server_default=text("false"))
    sim_slot: Mapped[int | None] = mapped_column(SmallInteger)
    campaign_id: Mapped[int | None]
    # Held until then; null once it was released.
    due_at: Mapped[datetime | None]
    # While it waits, until when the allowed hours let it go; of one that is held, that they hold it.
    closes_at: Mapped[datetime | None]
    # When the message came to where it stands now: queued, or routed to its phone.
    since: Mapped[CreatedAt]
    # While it waits the sender's own end, if any; once released, until when the phone may send it.
    valid_until: Mapped[datetime | None]
    released_at: Mapped[datetime | None]
    offered_at: Mapped[datetime | None]
    accepted_at: Mapped[datetime | None]


class QueueMark(Base):
    """Between which numbers of messages the queue's rows of a phone stand, where that is marked (`dispatch.marks`).

    `device_id` is as in the queue.
    """

    __tablename__ = "queue_marks"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    numbers: Mapped[list[Range[int]]] = mapped_column(INT8MULTIRANGE)


class MessageRow(TypedDict):
    """A row of `messages`."""

    id: int
    message_id: UUID
    user_id: int
    device_id: int | None
    device_named: bool
    direction: str
    status: str
    lane: int
    attempt: int
    left_attempt: int
    recipient_number: str | None
    sender_number: str | None
    message: str | None
    kind: str
    attachments: list[dict[str, Any]] | None
    price: Decimal | None
    my_id: str | None
    campaign_id: int | None
    callback_url: str | None
    sim_slot: int | None
    sim_named: bool
    ignores_opt_out: bool
    segments: int | None
    encoding: str | None
    error_message: str | None
    uncertain: bool
    failed_by: str | None
    counted_on: date | None
    valid_until: datetime | None
    scheduled_at: datetime | None
    routed_at: datetime | None
    released_at: datetime | None
    accepted_at: datetime | None
    sent_at: datetime | None
    delivered_at: datetime | None
    failed_at: datetime | None
    cancelled_at: datetime | None
    received_at: datetime | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class QueuedRow(TypedDict):
    """A row of `message_queue`."""

    message_id: int
    user_id: int
    device_id: int
    stage: int
    lane: int
    named: bool
    cancelling: bool
    sim_slot: int | None
    campaign_id: int | None
    due_at: datetime | None
    closes_at: datetime | None
    since: datetime
    valid_until: datetime | None
    released_at: datetime | None
    offered_at: datetime | None
    accepted_at: datetime | None


class HeldCampaign(Base):
    """A campaign of which no message is given to a phone. It is written before the queue's rows are moved to `HELD`.

    Hand-out looks here too, for those that came to wait while they were moved: tried again, or made by somebody late.
    """

    __tablename__ = "held_campaigns"

    campaign_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class CampaignDelta(Base):
    """What a change of messages adds to their campaign's counts by result, until it is added to the totals.

    `device_id` 0 is without a phone. `reason` is the code of a failure's. `minute` is when it was counted.
    """

    __tablename__ = "campaign_deltas"
    __table_args__ = (
        Index(None, "campaign_id", "id"),
        {"postgresql_with": QUEUE_STORAGE},
    )

    id: Mapped[BigId]
    campaign_id: Mapped[int]
    device_id: Mapped[int]
    result: Mapped[str] = mapped_column(String(10))
    reason: Mapped[str] = mapped_column(String(20))
    minute: Mapped[datetime]
    n: Mapped[int]


class MessageStep(Base):
    """Something that happened to a message before its present routing or try (`steps`)."""

    __tablename__ = "message_steps"
    __table_args__ = (Index(None, "message_id", "id"),)

    id: Mapped[BigId]
    message_id: Mapped[int]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    step: Mapped[str] = mapped_column(String(10))
    at: Mapped[datetime]
    device_id: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)


class MessageAttachments(Base):
    """What is in the parts of an MMS, base64, in the order of `Message.attachments`; null for a part left out.

    `size` is what they take of the account's room.
    """

    __tablename__ = "message_attachments"
    __table_args__ = (Index(None, "user_id", postgresql_include=["size"]),)

    message_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[int]
    size: Mapped[int]
    data: Mapped[list[str | None]] = mapped_column(ARRAY(Text))


class InboundSeen(Base):
    """An inbound event a phone has posted, so that its repetition changes nothing; kept for some days only.

    The notice of an MMS has a second row until the MMS is downloaded, or the MMS one until its notice comes: `event_id`
    names the message that it became, and `fingerprint` is its sender's.
    """

    __tablename__ = "inbound_seen"
    __table_args__ = (Index(None, "device_id", "fingerprint"), Index(None, "created_at"))

    device_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    event_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]


class DeviceRelease(Base):
    """What a phone with limits was given: counted in sliding windows, kept for as long as the longest of them."""

    __tablename__ = "device_releases"
    __table_args__ = (Index("ix_device_releases_window", "device_id", "released_at"), Index(None, "released_at"))

    id: Mapped[BigId]
    device_id: Mapped[int]
    released_at: Mapped[datetime]
    sim_slot: Mapped[int] = mapped_column(SmallInteger)
    segments: Mapped[int] = mapped_column(SmallInteger)
    # The first eight bytes of the number's SHA-256, as a number: enough to count recipients by.
    recipient: Mapped[int]


class DispatchCursor(Base):
    """Whose turn it is among a user's phones: the one served last."""

    __tablename__ = "dispatch_cursors"

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    last_device_id: Mapped[int] = mapped_column(server_default=text("0"))


class Template(Base):
    """A text that sends name by its number."""

    __tablename__ = "templates"
    __table_args__ = (Index("uq_templates_user_name", "user_id", "name", unique=True),)

    id: Mapped[BigId]
    user_id: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class IdempotencyKey(Base):
    """A send's `Idempotency-Key`: the hash of its request and the messages it made.

    `device_id` is the phone that the answer to a single send named, `skipped` the recipients that a bulk send left out,
    `lease_until` how long one may take before its key may be taken over.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "created_at"),)

    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    route: Mapped[str] = mapped_column(String(20), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    message_ids: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    device_id: Mapped[int | None]
    skipped: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    lease_until: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class ConversationRead(Base):
    """Until when its owner has read the conversation with a number."""

    __tablename__ = "conversation_reads"

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[str] = mapped_column(String(32), primary_key=True)
    read_at: Mapped[datetime]
