"""Bodies of sends, the answers to them, and the message object."""

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainSerializer, ValidationInfo, model_validator

from app.core.envelope import SOMETIMES, Money, Timestamp, plain_number
from app.core.validation import Body, Boolean, Filter, Integer, Listed, Moment, Price, fault, known_names
from app.messages.states import Status
from app.webhooks.guard import ValidWebhookUrl

MESSAGE_LENGTH = 1600
# How much of what stands in for a placeholder is looked at: with more a text is too long in any case.
MAX_FILLING = MESSAGE_LENGTH + 1
MAX_GROUPS = 1000
MAX_RECIPIENTS = 100_000
MAX_FIELDS = 256
NOT_A_NUMBER = "The {name} field must be a valid phone number, with + and the country code."


# Recipients are checked one by one outside of the schema, for speed; this is what it would say of them.
RECIPIENTS: dict[str, Any] = {
    "anyOf": [
        {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_RECIPIENTS,
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


def _field_value(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _text_or_template(value: Any, info: ValidationInfo) -> Any:
    text = _text(value)
    if info.data.get("template_id") is None:
        return text
    if text is not None:
        raise fault("The {name} field cannot be given together with a template.")
    return ""


MessageText = Annotated[str, Field(max_length=MESSAGE_LENGTH), BeforeValidator(_text)]
DeviceReference = Annotated[int | str, BeforeValidator(_reference)]
# A text, or nothing where the draft has a `template_id`, which stands before it.
TextOrTemplate = Annotated[str, Field(max_length=MESSAGE_LENGTH), BeforeValidator(_text_or_template)]
FieldName = Annotated[str, Field(max_length=255)]
FieldValue = Annotated[str, Field(max_length=MESSAGE_LENGTH), BeforeValidator(_field_value)]
FieldValues = Annotated[dict[FieldName, FieldValue | None], Field(max_length=MAX_FIELDS)]
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
_MAX_NAME_LENGTH = 40

SEND_AT: Any = Field(
    default=None,
    description="When to send, at most a year ahead (ISO 8601, without offset in UTC); absent: at once",
)


class Draft(Body):
    """Base of sends. Another name for `send_at` is refused: ignored, the message would leave at once."""

    @model_validator(mode="before")
    @classmethod
    def _now(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value.keys() - known_names(cls):
                if _means_later(name) and value[name] not in (None, "", False, 0, "0"):
                    sentence = "There is no {name} field here: use send_at to send later."
                    raise fault(sentence, field=name)
        return value


def _means_later(name: str) -> bool:
    return len(name) <= _MAX_NAME_LENGTH and name.lower().replace("_", "").replace("-", "") in _LATER


class SmsDraft(Draft):
    """One SMS."""

    aliases: ClassVar[frozenset[str]] = frozenset({"phone"})

    template_id: Integer | None = Field(default=None, description="A template, in place of a text")
    message: TextOrTemplate = Field(
        default="",
        validate_default=True,
        description="The text, up to 1600 characters; required without a template",
        examples=["Your code is 4821"],
    )
    fields: FieldValues | None = Field(
        default=None, description="Values of the text's placeholders; absent: placeholders of a `message` stay"
    )
    recipient_number: Annotated[str, Field(max_length=64)] = Field(
        description="The recipient; `phone` is accepted as well", examples=["+12025550123"]
    )
    device_id: DeviceReference | None = Field(
        default=None,
        description='A phone, by number or by its own string; `"active"` takes the active phones in turn; absent: the'
        " default phone, otherwise as `active`",
    )
    price: Price | None = Field(default=None, description="What the message costs; absent: the phone's `sms_rate`")
    my_id: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, description="Your own reference, returned wherever the message is shown", examples=["order-1001"]
    )
    callback_url: ValidWebhookUrl | None = Field(
        default=None, description="Called once, when the message is delivered or has failed"
    )
    sim_slot: SimSlot | None = Field(default=None, description="Which SIM card sends, from 0")
    validity_period: ValidityPeriod | None = Field(
        default=None,
        description="Seconds from now, or from `send_at`, after which the message must no longer be sent; absent: it"
        " waits for its phone without limit",
    )
    send_at: Moment | None = SEND_AT
    ignore_opt_out: Boolean | None = Field(
        default=None,
        description="Send although the recipient has opted out: for what the recipient asks for, as a login code",
    )

    @model_validator(mode="before")
    @classmethod
    def _alias(cls, value: Any) -> Any:
        if isinstance(value, dict) and _text(value.get("recipient_number")) is None and "phone" in value:
            return {**value, "recipient_number": value["phone"]}
        return value


class BulkDraft(Draft):
    """One text to many recipients: `recipients`, `group_ids` or both."""

    verbatim: ClassVar[frozenset[str]] = frozenset({"message"})

    template_id: Integer | None = Field(default=None, description="A template, in place of a text")
    message: TextOrTemplate = Field(
        default="",
        validate_default=True,
        description="The text; `{name}` is replaced with each recipient's name. Required without a template",
        examples=["Hello {name}, we open at nine."],
    )
    fields: FieldValues | None = Field(
        default=None,
        description="Values of other placeholders, the same for all recipients. With them, or with a template,"
        " `{name|default}` is understood as well",
    )
    # Before the recipients, which may be left out where there are groups.
    group_ids: Annotated[list[Integer], Field(max_length=MAX_GROUPS)] | None = Field(
        default=None, description="Groups whose contacts are recipients as well"
    )
    recipients: Annotated[Listed | None, AfterValidator(_anybody)] = Field(
        default=None,
        validate_default=True,
        json_schema_extra=RECIPIENTS,
        description="Up to 100,000 numbers, or objects with number and name; duplicates are sent to once",
        examples=[["+12025550123", {"number": "+12025550148", "name": "Laylo"}]],
    )
    device_id: DeviceReference | None = Field(
        default=None,
        description='As in a single send; `"active"` spreads the messages over all active phones',
        examples=["active"],
    )
    price: Price | None = Field(default=None, description="What each message costs")
    my_id: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, description="Your own reference, the same for every message"
    )
    callback_url: ValidWebhookUrl | None = Field(
        default=None, description="Called once per message, when it is delivered or has failed"
    )
    sim_slot: SimSlot | None = Field(default=None, description="Which SIM card sends, from 0")
    validity_period: ValidityPeriod | None = Field(default=None, description="As in a single send")
    send_at: Moment | None = SEND_AT
    skip_invalid: Boolean | None = Field(
        default=None, description="Skip invalid recipients instead of refusing the request"
    )
    allow_duplicates: Boolean | None = Field(
        default=None, description="Send to a repeated number as often as it is listed"
    )


class PreviewDraft(Body):
    """A text to preview."""

    verbatim: ClassVar[frozenset[str]] = frozenset({"message"})

    template_id: Integer | None = Field(default=None, description="A template, in place of a text")
    message: TextOrTemplate = Field(
        default="",
        validate_default=True,
        description="The text, with placeholders `{name}` or `{name|default}`; up to 1600 characters once filled;"
        " required without a template",
        examples=["Hello {name|there}, we open at nine\u2026"],
    )
    fields: FieldValues | None = Field(
        default=None,
        description="Values of the placeholders, by name in any letter case; absent: those without a default stay",
        examples=[{"name": "Laylo"}],
    )


class NewTemplate(Body):
    """A text to be sent by its number."""

    name: Annotated[str, Field(max_length=255)] = Field(examples=["Opening hours"])
    message: MessageText = Field(
        description="The text, with placeholders `{name}` or `{name|default}`",
        examples=["Hello {name|there}, we open at {hour}."],
    )


class TemplateChange(Body):
    name: Annotated[str, Field(max_length=255)] = Field(default="", examples=["Opening hours"])
    message: MessageText = Field(default="", examples=["Hello {name|there}, we open at {hour}."])


class TemplateFilter(Filter):
    search: Annotated[str, Field(max_length=255)] | None = Field(default=None, description="Text in name or message")


class TemplateOut(BaseModel):
    id: int = Field(examples=[7])
    name: str = Field(examples=["Opening hours"])
    message: str = Field(examples=["Hello {name|there}, we open at {hour}."])
    placeholders: list[str] = Field(description="Names of the placeholders", examples=[["name", "hour"]])
    created_at: Timestamp
    updated_at: Timestamp


class Forcing(BaseModel):
    """A character that GSM 7 lacks, and what could replace it."""

    character: str = Field(examples=["\u2026"])
    replacement: str | None = Field(description="In GSM 7; null: nothing fits", examples=["..."])


class Preview(BaseModel):
    """`message` is the text as it would be sent, its placeholders filled."""

    message: str = Field(examples=["Hello Laylo, we open at nine\u2026"])
    encoding: str = Field(description="`gsm7` or `ucs2`", examples=["ucs2"])
    segments: int = Field(description="How many SMS the text is split into", examples=[1])
    characters: int = Field(examples=[30])
    forced_by: list[Forcing] = Field(description="The characters that force UCS-2, each once")
    price: Money = Field(description="What one message costs, however many segments it has", examples=[100])


class SmsChange(Body):
    """The result of a message, as a phone app would report it; or, for one that is scheduled, another time."""

    status: Literal["pending", "sent", "delivered", "failed", "received"] | None = Field(
        default=None, description="The new status; a status never moves backwards", examples=["delivered"]
    )
    error_message: Annotated[str, Field(max_length=1000)] | None = None
    send_at: Moment | None = Field(
        default=None, description="Another time to send at, until the message is due; null: now"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "SmsChange":
        if self.status is not None and "send_at" in self.model_fields_set:
            raise fault("The send at field cannot be changed together with the status.", field="send_at")
        return self


DueAt = Annotated[
    Timestamp | None,
    Field(
        exclude_if=lambda at: at is None,
        description="When it is due; present if that is later",
        json_schema_extra={SOMETIMES: True},
    ),
]


class SmsQueued(BaseModel):
    """A message that was accepted."""

    id: int = Field(examples=[101])
    message_id: str = Field(examples=["01977a5e-8f00-7c1d-9b44-3f5a6d2c7e10"])
    recipient_number: str = Field(examples=["+12025550123"])
    status: str = Field(examples=["pending"])
    price: Money
    is_charged: bool = Field(examples=[False])
    direction: str = Field(examples=["outbound"])
    callback_url: str | None = Field(examples=[None])
    my_id: str | None = Field(examples=["order-1001"])
    device_id: int | None = Field(examples=[5])
    segments: int = Field(examples=[1])
    encoding: str = Field(examples=["gsm7"])
    scheduled_at: DueAt = None


class AttachmentOut(BaseModel):
    """A part of an MMS as the phone reported it. If its content is not stored, `omitted` says why."""

    part_id: int | str | None = None
    content_type: str | None = None
    name: str | None = Field(default=None, examples=["photo.jpg"])
    size: int | None = None
    omitted: Annotated[
        Literal["part_too_large", "message_too_large", "account_full", "too_many_parts"] | None,
        Field(exclude_if=lambda reason: reason is None, json_schema_extra={SOMETIMES: True}),
    ] = None


class AttachmentDetail(AttachmentOut):
    """An attachment with its content in base64."""

    data: str | None = None


def _none_are_no_parts(value: Any) -> Any:
    return value or []


class BulkItem(BaseModel):
    """A message of a bulk send."""

    id: int = Field(examples=[101])
    message_id: UUID = Field(examples=["01977a5e-8f00-7c1d-9b44-3f5a6d2c7e10"])
    recipient_number: str = Field(examples=["+12025550123"])
    status: Literal["pending"]
    price: Money
    is_charged: Literal[False]
    direction: Literal["outbound"]
    my_id: str | None = Field(examples=["order-1001"])
    scheduled_at: DueAt = None


class SkippedRecipient(BaseModel):
    """A recipient that was skipped: its index in the request, null for a contact of a group, and why."""

    index: int | None = Field(examples=[4])
    reason: str = Field(examples=["The recipient has opted out of your messages."])
    reason_code: str | None = Field(
        default=None,
        description="`invalid`, `opted_out`, `over_cap` or `same_content`",
        examples=["opted_out"],
    )
    number: str | None = Field(default=None, description="The number, if it is a valid one", examples=["+12025550123"])


class BulkQueued(BaseModel):
    """The messages, in the order of their recipients."""

    success: Literal[True]
    message: str = Field(examples=["Your code is 4821"])
    data: list[BulkItem]
    skipped: list[SkippedRecipient] = Field(
        default=[],
        description="The recipients that were skipped, if any: opted out, or invalid where `skip_invalid` was set",
    )


class MessageOut(BaseModel):
    """The full message; unknown values are null."""

    id: int = Field(examples=[101])
    message_id: UUID = Field(examples=["01977a5e-8f00-7c1d-9b44-3f5a6d2c7e10"])
    my_id: str | None = Field(examples=["order-1001"])
    device_id: int | None = Field(description="The phone's number; null until one is chosen", examples=[5])
    recipient_number: str | None = Field(examples=["+12025550123"])
    sender_number: str | None = Field(examples=["+12025550199"])
    message: str | None = Field(examples=["Your code is 4821"])
    direction: Literal["inbound", "outbound"] = Field(examples=["outbound"])
    status: Status = Field(examples=["delivered"])
    price: Money | None
    is_charged: Literal[False] = False
    sim_slot: int | None = Field(examples=[0])
    segments: int | None = Field(description="Number of SMS parts", examples=[1])
    encoding: str | None = Field(description="`gsm7` or `ucs2`", examples=["gsm7"])
    uncertain: bool = Field(
        description="True if nobody knows whether the SMS was sent: its phone never reported", examples=[False]
    )
    callback_url: str | None = Field(examples=[None])
    error_message: str | None = Field(examples=[None])
    kind: Literal["sms", "data", "mms"]
    attachments: Annotated[list[AttachmentOut], BeforeValidator(_none_are_no_parts)] = Field(default=[], examples=[[]])
    scheduled_at: Timestamp | None = Field(description="When it is or was due; null: at once", examples=[None])
    sent_at: Timestamp | None
    delivered_at: Timestamp | None
    received_at: Timestamp | None = Field(examples=[None])
    created_at: Timestamp
    updated_at: Timestamp


class MessageDetail(MessageOut):
    """The full message with the contents of its attachments."""

    attachments: Annotated[list[AttachmentDetail], BeforeValidator(_none_are_no_parts)] = []  # type: ignore[assignment]  # narrower


class StatusOut(BaseModel):
    """The status of a message."""

    id: int = Field(examples=[101])
    status: Status = Field(examples=["delivered"])


PerCent = Annotated[float, PlainSerializer(plain_number, return_type=int | float)]


class PeriodStats(BaseModel):
    """Sent (including delivered and failed), delivered and failed."""

    sent: int = Field(examples=[8])
    delivered: int = Field(examples=[7])
    failed: int = Field(examples=[1])
    delivery_rate: PerCent = Field(description="Per cent of what was sent", examples=[87.5])


class DeliveryStats(BaseModel):
    today: PeriodStats
    this_week: PeriodStats
    this_month: PeriodStats
    scheduled: int = Field(
        description="Pending messages whose `send_at` has not come; exact up to 10,000, and no more", examples=[0]
    )
