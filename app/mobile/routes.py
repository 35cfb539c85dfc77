"""The phone protocol of the stock Android app, apart from its hot calls (`calls`)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.accounts.auth import Principal, can
from app.core.database import SessionDep
from app.core.errors import Forbidden, Unauthenticated
from app.core.links import base_url
from app.core.security import bearer
from app.devices import enrolling, presence, sims, versions
from app.devices.models import Device
from app.messages.dispatch import handout

router = APIRouter(prefix="/api/mobile/v1", tags=["Phones"])


def enroller(principal: Annotated[Principal, Depends(can("phone:enroll"))]) -> Principal:
    enrolling.admit(principal)
    return principal


Enroller = Annotated[Principal, Depends(enroller)]


def current_device(session: SessionDep, request: Request) -> Device:
    """The phone whose token the request carries, seen now."""
    token = bearer(request.headers.get("authorization"))
    if token is None:
        raise Unauthenticated
    device = enrolling.device_by_token(session, token)
    presence.saw(session, [device.id])
    _learn_version(device, request)
    return device


def _learn_version(device: Device, request: Request) -> None:
    told = versions.told_by(request.headers.get("user-agent"))
    if told is not None and told != device.app_version:
        device.app_version = told


CurrentDevice = Annotated[Device, Depends(current_device)]


class _FromPhone(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Registration(_FromPhone):
    """Body of `POST /device`."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    push_token: Annotated[str | None, Field(alias="pushToken", max_length=256)] = None
    sim_cards: Annotated[list[sims.Card], BeforeValidator(sims.read), Field(alias="simCards")] = []


class Renewal(_FromPhone):
    """Body of `PATCH /device`."""

    id: str
    push_token: Annotated[str | None, Field(alias="pushToken", max_length=256)] = None
    sim_cards: Annotated[list[sims.Card] | None, BeforeValidator(sims.read), Field(alias="simCards")] = None


class Enrolled(BaseModel):
    """What the app keeps of its registration; `login` is shown to its user."""

    id: str
    token: str
    login: str


class Address(BaseModel):
    externalIp: str  # noqa: N815 - as the app spells it


class Hook(BaseModel):
    """Where the phone posts one kind of event."""

    id: str
    deviceId: None = None  # noqa: N815
    url: str
    event: str


Period = Literal["Disabled", "PerMinute", "PerHour", "PerDay"]


class Sending(BaseModel):
    send_interval_min: int
    send_interval_max: int
    limit_period: Period
    limit_value: int | None
    processing_order: Literal["FIFO"] = "FIFO"
    # Switched on, an app of 1.69 or later keeps until morning what it was given in the evening, a login code too.
    work_hours_enabled: Literal[False] = False


class Signing(BaseModel):
    signing_key: str


class Pushed(BaseModel):
    """Settings that the app takes over. A section that is null would be reset, so none is."""

    messages: Sending
    webhooks: Signing


@router.post("/device", status_code=201)
def register(session: SessionDep, user: Enroller, body: Registration, request: Request) -> Enrolled:
    """Enroll the phone with a private token."""
    device, token = enrolling.enroll(session, user, body.name, body.sim_cards, body.push_token)
    handout.never_repeat(session, user.user_id, device.id)
    _learn_version(device, request)
    return Enrolled(id=device.device_id, token=token, login=device.device_id)


@router.patch("/device", status_code=204)
def renew(session: SessionDep, device: CurrentDevice, body: Renewal) -> Response:
    """Each start of the app."""
    if body.id != device.device_id:
        raise Forbidden("The id is not this device's.")
    enrolling.renew(session, device, body.sim_cards, body.push_token)
    return Response(status_code=204)


@router.get("/device")
def show(request: Request) -> Address:
    """The phone's public address, which the app shows when its local server is on."""
    return Address(externalIp=request.client.host if request.client else "")


@router.post("/inbox", status_code=201, response_class=Response)
def take_inbox(_: CurrentDevice) -> Response:
    """Taken and not kept: the app's copy of its inbox, encrypted. What the phone receives comes to its webhook."""
    return Response(status_code=201)


@router.get("/webhooks")
def webhooks(device: CurrentDevice, request: Request) -> list[Hook]:
    """Where the phone posts what it receives, by a secret of its own in the address; ids stay the same for ever."""
    if device.awaits_approval:
        # It learns them when its owner switches it on; until then nobody hears of what it receives.
        return []
    url = f"{base_url(request.scope)}/hooks/{device.hook_secret}"
    return [
        Hook(id=f"{device.device_id}-{event}", url=url, event=event)
        for event in versions.hook_events(device.app_version)
    ]


@router.get("/settings")
def settings(device: CurrentDevice) -> Pushed:
    """Settings pushed to the app: its pace and limit, its order, and the key it signs hooks with."""
    period, value = _limit(device.limits)
    sending = Sending(
        send_interval_min=device.send_delay_seconds,
        send_interval_max=device.send_delay_seconds + device.send_delay_spread_seconds,
        limit_period=period,
        limit_value=value,
    )
    return Pushed(messages=sending, webhooks=Signing(signing_key=device.signing_key))


_LIMIT_PERIODS: dict[str, Period] = {"per_minute": "PerMinute", "per_hour": "PerHour", "per_day": "PerDay"}


def _limit(limits: Mapping[str, Any]) -> tuple[Period, int | None]:
    """The app keeps one limit, in messages: the shortest of the phone's. Ours, in segments, are never looser."""
    name = next((name for name in _LIMIT_PERIODS if limits.get(name)), None)
    return (_LIMIT_PERIODS[name], limits[name]) if name else ("Disabled", None)
