"""What contacts' routes take and answer."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from app.core.envelope import Timestamp
from app.core.validation import Body, Boolean, Email, Filter, Integer

MOST_IMPORTED = 100_000
MOST_MEMBERS_AT_ONCE = 10_000
NAME_LENGTH, NUMBER_LENGTH, EMAIL_LENGTH, NOTES_LENGTH = 255, 32, 255, 1000

Name = Annotated[str, Field(max_length=NAME_LENGTH)]
Number = Annotated[str, Field(max_length=NUMBER_LENGTH)]
Notes = Annotated[str, Field(max_length=NOTES_LENGTH)]
Ids = Annotated[list[Integer], Field(max_length=MOST_MEMBERS_AT_ONCE)]


class NewContact(Body):
    phone_number: Number
    name: Name | None = None
    email: Email | None = None
    notes: Notes | None = None
    group_ids: Ids | None = None


class ContactChange(Body):
    """What a `PUT` or `PATCH` names is changed; `group_ids` replaces the groups."""

    phone_number: Number = ""
    name: Name | None = None
    email: Email | None = None
    notes: Notes | None = None
    group_ids: Ids | None = None


class ContactFilter(Filter):
    """`search` looks into name, number, e-mail address and notes."""

    search: Annotated[str, Field(max_length=255)] | None = None
    group_id: Integer | None = None


class ExportFilter(ContactFilter):
    """`bom` puts a byte order mark in front, without which Excel takes the file for another encoding."""

    bom: Boolean = False


class GroupFilter(Filter):
    search: Annotated[str, Field(max_length=255)] | None = None


class Import(Body):
    """The body of an import. Its rows are checked one by one outside of the schema, for speed."""

    verbatim: ClassVar[frozenset[str]] = frozenset()

    contacts: list[Any]
    group_id: Integer | None = None


class SkippedRow(BaseModel):
    """A row that an import left out: its place in the request, and why."""

    index: int
    reason: str


class Imported(BaseModel):
    """`imported` were created or updated; `skipped` have no usable number, or one that came before.

    `skipped_rows` names the first 10,000 of them.
    """

    imported: int
    skipped: int
    skipped_rows: list[SkippedRow]


class GroupBrief(BaseModel):
    id: int
    name: str


class ContactOut(BaseModel):
    id: int
    name: str | None
    phone_number: str
    email: str | None
    notes: str | None
    groups: list[GroupBrief]
    created_at: Timestamp
    updated_at: Timestamp


class NewGroup(Body):
    name: Name


class GroupChange(Body):
    name: Name = ""


class GroupOut(BaseModel):
    id: int
    name: str
    contacts_count: int
    created_at: Timestamp
    updated_at: Timestamp


class Members(Body):
    """Contacts to add to a group, by id."""

    contact_ids: Annotated[Ids, Field(min_length=1)]


class MembersAdded(BaseModel):
    added: int
