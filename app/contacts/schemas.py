"""What contacts' routes take and answer."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from app.core.allowed_hours import ZoneName
from app.core.envelope import Timestamp
from app.core.validation import Body, Boolean, Email, Filter, Integer, Listed

MAX_IMPORTED = 100_000
MAX_MEMBERS = 10_000
NAME_LENGTH, NUMBER_LENGTH, EMAIL_LENGTH, NOTES_LENGTH, ZONE_LENGTH = 255, 32, 255, 1000, 64

Name = Annotated[str, Field(max_length=NAME_LENGTH)]
Number = Annotated[str, Field(max_length=NUMBER_LENGTH)]
Notes = Annotated[str, Field(max_length=NOTES_LENGTH)]
Header = Annotated[str, Field(max_length=255)]
Ids = Annotated[list[Integer], Field(max_length=MAX_MEMBERS)]


TIME_ZONE: Any = Field(default=None, description="For allowed hours; absent: told by the number")


class NewContact(Body):
    phone_number: Number = Field(examples=["+12025550123"])
    name: Name | None = Field(default=None, examples=["Ali"])
    email: Email | None = None
    notes: Notes | None = None
    time_zone: ZoneName | None = TIME_ZONE
    group_ids: Ids | None = Field(default=None, examples=[[3]])


class ContactChange(Body):
    """Fields to change; `group_ids` replaces the groups."""

    phone_number: Number = ""
    name: Name | None = Field(default=None, examples=["Ali V."])
    email: Email | None = None
    notes: Notes | None = Field(default=None, examples=[None])
    time_zone: ZoneName | None = TIME_ZONE
    group_ids: Ids | None = None


class ContactFilter(Filter):
    search: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, description="Text in name, number, e-mail address or notes"
    )
    group_id: Integer | None = Field(default=None, description="Contacts in this group")


class ExportFilter(ContactFilter):
    bom: Boolean = Field(
        default=False, description="Start the file with a byte order mark, so that Excel reads it as UTF-8"
    )


class GroupFilter(Filter):
    search: Annotated[str, Field(max_length=255)] | None = Field(default=None, description="Text in the name")


class ImportRow(BaseModel):
    """A contact to add or to update."""

    phone_number: Number | None = Field(default=None, examples=["+12025550123"])
    name: Name | None = Field(default=None, examples=["Ali"])
    email: Annotated[str, Field(max_length=EMAIL_LENGTH)] | None = None
    notes: Notes | None = None
    time_zone: Annotated[str, Field(max_length=ZONE_LENGTH)] | None = TIME_ZONE


# Rows are checked one by one outside of the schema, for speed; this is what it would say of them.
ROWS: dict[str, Any] = {"items": ImportRow.model_json_schema(), "minItems": 1, "maxItems": MAX_IMPORTED}


class ContactImport(Body):
    """Contacts to add or update, and a group to add them to."""

    verbatim: ClassVar[frozenset[str]] = frozenset()

    contacts: Listed = Field(
        json_schema_extra=ROWS,
        description="Up to 100,000; duplicates and rows without a usable number are skipped",
        examples=[
            [
                {"phone_number": "+12025550123", "name": "Ali"},
                {"phone_number": "+12025550148", "name": "Laylo", "notes": "Prefers mornings"},
            ]
        ],
    )
    group_id: Integer | None = Field(default=None, description="A group to add them to", examples=[3])


class FileImport(Body):
    """What an import of a file takes from the query, and from the other fields of a form."""

    group_id: Integer | None = Field(default=None, description="A group to add the contacts to")
    phone_number_column: Header | None = Field(
        default=None,
        description="In a file: the column of the numbers, by its header or its position from 1; absent: found by its "
        "content",
    )
    name_column: Header | None = Field(
        default=None, description="In a file: the column of the names; absent: found by its header"
    )
    email_column: Header | None = Field(
        default=None, description="In a file: the column of the e-mail addresses; absent: found by its header"
    )
    notes_column: Header | None = Field(
        default=None, description="In a file: the column of the notes; absent: found by its header"
    )
    time_zone_column: Header | None = Field(
        default=None, description="In a file: the column of the time zones; absent: found by its header"
    )


class SkippedContact(BaseModel):
    """A row that was skipped, and why: its index in the request, or its line in a file."""

    index: int = Field(examples=[4])
    reason: str = Field(examples=["The phone number is empty."])
    reason_code: str = Field(
        description="`empty`, `invalid`, `duplicate`, `too_long` or `unknown_zone`", examples=["empty"]
    )


class Imported(BaseModel):
    """`imported` rows were created or updated; `skipped` rows have no usable number or are duplicates.

    `skipped_rows` lists the first 10,000 of them.
    """

    imported: int = Field(examples=[42])
    skipped: int
    skipped_rows: list[SkippedContact]


class GroupBrief(BaseModel):
    id: int = Field(examples=[3])
    name: str = Field(examples=["Customers"])


class ContactOut(BaseModel):
    id: int = Field(examples=[12])
    name: str | None = Field(examples=["Ali"])
    phone_number: str = Field(examples=["+12025550123"])
    email: str | None = Field(examples=["ali@example.com"])
    time_zone: str | None = Field(examples=[None])
    notes: str | None = Field(examples=["Prefers mornings"])
    groups: list[GroupBrief]
    created_at: Timestamp
    updated_at: Timestamp


class NewGroup(Body):
    name: Name = Field(examples=["Customers"])


class GroupChange(Body):
    name: Name = Field(default="", examples=["Regular customers"])


class GroupOut(BaseModel):
    id: int = Field(examples=[3])
    name: str = Field(examples=["Customers"])
    contacts_count: int = Field(examples=[42])
    created_at: Timestamp
    updated_at: Timestamp


class GroupMembers(Body):
    """Contacts to add to a group, by number."""

    contact_ids: Annotated[Ids, Field(min_length=1)] = Field(examples=[[12, 13]])


class MembersAdded(BaseModel):
    added: int = Field(examples=[2])
