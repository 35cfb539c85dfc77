"""What campaigns' routes take and answer."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from app.campaigns.models import NAME_LENGTH
from app.campaigns.states import CampaignStatus, PausedBy
from app.core.allowed_hours import OF_ACCOUNT, OF_RECIPIENT, AllowedHours, zone_or_word
from app.core.envelope import Money, Timestamp
from app.core.validation import Body, Boolean, Filter, Integer, Moment, Price, Strict, fault
from app.messages.schemas import DeviceReference, SimSlot, TextOrTemplate, ValidityPeriod
from app.webhooks.guard import ValidWebhookUrl

MAX_DEVICES = 1000
MAX_FIRST, MAX_NEWEST = 10_000, 1000


def _share(value: float) -> float:
    if not 0 < value <= 1:
        raise fault("The {name} field must be more than 0 and at most 1.")
    return value


Share = Annotated[float, AfterValidator(_share)]


def _devices(value: Any) -> Any:
    if isinstance(value, list) and not value:
        raise fault("The {name} field must have at least 1 items.")
    return value


Devices = Annotated[
    DeviceReference | Annotated[list[DeviceReference], Field(max_length=MAX_DEVICES)], BeforeValidator(_devices)
]


class Canary(Strict):
    """The first messages, and what share of them must be delivered before the others follow.

    Where phones give no delivery reports, ask for `sent_share`.
    """

    first: Annotated[Integer, Field(ge=1, le=MAX_FIRST)] = Field(examples=[50])
    delivered_share: Share | None = Field(default=None, description="From 0 to 1", examples=[0.8])
    sent_share: Share | None = Field(default=None, description="From 0 to 1", examples=[None])
    within_minutes: Annotated[Integer, Field(ge=1, le=7 * 1440)] = Field(examples=[30])

    @model_validator(mode="after")
    def _one_share(self) -> "Canary":
        if (self.delivered_share is None) == (self.sent_share is None):
            raise fault("The canary needs delivered_share or sent_share, and not both.", field="canary.delivered_share")
        return self


class StopRule(Strict):
    """Pause when this share of the newest results are failures."""

    failed_share: Share = Field(description="From 0 to 1", examples=[0.3])
    of_last: Annotated[Integer, Field(ge=1, le=MAX_NEWEST)] = Field(examples=[100])


class Hours(AllowedHours):
    """When messages may leave, within the account's allowed hours."""

    zone: Annotated[str, Field(max_length=40), AfterValidator(zone_or_word)] = Field(
        default=OF_ACCOUNT,
        description="`account` (its `time_zone`), `recipient` (each recipient's own), or a time zone by name",
        examples=[OF_RECIPIENT],
    )


class CampaignDraft(Body):
    """A text, who sends it, how fast and when."""

    verbatim: ClassVar[frozenset[str]] = frozenset({"message"})

    name: Annotated[str, Field(max_length=NAME_LENGTH)] = Field(examples=["Spring sale"])
    template_id: Integer | None = Field(default=None, description="A template, whose text is taken as it is now")
    message: TextOrTemplate = Field(
        default="",
        validate_default=True,
        description="The text, with placeholders `{name}` or `{name|default}`; required without a template",
        examples=["Hello {name|there}, we open at nine."],
    )
    device_id: Devices | None = Field(
        default=None,
        description='`"active"`: all active phones in turn; one phone, or a list of phones, by number or by their own'
        " strings; absent: as `active`",
        examples=["active"],
    )
    sim_slot: SimSlot | None = Field(default=None, description="Which SIM card sends, from 0")
    price: Price | None = Field(default=None, description="What each message costs; absent: as in a single send")
    my_id: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, description="Your own reference, the same for every message"
    )
    callback_url: ValidWebhookUrl | None = Field(
        default=None, description="Called once per message, when it is delivered or has failed"
    )
    validity_period: ValidityPeriod | None = Field(
        default=None, description="Seconds after which a message that was made must no longer be sent"
    )
    rate_per_minute: Annotated[Integer, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="At most so many messages a minute", examples=[600]
    )
    hours: Hours | None = Field(default=None, description="When messages may leave")
    start_at: Moment | None = Field(default=None, description="When to start, once `start` was called", examples=[None])
    end_at: Moment | None = Field(default=None, description="When to pause what is not sent yet", examples=[None])
    canary: Canary | None = Field(default=None, description="Try the first messages before the others follow")
    stop_rule: StopRule | None = Field(default=None, description="Pause by itself when too many messages fail")


class CampaignChange(CampaignDraft):
    """Fields to change. Once the campaign has started: its name, rate, hours and end."""

    name: Annotated[str, Field(max_length=NAME_LENGTH)] = Field(default="", examples=["Spring sale"])
    message: TextOrTemplate = Field(default="", examples=["Hello {name|there}, we open at nine."])


