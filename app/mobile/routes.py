"""The phone protocol of the stock Android app, apart from its hot calls (`calls`)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.accounts.auth import can
from app.accounts.principals import Principal
from app.core.dependencies import SessionDep
from app.core.errors import Forbidden, Unauthenticated
from app.core.links import EXAMPLE_URL, base_url
from app.core.refusals import ENROLLING_TOO_FAST, OTHER_DEVICE, TOO_MANY_PHONES, refuses
from app.devices import enrolling, presence, sims, versions
from app.devices.models import Device
from app.messages.dispatch import handout
from app.mobile.wire import PhoneMessage, PhoneReport

router = APIRouter(prefix="/api/mobile/v1", tags=["Phones"])
# What `calls` answers, for the documents.
described = APIRouter(prefix="/api/mobile/v1", tags=["Phones"])
EVENT = "event: MessageEnqueued\ndata: null\n\n"


def enroller(principal: Annotated[Principal, Depends(can("phone:enroll"))]) -> Principal:
    enrolling.admit(principal)
    return principal


Enroller = Annotated[Principal, Depends(enroller)]


_bearer = HTTPBearer(
    scheme_name="device", auto_error=False, description="The token that a phone received when it was enrolled"
)
DeviceToken = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def current_device(session: SessionDep, request: Request, token: DeviceToken) -> Device:
    """The phone whose token the request carries, seen now."""
    if token is None:
        raise Unauthenticated
    device = enrolling.device_by_token(session, token.credentials.strip())
    presence.mark_seen(session, [device.id])
    _learn_version(device, request)
    return device


def _learn_version(device: Device, request: Request) -> None:
    told = versions.from_user_agent(request.headers.get("user-agent"))
    if told is not None and told != device.app_version:
        device.app_version = told


CurrentDevice = Annotated[Device, Depends(current_device)]


class _FromPhone(BaseModel):
    model_config = ConfigDict(extra="ignore")


class PhoneRegistration(_FromPhone):
    """A phone to enroll."""

    name: Annotated[str, Field(min_length=1, max_length=128)] = Field(examples=["google/panther"])
    push_token: Annotated[str | None, Field(alias="pushToken", max_length=256)] = None
    sim_cards: Annotated[list[sims.Card], BeforeValidator(sims.read), Field(alias="simCards")] = Field(
        default=[], examples=[[{"slotIndex": 0, "simNumber": 1, "phoneNumber": "********4567"}]]
    )


class PhoneRenewal(_FromPhone):
    """A phone's current SIM cards and push token."""

    id: str = Field(examples=["Zk3vQ0aP8mT1xY7nB5cR2"])
    push_token: Annotated[str | None, Field(alias="pushToken", max_length=256)] = None
    sim_cards: Annotated[list[sims.Card] | None, BeforeValidator(sims.read), Field(alias="simCards")] = None


class PhoneEnrolled(BaseModel):
    """What the app keeps of its registration; it shows `login` to its user."""

    id: str = Field(examples=["Zk3vQ0aP8mT1xY7nB5cR2"])
    token: str = Field(examples=["10|pQ3kV9sLw2ZtYb7RmXcJ5uN1aHdG8eFoT4iKqCvB6xA"])
    login: str = Field(examples=["Zk3vQ0aP8mT1xY7nB5cR2"])


class PhoneAddress(BaseModel):
    externalIp: str = Field(examples=["203.0.113.7"])  # noqa: N815 - as the app spells it


class PhoneWebhook(BaseModel):
    """Where the phone posts one kind of event."""

    id: str = Field(examples=["Zk3vQ0aP8mT1xY7nB5cR2-sms:received"])
    deviceId: None = None  # noqa: N815
    url: str = Field(examples=[f"{EXAMPLE_URL}/hooks/Xc9TqL2vR7kB4mN8wZ1sP"])
    event: str = Field(examples=["sms:received"])


Period = Literal["Disabled", "PerMinute", "PerHour", "PerDay"]


class PhoneSending(BaseModel):
    send_interval_min: int = Field(examples=[5])
    send_interval_max: int = Field(examples=[5])
    limit_period: Period
    limit_value: int | None = Field(examples=[200])
    processing_order: Literal["FIFO"] = "FIFO"
    # Switched on, an app of 1.69 or later keeps until morning what it was given in the evening, a login code too.
    work_hours_enabled: Literal[False] = False


class PhoneSigning(BaseModel):
    signing_key: str = Field(examples=["q7Tz1LmX"])


class PhoneSettings(BaseModel):
    """Settings that the app applies. It would reset a section that is null, so none is."""

    messages: PhoneSending
    webhooks: PhoneSigning


