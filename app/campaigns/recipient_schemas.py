"""What the routes of a campaign's recipients take and answer."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from app.campaigns.schemas import CampaignOut
from app.core.envelope import Money, Timestamp
from app.core.validation import Body, Boolean, Filter, Integer, fault
from app.messages.schemas import SmsQueued

MAX_RECIPIENTS = 1_000_000
MAX_GROUPS = 1000
MAX_PER_PAGE = 200

State = Literal[
    "not_made", "waiting", "held", "given", "sent", "delivered", "failed", "cancelled", "left_out", "not_kept"
]
Header = Annotated[str, Field(max_length=255)]


class FileColumns(Body):
    """What adding a file takes from the query, and from the other fields of a form."""

    number_column: Header | None = Field(
        default=None,
        description="In a file: the column of the numbers, by its header or its position from 1; absent: found by its "
        "content",
    )
    name_column: Header | None = Field(
        default=None, description="In a file: the column of the names; absent: found by its header"
    )


class RecipientRow(BaseModel):
    """A recipient with what fills the text's placeholders."""

    number: str = Field(examples=["+12025550123"])
    name: str | None = Field(default=None, examples=["Laylo"])
    fields: dict[str, Any] | None = Field(default=None, examples=[{"city": "Tashkent"}])


# Recipients are read one by one outside of the schema; this is what it would say of them.
_ROWS: dict[str, Any] = {"items": {"anyOf": [{"type": "string"}, RecipientRow.model_json_schema()]}}


class RecipientList(Body):
    """Recipients to add: `recipients`, `group_ids` or both."""

    verbatim: ClassVar[frozenset[str]] = frozenset({"recipients"})

    group_ids: Annotated[list[Integer], Field(max_length=MAX_GROUPS)] | None = Field(
        default=None, description="Groups whose contacts are to be added"
    )
    recipients: Annotated[list[Any], Field(max_length=MAX_RECIPIENTS)] | None = Field(
        default=None,
        json_schema_extra=_ROWS,
        description="Numbers, or objects with number, name and fields",
        examples=[["+12025550123", {"number": "+12025550148", "name": "Laylo", "fields": {"city": "Tashkent"}}]],
    )

    @model_validator(mode="after")
    def _anybody(self) -> "RecipientList":
        if not self.recipients and not self.group_ids:
            raise fault("The {name} field is required when group ids is not present.", field="recipients")
        return self


class Added(BaseModel):
    """What became of the rows of one call."""

    added: int = Field(examples=[988])
    left_out: int = Field(examples=[12])
    reasons: dict[str, int] = Field(description="Why rows were left out", examples=[{"invalid": 10, "duplicate": 2}])
    columns: list[str] = Field(
        description="The fields of the campaign's recipients: placeholders of its text beside `{name}`",
        examples=[["city", "amount"]],
    )


class ListFilter(Filter):
    format: Literal["csv"] | None = Field(default=None, description="`csv` for a file with all of them")
    bom: Boolean = Field(
        default=False, description="Start the file with a byte order mark, so that Excel reads it as UTF-8"
    )


class LeftOutOut(BaseModel):
    """A row that was left out."""

    line: int | None = Field(description="In the file, or in the list, from 1", examples=[7])
    value: str = Field(description="What stands there for the number", examples=["9.98901E+11"])
    reason: str = Field(examples=["invalid"])
    sentence: str = Field(
        examples=["The spreadsheet rounded this number: its last digits are lost. Format the column as text."]
    )


class RecipientFilter(ListFilter):
    state: Literal[State, "uncertain"] | None = Field(
        default=None, description="Recipients who stand there; `uncertain` are a part of `failed`"
    )
    cursor: Integer | None = Field(default=None, description="Continue after the previous page, with its `next_cursor`")
    per_page: Annotated[Integer, Field(ge=1, le=MAX_PER_PAGE)] = Field(default=50, description="Items per page")


class RecipientOut(BaseModel):
    """A recipient and where its message stands."""

    place: int = Field(description="In the order of sending", examples=[2])
    number: str = Field(examples=["+12025550148"])
    name: str | None = Field(examples=["Laylo"])
    fields: dict[str, str] | None = Field(examples=[{"city": "Tashkent"}])
    state: State = Field(
        description="As in the campaign's `counts`; `not_kept`: its message was deleted", examples=["delivered"]
    )
    uncertain: bool = Field(description="Failed, and nobody knows whether it was sent", examples=[False])
    message_id: int | None = Field(description="Null while no message was made", examples=[1042])
    error_message: str | None = Field(examples=[None])
    sent_at: Timestamp | None
    delivered_at: Timestamp | None
    failed_at: Timestamp | None = Field(examples=[None])


class RecipientPage(BaseModel):
    """A page of recipients. With a `state` it may be short, or even empty, before the end: `next_cursor` tells."""

    data: list[RecipientOut]
    next_cursor: int | None = Field(description="`cursor` of the next page; null at the end", examples=[52])
    per_page: int = Field(examples=[50])


class TestDraft(Body):
    """Where the text goes, to see it on a phone."""

    __test__ = False  # no test of pytest's

    recipient_number: Annotated[str, Field(max_length=64)] = Field(
        description="Your own number", examples=["+12025550123"]
    )
    name: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, description="In place of the first recipient's", examples=["Laylo"]
    )
    fields: dict[str, str] | None = Field(
        default=None, description="In place of the first recipient's", examples=[{"city": "Tashkent"}]
    )


class TestSent(CampaignOut):
    """The campaign, and the message that was sent to try it, which is none of its own."""

    test: SmsQueued


class EmptyPlaceholder(BaseModel):
    """A placeholder without a default that some recipients have nothing for."""

    placeholder: str = Field(examples=["city"])
    recipients: int = Field(examples=[3])
    lines: list[int] = Field(description="The first ten", examples=[[7, 81, 302]])


class DryRunPhone(BaseModel):
    """A phone that would send."""

    id: int = Field(examples=[1])
    name: str | None = Field(examples=["Redmi 9"])
    online: bool = Field(examples=[True])
    sim_slots: list[int] = Field(description="The SIM cards that would send, from 0", examples=[[0]])
    messages_per_hour: int = Field(description="By its delay, or by what it was seen to send", examples=[1200])
    left_today: int | None = Field(
        description="Segments that its limits allow within a day from now; null without a limit", examples=[None]
    )
    left_this_month: int | None = Field(description="The same for 30 days", examples=[None])


class DryRun(BaseModel):
    """What a campaign comes to, before anything is sent."""

    recipients: int = Field(examples=[988])
    left_out: int = Field(examples=[12])
    reasons: dict[str, int] = Field(examples=[{"invalid": 10, "duplicate": 2}])
    segments: int = Field(description="Of all messages", examples=[1064])
    longest: int = Field(description="Segments of the longest message", examples=[2])
    ucs2: int = Field(description="Messages whose characters leave room for less than half", examples=[0])
    too_long: int = Field(description="Recipients whose text is too long or empty, and is not sent", examples=[0])
    example: str | None = Field(description="The first recipient's text", examples=["Hello Laylo, we open at nine."])
    price: Money = Field(description="Of all messages", examples=[98800])
    empty_placeholders: list[EmptyPlaceholder]
    devices: list[DryRunPhone]
    starts_at: Timestamp
    ends_at: Timestamp | None = Field(
        description="When the last message would leave by pace, limits, hours and rate; null where no phone may send,"
        " and beyond a year"
    )