class StartAt(Body):
    start_at: Moment | None = Field(
        default=None,
        description="When to start; absent: the campaign's own `start_at`, or now",
        examples=["2026-06-09T09:00:00.000000Z"],
    )


class Retry(Body):
    uncertain: Boolean = Field(
        default=False,
        description="Also those of which nobody knows whether they were sent: they may arrive twice",
        examples=[False],
    )


class CampaignFilter(Filter):
    status: CampaignStatus | None = Field(default=None, description="Campaigns with this status")


class Counts(BaseModel):
    """How many recipients stand where.

    `recipients` is the sum of `not_made`, `waiting`, `held`, `given`, `sent`, `delivered`, `failed` and `cancelled`;
    `uncertain` are those of `failed` of which nobody knows whether they were sent. `left_out` are not among them.
    """

    recipients: int = Field(examples=[1000])
    left_out: int = Field(examples=[12])
    not_made: int = Field(description="No message was made for them yet", examples=[400])
    waiting: int = Field(description="Their message waits for a phone", examples=[200])
    held: int = Field(description="Their message is held: the campaign is paused", examples=[0])
    given: int = Field(description="A phone was given their message and has not reported it yet", examples=[20])
    sent: int = Field(description="Sent, not known to be delivered yet", examples=[60])
    delivered: int = Field(examples=[300])
    failed: int = Field(examples=[20])
    uncertain: int = Field(examples=[2])
    cancelled: int = Field(examples=[0])


class CampaignPhone(BaseModel):
    """What became of the campaign's messages at one phone, or of those that had none."""

    device_id: int | None = Field(examples=[5])
    device_name: str | None = Field(examples=["Pixel 7"])
    waiting: int = Field(examples=[20])
    held: int = Field(examples=[0])
    given: int = Field(examples=[4])
    sent: int = Field(examples=[60])
    delivered: int = Field(examples=[300])
    failed: int = Field(examples=[20])
    uncertain: int = Field(examples=[2])
    cancelled: int = Field(examples=[0])


class CampaignFailure(BaseModel):
    """How many of the campaign's messages failed for one reason."""

    reason_code: str = Field(examples=["no_service"])
    reason: str = Field(examples=["The SIM card has no mobile service."])
    count: int = Field(examples=[18])


class CampaignProgress(BaseModel):
    """How far a campaign is, all of one moment."""

    status: CampaignStatus = Field(examples=["running"])
    counts: Counts
    rate: float = Field(description="Messages a minute that left lately", examples=[118.5])
    ends_at: Timestamp | None = Field(
        description="When the last message is expected to leave, at this rate; null if unknown"
    )
    devices: list[CampaignPhone] = Field(description="By phone")
    failures: list[CampaignFailure] = Field(description="By reason, the most frequent first")


class CampaignOut(BaseModel):
    id: int = Field(examples=[4])
    name: str = Field(examples=["Spring sale"])
    status: CampaignStatus = Field(examples=["running"])
    message: str = Field(examples=["Hello {name|there}, we open at nine."])
    device_id: int | str | list[int] | None = Field(examples=["active"])
    sim_slot: int | None = Field(examples=[None])
    price: Money | None = Field(examples=[None])
    my_id: str | None = Field(examples=[None])
    callback_url: str | None = Field(examples=[None])
    validity_period: int | None = Field(examples=[None])
    rate_per_minute: int | None = Field(examples=[600])
    hours: dict[str, Any] | None = Field(examples=[None])
    start_at: Timestamp | None = Field(examples=[None])
    end_at: Timestamp | None = Field(examples=[None])
    canary: dict[str, Any] | None = Field(examples=[None])
    stop_rule: dict[str, Any] | None = Field(examples=[None])
    counts: Counts
    reasons: dict[str, int] = Field(description="Why recipients were left out", examples=[{"invalid": 12}])
    paused_by: PausedBy | None = Field(examples=[None])
    reason_code: str | None = Field(description="Why the campaign stands still", examples=[None])
    reason: str | None = Field(examples=[None])
    figures: dict[str, Any] | None = Field(description="What the reason speaks of", examples=[None])
    started_at: Timestamp | None
    finished_at: Timestamp | None = Field(examples=[None])
    recipients_deleted_at: Timestamp | None = Field(
        description="When its recipients were deleted for their age; the counts stay", examples=[None]
    )
    created_at: Timestamp
    updated_at: Timestamp


class CampaignDetail(CampaignOut, CampaignProgress):
    """A campaign with its progress by phone and by reason."""
