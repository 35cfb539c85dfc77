"""Schemas of what the routes read or write by hand, for speed, and of the webhooks that the gateway posts."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from app.contacts.schemas import MOST_IMPORTED, Import, Name, Notes, Number
from app.core.envelope import Timestamp
from app.messages.accepting.bulk import MOST_RECIPIENTS
from app.messages.schemas import BulkDraft, MessageOut, SmsDraft

REFERENCE = "#/components/schemas/{model}"


class Recipient(BaseModel):
    """A recipient by number, with the name that `{name}` in the message becomes."""

    number: str
    name: str | None = None


class BulkRequest(BulkDraft):
    """One text to many recipients: `recipients`, `group_ids`, or both."""

    recipients: Annotated[list[str | Recipient], Field(min_length=1, max_length=MOST_RECIPIENTS)] | None = None


class SmsRequest(SmsDraft):
    """One SMS."""


class ImportRow(BaseModel):
    """A contact to add or to update."""

    phone_number: Number | None = None
    name: Name | None = None
    email: Annotated[str, Field(max_length=255)] | None = None
    notes: Notes | None = None


class ImportRequest(Import):
    """Contacts to add or update, and the group to put them into."""

    contacts: Annotated[list[ImportRow], Field(min_length=1, max_length=MOST_IMPORTED)]


class StatusEvent(BaseModel):
    """What is posted when a message of yours was sent, delivered, cancelled, or has failed."""

    event: Literal["status"]
    data: MessageOut
    timestamp: Timestamp


class InboundMessage(MessageOut):
    """A received message; `id` is null where the account does not keep them."""

    id: int | None  # type: ignore[assignment]  # wider


class IncomingEvent(BaseModel):
    """What is posted when a phone received an SMS."""

    event: Literal["incoming"]
    data: InboundMessage
    timestamp: Timestamp


class PhoneText(BaseModel):
    text: str


class PhoneMessage(BaseModel):
    """A message as the phone app reads it; dates have three digits behind the second."""

    id: str
    message: str
    textMessage: PhoneText  # noqa: N815 - as the app spells it
    phoneNumbers: list[str]  # noqa: N815
    simNumber: int  # noqa: N815
    withDeliveryReport: bool  # noqa: N815
    isEncrypted: bool  # noqa: N815
    priority: int
    validUntil: str  # noqa: N815
    scheduleAt: str | None  # noqa: N815
    state: Literal["Pending", "Cancelling"]
    createdAt: str  # noqa: N815


class PhoneRecipient(BaseModel):
    phoneNumber: str  # noqa: N815
    state: str
    error: str | None = None


class PhoneReport(BaseModel):
    """What became of a message on the phone."""

    id: str
    state: str
    recipients: list[PhoneRecipient]
    states: dict[str, str] | None = None


_ASKED = (SmsRequest, BulkRequest, ImportRequest, PhoneReport)
_TOLD = (StatusEvent, IncomingEvent, PhoneMessage)


def schemas() -> dict[str, Any]:
    """All of them, as components of an OpenAPI document."""
    _, asked = models_json_schema([(model, "validation") for model in _ASKED], ref_template=REFERENCE)
    _, told = models_json_schema([(model, "serialization") for model in _TOLD], ref_template=REFERENCE)
    return {**asked["$defs"], **told["$defs"]}
