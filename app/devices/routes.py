"""Phones as their owner sees them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from app.accounts.auth import can
from app.accounts.principals import Principal, hold
from app.core.dependencies import SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.links import base_url
from app.core.refusals import NOT_FOUND, refuses
from app.devices import figures, invitation, ownership
from app.devices.figures import DeviceStats
from app.devices.schemas import DefaultDevice, DefaultDeviceOut, DeviceChange, DeviceOut, Enrollment

router = APIRouter(prefix="/api", tags=["Devices"])

# What an answer's `message` says.
PRIVATE_TOKEN_CREATED = "Private token created. Copy it now — it will not be shown again."  # noqa: S105 - a sentence
DEFAULT_DEVICE_UPDATED = "Default device updated successfully"
DEVICE_UPDATED = "Device updated successfully"
DEVICE_DELETED = "Device deleted successfully"

DeviceId = Annotated[
    str,
    Path(
        description="The phone's number, or its own string `device_id`",
        examples=["5"],
        json_schema_extra={"model": ownership.MODEL},
    ),
]
Owner = Annotated[Principal, Depends(can("devices"))]


def device_of(session: SessionDep, user: Owner, device_id: DeviceId) -> int:
    return ownership.find(session, user.user_id, device_id)


OwnDevice = Annotated[int, Depends(device_of)]


@router.get("/devices")
def list_devices(session: SessionDep, user: Owner) -> Envelope[list[DeviceOut]]:
    """List your phones."""
    return Envelope(data=ownership.shown(session, user.user_id))


@router.post("/devices/enrollment", status_code=201, response_description=PRIVATE_TOKEN_CREATED)
def invite_phone(session: SessionDep, user: Owner, request: Request) -> MessageEnvelope[Enrollment]:
    """Create a private token, and show what to type into the app on a new phone. The token is shown only once."""
    hold(session, user)
    # It does not outlive the API key that asks for it.
    end = user.expires_at if user.kind == "key" else None
    data = invitation.invite(session, user.user_id, base_url(request.scope), end)
    return MessageEnvelope(data=data, message=PRIVATE_TOKEN_CREATED)


@router.post(
    "/devices/default-device",
    response_description=DEFAULT_DEVICE_UPDATED,
    responses=refuses(404, NOT_FOUND, model=ownership.MODEL),
)
def set_default_device(session: SessionDep, user: Owner, body: DefaultDevice) -> MessageEnvelope[DefaultDeviceOut]:
    """Choose the phone that sends when a request does not name one."""
    device = ownership.find(session, user.user_id, body.device_id)
    name = ownership.make_default(session, user.user_id, device)
    return MessageEnvelope(data=DefaultDeviceOut(id=device, device_name=name), message=DEFAULT_DEVICE_UPDATED)


@router.get("/devices/{device_id}")
def show_device(session: SessionDep, device: OwnDevice) -> Envelope[DeviceOut]:
    """Show one phone."""
    return Envelope(data=ownership.show(session, device))


@router.get("/devices/{device_id}/stats")
def show_device_stats(session: SessionDep, device: OwnDevice) -> Envelope[DeviceStats]:
    """Show figures of a phone and its SIM cards: today, the last 7 and the last 30 days."""
    return Envelope(data=figures.of_device(session, device))


@router.put("/devices/{device_id}", response_description=DEVICE_UPDATED)
@router.patch("/devices/{device_id}", summary="Change device (PATCH)", response_description=DEVICE_UPDATED)
def change_device(
    session: SessionDep, user: Owner, device: OwnDevice, body: DeviceChange
) -> MessageEnvelope[DeviceOut]:
    """Change the given settings of a phone. A new pace reaches the app at once."""
    ownership.change(session, user.user_id, device, ownership.columns(body, user.default_region))
    return MessageEnvelope(data=ownership.show(session, device), message=DEVICE_UPDATED)


@router.delete("/devices/{device_id}", response_description=DEVICE_DELETED)
def remove_device(session: SessionDep, user: Owner, device: OwnDevice) -> Done:
    """Remove a phone: its token is revoked at once, and messages it has not been given move to other phones.

    The private token it was enrolled with can no longer enroll phones, since the phone may have kept it.
    """
    ownership.remove(session, user.user_id, device)
    return Done(message=DEVICE_DELETED)
