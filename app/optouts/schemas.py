"""What the routes of opt-outs take and answer."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field

from app.core.envelope import Timestamp
from app.core.validation import Body, Boolean, Filter, fault
from app.optouts.models import By
from app.optouts.words import MAX_LENGTH, folded

MAX_IMPORTED = 100_000
MAX_OWN_WORDS = 100
NUMBER_LENGTH, NOTE_LENGTH, REPLY_LENGTH = 32, 1000, 480

Note = Annotated[str, Field(max_length=NOTE_LENGTH)]
Header = Annotated[str, Field(max_length=255)]


def _word(value: str) -> str:
    if not folded(value):
        raise fault("The {name} field must contain letters or digits.")
    return value


Word = Annotated[str, Field(max_length=MAX_LENGTH), AfterValidator(_word)]
Words = Annotated[list[Word], Field(max_length=MAX_OWN_WORDS)]
# One that is a keyword itself is refused by `settings`, which knows the account's words.
Reply = Annotated[str, Field(max_length=REPLY_LENGTH)] | None


class NewOptOut(Body):
    phone_number: Annotated[str, Field(max_length=64)] = Field(examples=["+12025550123"])
    note: Note | None = Field(default=None, examples=["Asked by phone"])


class OptOutFilter(Filter):
    search: Annotated[str, Field(max_length=255)] | None = Field(
        default=None, description="Text in the number or the note"
    )
    by: Literal["STOP", "owner", "import"] | None = Field(default=None, description="Whose word it was")


class OptOutExport(OptOutFilter):
    bom: Boolean = Field(
        default=False, description="Start the file with a byte order mark, so that Excel reads it as UTF-8"
    )


class OptOutOut(BaseModel):
    """A number that gets nothing more."""

    id: int = Field(examples=[4])
    phone_number: str = Field(examples=["+12025550123"])
    by: By = Field(description="`STOP`: the number itself, by a keyword; `owner`; `import`", examples=["STOP"])
    keyword: str | None = Field(description="What was written", examples=["Stop"])
    message_id: int | None = Field(description="The received message; null if it is not stored", examples=[101])
    since: Timestamp
    note: str | None = Field(examples=[None])


class OptOutRow(BaseModel):
    """A number to add."""

    phone_number: Annotated[str, Field(max_length=64)] = Field(examples=["+12025550123"])
    note: Note | None = None


# Rows are checked one by one outside of the schema, for speed; this is what it would say of them.
ROWS: dict[str, Any] = {"items": OptOutRow.model_json_schema(), "minItems": 1, "maxItems": MAX_IMPORTED}


class OptOutImport(Body):
    """Numbers that have opted out elsewhere."""

    verbatim: ClassVar[frozenset[str]] = frozenset()

    opt_outs: list[Any] = Field(
        json_schema_extra=ROWS,
        description="Up to 100,000 objects with number and note, or numbers alone",
        examples=[[{"phone_number": "+12025550123", "note": "From the old list"}]],
    )


class OptOutFileImport(Body):
    """What an import of a file takes from the query, and from the other fields of a form."""

    phone_number_column: Header | None = Field(
        default=None,
        description="In a file: the column of the numbers, by its header or its position from 1; absent: found by its "
        "content",
    )
    note_column: Header | None = Field(
        default=None, description="In a file: the column of the notes; absent: found by its header"
    )


class SkippedOptOut(BaseModel):
    """A row that was skipped, and why: its index in the request, or its line in a file."""

    index: int = Field(examples=[4])
    reason: str = Field(examples=["The phone number is empty."])
    reason_code: str = Field(description="`empty`, `invalid`, `duplicate` or `too_long`", examples=["empty"])


class OptOutsImported(BaseModel):
    """`added` numbers are new; `known` had opted out before; `skipped` rows have no usable number or are duplicates.

    `skipped_rows` lists the first 10,000 of them.
    """

    added: int = Field(examples=[42])
    known: int = Field(examples=[3])
    skipped: int = Field(examples=[1])
    skipped_rows: list[SkippedOptOut]


class OptOutSettingsChange(Body):
    """Settings to change; null restores the default."""

    verbatim: ClassVar[frozenset[str]] = frozenset({"opt_out_reply", "opt_in_reply", "help_reply"})

    keywords: Boolean = Field(
        default=True, description="Whether received keywords count at all, the built-in ones and your own"
    )
    opt_out_words: Words = Field(
        default=[], description="Texts that opt out, besides the built-in ones", examples=[["Basta", "No more"]]
    )
    opt_in_words: Words | None = Field(
        default=None,
        description="Texts that take it back, in place of the built-in ones (`START`, `UNSTOP`, `YES` and others);"
        " `[]`: none; null: the built-in ones",
    )
    opt_out_reply: Reply = Field(
        default=None,
        description="Sent to who opts out by a keyword; null: nothing is sent. A number gets at most one of these"
        " three texts in 24 hours",
        examples=["You will get no more messages from us. Reply START to get them again."],
    )
    opt_in_reply: Reply = Field(default=None, description="Sent to who opts in again by a keyword")
    help_reply: Reply = Field(default=None, description="Sent to who writes `HELP`, `INFO` or the like")
    events: Boolean = Field(
        default=False, description="Send the events `opted_out` and `opted_in` to the incoming webhook"
    )


class OptOutSettingsOut(BaseModel):
    keywords: bool = Field(examples=[True])
    opt_out_words: list[str] = Field(examples=[["Basta"]])
    opt_in_words: list[str] | None = Field(examples=[None])
    opt_out_reply: str | None
    opt_in_reply: str | None
    help_reply: str | None
    events: bool = Field(examples=[False])