@router.post(
    "/device",
    status_code=201,
    summary="Enroll the phone",
    responses={**refuses(422, TOO_MANY_PHONES, limit=200), **refuses(429, ENROLLING_TOO_FAST, limit=30)},
)
def register(session: SessionDep, user: Enroller, body: PhoneRegistration, request: Request) -> PhoneEnrolled:
    """Enroll the phone with a private token."""
    device, token = enrolling.enroll(session, user, body.name, body.sim_cards, body.push_token)
    handout.never_repeat(session, user.user_id, device.id)
    _learn_version(device, request)
    return PhoneEnrolled(id=device.device_id, token=token, login=device.device_id)


@router.patch("/device", status_code=204, summary="Renew the registration", responses=refuses(403, OTHER_DEVICE))
def renew(session: SessionDep, device: CurrentDevice, body: PhoneRenewal) -> Response:
    """Update the registration, at each start of the app."""
    if body.id != device.device_id:
        raise Forbidden(OTHER_DEVICE)
    enrolling.renew(session, device, body.sim_cards, body.push_token)
    return Response(status_code=204)


@router.get("/device", summary="Show the phone's address")
def show(request: Request) -> PhoneAddress:
    """Show the phone's public address, for the app's local server screen."""
    return PhoneAddress(externalIp=request.client.host if request.client else "")


@router.post("/inbox", status_code=201, response_class=Response)
def take_inbox(_: CurrentDevice) -> Response:
    """Accepted and not stored: the app's encrypted copy of its inbox. Received messages come by webhook."""
    return Response(status_code=201)


@router.get("/webhooks", summary="List the phone's webhooks")
def webhooks(device: CurrentDevice, request: Request) -> list[PhoneWebhook]:
    """List where the phone posts received messages. Each address has the phone's own secret; ids never change."""
    if device.awaits_approval:
        # It learns them when its owner switches it on; until then nobody hears of what it receives.
        return []
    url = f"{base_url(request.scope)}/hooks/{device.hook_secret}"
    return [
        PhoneWebhook(id=f"{device.device_id}-{event}", url=url, event=event)
        for event in versions.hook_events(device.app_version)
    ]


@router.get("/settings", summary="Show the phone's settings")
def settings(device: CurrentDevice) -> PhoneSettings:
    """Show the settings that the app applies: pace, limit, order, and the key that signs its webhooks."""
    period, value = _limit(device.limits)
    sending = PhoneSending(
        send_interval_min=device.send_delay_seconds,
        send_interval_max=device.send_delay_seconds + device.send_delay_spread_seconds,
        limit_period=period,
        limit_value=value,
    )
    return PhoneSettings(messages=sending, webhooks=PhoneSigning(signing_key=device.signing_key))


_LIMIT_PERIODS: dict[str, Period] = {"per_minute": "PerMinute", "per_hour": "PerHour", "per_day": "PerDay"}


def _limit(limits: Mapping[str, Any]) -> tuple[Period, int | None]:
    """The app keeps one limit, in messages: the shortest of the phone's. Ours, in segments, are never looser."""
    name = next((name for name in _LIMIT_PERIODS if limits.get(name)), None)
    return (_LIMIT_PERIODS[name], limits[name]) if name else ("Disabled", None)


def _bad_request(description: str) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Refusal"}
    return {400: {"description": description, "content": {"application/json": {"schema": schema}}}}


Order = Annotated[
    Literal["lifo", "fifo"], Query(description="Accepted and ignored: single messages always come before bulk")
]


@described.get(
    "/message",
    summary="Pull messages",
    dependencies=[Depends(_bearer)],
    response_description="Messages to send",
    responses=_bad_request("Unknown order"),
)
def pull(order: Order = "lifo") -> list[PhoneMessage]:
    """Messages to send now, within the phone's pace. Repeated until the phone reports them."""
    raise NotImplementedError


@described.patch(
    "/message",
    status_code=204,
    summary="Report messages",
    dependencies=[Depends(_bearer)],
    response_description="Accepted",
    responses=_bad_request("The body is not a list of reports"),
)
def report(body: list[PhoneReport]) -> None:
    """Report the results of messages. Reports may be late, repeated or out of order; unknown ids are ignored."""
    raise NotImplementedError


@described.get(
    "/events",
    summary="Event stream",
    dependencies=[Depends(_bearer)],
    response_class=StreamingResponse,
    response_description="The stream",
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENT}}}},
)
def events() -> None:
    """Server-sent events that wake the phone: `MessageEnqueued`, `WebhooksUpdated`, `SettingsUpdated`,
    `MessageCancelled`. Stays open.
    """
    raise NotImplementedError
