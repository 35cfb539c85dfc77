"""JSON of the phone protocol: messages as the stock app reads them, and its reports on them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from pydantic_core import to_json
from typing_extensions import TypedDict

from app.core.bodies import sanitize
from app.core.errors import BadRequest
from app.core.lanes import Lane
from app.messages.dispatch.handout import Released
from app.messages.life.reports import STATES, Report, wire_name
from app.mobile.dates import milliseconds, read_date

# The app keeps its own queue by priority; from 100 on it would ignore its delay and limits.
SINGLE_PRIORITY, BULK_PRIORITY = 50, 0
MAX_ID_LENGTH = 36
MAX_ERROR_LENGTH = 1000


class PhoneText(TypedDict):
    text: Annotated[str, Field(examples=["Your code is 4821"])]


class PhoneMessage(TypedDict):
    """A message as the phone app reads it; times have three decimals."""

    id: Annotated[str, Field(examples=["01977a5e-8f00-7c1d-9b44-3f5a6d2c7e10"])]
    # Old versions read `message`, newer ones `textMessage`.
    message: Annotated[str, Field(examples=["Your code is 4821"])]
    textMessage: PhoneText
    phoneNumbers: Annotated[list[str], Field(examples=[["+12025550123"]])]
    simNumber: Annotated[int, Field(examples=[1])]
    withDeliveryReport: Annotated[bool, Field(examples=[True])]
    isEncrypted: Annotated[bool, Field(examples=[False])]
    priority: Annotated[int, Field(examples=[50])]
    validUntil: Annotated[str, Field(examples=["2026-06-09T10:00:00.000Z"])]
    scheduleAt: Annotated[str | None, Field(examples=[None])]
    state: Literal["Pending", "Cancelling"]
    createdAt: Annotated[str, Field(examples=["2026-06-08T10:00:00.000Z"])]


class PhoneRecipient(TypedDict):
    phoneNumber: Annotated[str, Field(examples=["+12025550123"])]
    state: Annotated[str, Field(examples=["Sent"])]
    error: NotRequired[str | None]


class PhoneReport(TypedDict):
    """The result of a message on the phone."""

    id: Annotated[str, Field(examples=["01977a5e-8f00-7c1d-9b44-3f5a6d2c7e10"])]
    state: Annotated[str, Field(examples=["Sent"])]
    recipients: Annotated[list[PhoneRecipient], Field(examples=[[{"phoneNumber": "+12025550123", "state": "Sent"}]])]
    states: NotRequired[
        Annotated[
            dict[str, str] | None,
            Field(examples=[{"Processed": "2026-06-08T10:00:03.000Z", "Sent": "2026-06-08T10:00:05.000Z"}]),
        ]
    ]


def messages(released: Sequence[Released]) -> bytes:
    """The answer to a pull."""
    return to_json([_message(message) for message in released])


def _message(message: Released) -> PhoneMessage:
    return {
        "id": wire_name(message.message_id, message.attempt),
        "message": message.text,
        "textMessage": {"text": message.text},
        "phoneNumbers": [message.recipient_number],
        "simNumber": message.sim_slot + 1,
        "withDeliveryReport": True,
        "isEncrypted": False,
        "priority": SINGLE_PRIORITY if message.lane == Lane.SINGLE else BULK_PRIORITY,
        "validUntil": milliseconds(message.valid_until),
        "scheduleAt": None,
        "state": "Cancelling" if message.cancelling else "Pending",
        "createdAt": milliseconds(message.created_at),
    }


def read_reports(raw: bytes) -> list[Report]:
    """The reports in a body. Raises `BadRequest`, which names the one that is wrong."""
    value: Any = None
    # Text that cannot be stored is mended, as in hooks: the app repeats a report ten times and drops it.
    with suppress(ValueError, RecursionError):
        value = json.loads(raw.decode("utf-8", "replace"))
    if not isinstance(value, list):
        raise BadRequest("the body must be a JSON array of reports")
    items = []
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            raise BadRequest(f"{place}: a report must be an object")
        try:
            report = parse_report(item)
        except ValueError as error:
            raise BadRequest(f"{place}: {error}") from None
        if report is not None:
            items.append(report)
    return items


def parse_report(item: Mapping[str, Any]) -> Report | None:
    """A report from an item of the phone's JSON array, a `PhoneReport` or nearly; `ValueError` names what is wrong.

    None where its state is one that only a newer app has: it says nothing that we could keep. With one recipient a
    message, the recipient's state is the more exact one: a mix reads "Sent" in the aggregate.
    """
    name, state, recipients = item.get("id"), item.get("state"), item.get("recipients") or []
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_ID_LENGTH:
        raise ValueError(f"id must be a string of 1 to {MAX_ID_LENGTH} characters")
    if not isinstance(recipients, list) or not all(isinstance(recipient, dict) for recipient in recipients):
        raise ValueError("recipients must be a list of objects")
    error = None
    if len(recipients) == 1:
        state = recipients[0].get("state", state)
        error = recipients[0].get("error")
    if not isinstance(state, str):
        raise ValueError("state must be a string")  # noqa: TRY004 - as for the others
    if state not in STATES:
        return None
    history = item.get("states")
    told = history if isinstance(history, dict) else {}
    times = {key: moment for key in STATES if key in told and (moment := read_date(told[key])) is not None}
    return Report(name, state, sanitize(error[:MAX_ERROR_LENGTH]) if isinstance(error, str) else None, times)
