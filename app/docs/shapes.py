"""Schemas of the bodies that routes read by hand, for speed, and of the webhooks that the gateway posts."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from app.campaigns.schemas import CampaignOut
from app.core.bodies import CSV_TYPE, XLSX_TYPE
from app.core.envelope import Timestamp
from app.devices.schemas import DeviceOut
from app.messages.schemas import MessageOut
from app.optouts.schemas import OptOutOut

REFERENCE = "#/components/schemas/{model}"


class StatusEvent(BaseModel):
    """Posted when a message of yours was sent, delivered or cancelled, or has failed."""

    event: Literal["status"]
    data: MessageOut
    timestamp: Timestamp


class InboundMessage(MessageOut):
    """A received message; `id` is null if the account does not store them."""

    id: int | None = Field(examples=[101])  # type: ignore[assignment]  # wider


class IncomingEvent(BaseModel):
    """Posted when a phone received an SMS."""

    event: Literal["incoming"]
    data: InboundMessage
    timestamp: Timestamp


class DeviceEvent(BaseModel):
    """Posted when a phone went offline, fails or went quiet, and when it recovered."""

    event: Literal["device"]
    data: DeviceOut
    timestamp: Timestamp


class OptedOutEvent(BaseModel):
    """Posted when a number opted out by a keyword."""

    event: Literal["opted_out"]
    data: OptOutOut
    timestamp: Timestamp


class OptedInEvent(BaseModel):
    """Posted when a number opted in again; `data` is the opt-out that there was."""

    event: Literal["opted_in"]
    data: OptOutOut
    timestamp: Timestamp


class CampaignEvent(BaseModel):
    """Posted when a campaign paused by itself, or finished."""

    event: Literal["campaign"]
    data: CampaignOut
    timestamp: Timestamp


_POSTED = (StatusEvent, IncomingEvent, DeviceEvent, OptedOutEvent, OptedInEvent, CampaignEvent)


def schemas(bodies: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """All of them, and the bodies that routes read by hand, as components of an OpenAPI document."""
    _, asked = models_json_schema([(model, "validation") for model in bodies], ref_template=REFERENCE)
    _, posted = models_json_schema([(model, "serialization") for model in _POSTED], ref_template=REFERENCE)
    return {**asked["$defs"], **posted["$defs"]}


# What a call takes beside JSON that takes files.
FILES: dict[str, Any] = {
    CSV_TYPE: {"schema": {"type": "string"}, "example": "Name;Phone\r\nAli;+12025550123\r\nLaylo;+12025550148\r\n"},
    XLSX_TYPE: {"schema": {"contentMediaType": XLSX_TYPE}},
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {
                "file": {"contentMediaType": "application/octet-stream", "description": "A CSV or XLSX file"}
            },
        }
    },
}
