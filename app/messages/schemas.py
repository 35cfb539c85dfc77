"""Bodies of sends, the answers to them, and the message object."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer, ValidationInfo, model_validator

from app.core.envelope import Money, Timestamp, plain_number
from app.core.validation import Body, Boolean, Integer, Price, fault
from app.messages.states import Status
from app.webhooks.guard import WebhookUrl

MESSAGE_LENGTH = 1600
MOST_GROUPS = 1000
NOT_A_NUMBER = "The {name} field must be a valid phone number, with + and the country code."


# Recipients are checked one by one outside of the schema, for speed; this is what it would say of them.
RECIPIENTS: dict[str, Any] = {
    "anyOf": [
        {
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "properties": {"number": {"type": "string"}, "name": {"type": ["string", "null"]}},
                        "required": ["number"],
                    },
                ]
            },
        },
        {"type": "null"},
    ]
}


def _text(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _reference(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise fault("The selected {name} is invalid.")
    return value


def _anybody(value: list[Any] | None, info: ValidationInfo) -> list[Any] | None:
    # Groups that are wrong are told by their own field.
    if not value and not info.data.get("group_ids", True):
        raise fault("The {name} field is required.")
    return value


MessageText = Annotated[str, Field(max_length=MESSAGE_LENGTH), BeforeValidator(_text)]
DeviceReference = Annotated[int | str, BeforeValidator(_reference)]
SimSlot = Annotated[Integer, Field(ge=0, le=2)]
# From half a minute to the 30 days over which limits are counted.
ValidityPeriod = Annotated[Integer, Field(ge=30, le=30 * 86_400)]


# What other services call the moment to send at, without case, `_` and `-`.
# fmt: off
_LATER = frozenset({
    "delay", "delayminutes", "delayseconds", "delayuntil", "deliverafter", "deliverat", "deliveryat",
    "deliverydate", "deliverytime", "notbefore", "schedule", "scheduleat", "scheduled", "scheduledat",
    "scheduledate", "scheduledatetime", "scheduleddate", "scheduleddatetime", "scheduledfor", "scheduledtime",
    "schedulefor", "scheduletime", "sendafter", "sendat", "senddate", "senddatetime", "senddelay", "sendin",
    "sendlater", "sendon", "sendtime", "startat", "starttime",
})
# fmt: on
_LONGEST_LATER = 40


class Draft(Body):
    """Base of sends. What asks for a later time is refused: ignored, the message would leave at once."""

    @model_validator(mode="before")
    @classmethod
    def _now(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value.keys() - cls.model_fields.keys():
                if _means_later(name) and value[name] not in (None, "", False, 0, "0"):
                    sentence = "Scheduling is not served yet: leave out {name} to send now."
                    raise fault(sentence, field=name)
        return value


def _means_later(name: str) -> bool:
    return len(name) <= _LONGEST_LATER and name.lower().replace("_", "").replace("-", "") in _LATER


class SmsDraft(Draft):
    """The body of `POST /api/sms`."""

    aliases: ClassVar[frozenset[str]] = frozenset({"phone"})

    message: MessageText
    recipient_number: Annotated[str, Field(max_length=64)]
    device_id: DeviceReference | None = None
    price: Price | None = None
    my_id: Annotated[str, Field(max_length=255)] | None = None
    callback_url: WebhookUrl | None = None
    sim_slot: SimSlot | None = None
    validity_period: ValidityPeriod | None = None

    @model_validator(mode="before")
    @classmethod
    def _alias(cls, value: Any) -> Any:
        if isinstance(value, dict) and _text(value.get("recipient_number")) is None and "phone" in value:
            return {**value, "recipient_number": value["phone"]}
        return value


class BulkDraft(Draft):
    """The body of `POST /api/sms/bulk`: `recipients`, `group_ids` or both."""

    verbatim: ClassVar[frozenset[str]] = frozenset({"message"})

    message: MessageText
    # Before the recipients, which may be left out where there are groups.
    group_ids: Annotated[list[Integer], Field(max_length=MOST_GROUPS)] | None = None
    recipients: Annotated[
        list[Any] | None, Field(json_schema_extra=RECIPIENTS, validate_default=True), AfterValidator(_anybody)
    ] = None
    device_id: DeviceReference | None = None
    price: Price | None = None
    my_id: Annotated[str, Field(max_length=255)] | None = None
    callback_url: WebhookUrl | None = None
    sim_slot: SimSlot | None = None
    validity_period: ValidityPeriod | None = None
    skip_invalid: Boolean | None = None
    allow_duplicates: Boolean | None = None


class SmsChange(Body):
    """The body of `PUT` and `PATCH /api/sms/{id}`."""

    status: Literal["pending", "sent", "delivered", "failed", "received"] | None = None
    error_message: Annotated[str, Field(max_length=1000)] | None = None


class SmsQueued(BaseModel):
    """A message that was accepted."""

    id: int
    message_id: str
    recipient_number: str
    status: str
    price: Money
    is_charged: bool
    direction: str
    callback_url: str | None
    my_id: str | None
    device_id: int | None
    segments: int
    encoding: str


class AttachmentOut(BaseModel):
    """A part of an MMS, as the phone told it. Where its content is not kept, `omitted` says why."""

    part_id: int | str | None = None
    content_type: str | None = None
    name: str | None = None
    size: int | None = None
    omitted: Annotated[
        Literal["part_too_large", "message_too_large", "account_full", "too_many_parts"] | None,
        Field(exclude_if=lambda reason: reason is None),
    ] = None


class AttachmentWhole(AttachmentOut):
    """With its content, base64."""

    data: str | None = None


def _none_are_no_parts(value: Any) -> Any:
    return value or []


class BulkItem(BaseModel):
    """A message of a bulk send."""

    id: int
    message_id: UUID
    recipient_number: str
    status: Literal["pending"]
    price: Money
    is_charged: Literal[False]
    direction: Literal["outbound"]
    my_id: str | None


class Skipped(BaseModel):
    """A recipient that `skip_invalid` left out: its place in the request, and why."""

    index: int
    reason: str


class BulkQueued(BaseModel):
    """The messages in the order of their recipients; `skipped` is there where any were left out."""

    success: Literal[True]
    message: str
    data: list[BulkItem]
    skipped: list[Skipped] = []


class MessageOut(BaseModel):
    """A message, whole; what is not known (yet) is null."""

    id: int
    message_id: UUID
    my_id: str | None
    device_id: int | None
    recipient_number: str | None
    sender_number: str | None
    message: str | None
    direction: Literal["inbound", "outbound"]
    status: Status
    price: Money | None
    is_charged: Literal[False] = False
    sim_slot: int | None
    segments: int | None
    encoding: str | None
    uncertain: bool
    callback_url: str | None
    error_message: str | None
    kind: Literal["sms", "data", "mms"]
    attachments: Annotated[list[AttachmentOut], BeforeValidator(_none_are_no_parts)] = []
    sent_at: Timestamp | None
    delivered_at: Timestamp | None
    received_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class MessageWhole(MessageOut):
    """With what is in the attachments."""

    attachments: Annotated[list[AttachmentWhole], BeforeValidator(_none_are_no_parts)] = []  # type: ignore[assignment]  # narrower


class StatusOut(BaseModel):
    """Where a message stands."""

    id: int
    status: Status


PerCent = Annotated[float, PlainSerializer(plain_number, return_type=int | float)]


class PeriodStats(BaseModel):
    """Sent (delivered and failed ones too), delivered and failed; `delivery_rate` is per cent of what was sent."""

    sent: int
    delivered: int
    failed: int
    delivery_rate: PerCent


class DeliveryStats(BaseModel):
    today: PeriodStats
    this_week: PeriodStats
    this_month: PeriodStats
