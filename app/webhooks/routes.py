"""Webhooks: URLs, the signing secret, what became of every delivery, replays, and a test."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.accounts.auth import can, can_alone
from app.accounts.principals import Principal, hold
from app.core.database import transaction
from app.core.dependencies import PagingDep, SessionDep
from app.core.envelope import Envelope, MessageEnvelope, Timestamp
from app.core.errors import Invalid
from app.core.refusals import DELIVERY_PENDING, DELIVERY_URL_GONE, NO_WEBHOOK_URL, refuses
from app.core.validation import Body, Filter, Moment, row_id
from app.webhooks import history, signing, trial, urls
from app.webhooks.claims import Call
from app.webhooks.guard import ValidWebhookUrl
from app.webhooks.history import DeliveryDetail, DeliveryPage, State
from app.webhooks.outbox import AccountHook, EventName
from app.webhooks.trial import WebhookTestOut
from app.webhooks.urls import WebhooksChanged, WebhooksOut

router = APIRouter(prefix="/api/webhooks", tags=["Webhooks"])

# What an answer's `message` says.
WEBHOOKS_UPDATED = "Webhooks updated successfully"
WEBHOOK_SECRET_ROTATED = "Webhook secret rotated"  # noqa: S105 - a sentence
REPLAYING_MANY = "Replaying {n} webhook deliveries"
REPLAYING = "Replaying the webhook delivery"
TEST_WEBHOOK_SENT = "Test webhook sent"

DeliveryId = Annotated[
    str, Path(description="The delivery's number", examples=["77"], json_schema_extra={"model": history.MODEL})
]
Reader = Annotated[Principal, Depends(can("webhooks"))]
Owner = Annotated[Principal, Depends(can("webhooks", "webhooks"))]
OwnerAlone = Annotated[Principal, Depends(can_alone("webhooks", "webhooks"))]


class WebhooksChange(Body):
    webhook_url_incoming: ValidWebhookUrl | None = Field(default=None, examples=["https://app.example/sms/incoming"])
    webhook_url_status: ValidWebhookUrl | None = Field(default=None, examples=["https://app.example/sms/status"])


class SecretOut(BaseModel):
    """The secret that signs webhooks."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    previous_valid_until: Timestamp | None = Field(
        description="Set for 24 hours after a rotation; until then the previous secret signs as well", examples=[None]
    )


class ReplayRange(Body):
    since: Moment = Field(
        alias="from", description="Deliveries created from this time on", examples=["2026-06-07T00:00:00Z"]
    )
    until: Moment | None = Field(
        default=None, alias="to", description="And until this time; absent: now", examples=["2026-06-08T00:00:00Z"]
    )


class Replayed(BaseModel):
    replayed: int = Field(examples=[12])


class WebhookTest(Body):
    event: AccountHook | None = Field(
        default=None, description="Which of the two URLs; absent: the one that is set", examples=["status"]
    )


@router.get("")
def show_webhooks(session: SessionDep, user: Reader) -> Envelope[WebhooksOut]:
    """Show your webhook URLs, and whether one was disabled because its receiver failed for days."""
    return Envelope(data=urls.shown(session, user.user_id))


@router.put("", response_description=WEBHOOKS_UPDATED)
@router.patch("", summary="Change webhooks (PATCH)", response_description=WEBHOOKS_UPDATED)
def change_webhooks(session: SessionDep, user: Owner, body: WebhooksChange) -> MessageEnvelope[WebhooksChanged]:
    """Set the given URLs, or remove them with null. Setting a disabled URL enables it."""
    names: dict[str, AccountHook] = {"webhook_url_incoming": "incoming", "webhook_url_status": "status"}
    given = {names[name]: url for name, url in body.given().items()}
    hold(session, user)
    return MessageEnvelope(data=urls.change(session, user.user_id, given), message=WEBHOOKS_UPDATED)


@router.get("/secret")
def show_secret(session: SessionDep, user: Reader) -> Envelope[SecretOut]:
    """Show the secret that signs your webhooks."""
    hold(session, user)  # one that is made here must not become known to who has the account no longer
    return Envelope(data=_secret(session, user))


@router.post("/secret", response_description=WEBHOOK_SECRET_ROTATED)
def rotate_secret(session: SessionDep, user: Owner) -> MessageEnvelope[SecretOut]:
    """Create a new secret. For 24 hours webhooks are signed with the previous one as well."""
    hold(session, user)
    signing.rotate(session, user.user_id)
    return MessageEnvelope(data=_secret(session, user), message=WEBHOOK_SECRET_ROTATED)


def _secret(session: Session, user: Principal) -> SecretOut:
    secret, until = signing.current(session, user.user_id)
    return SecretOut(secret=secret, previous_valid_until=until)


class DeliveryFilter(Filter):
    state: State | None = Field(default=None, description="Deliveries in this state")
    event: EventName | None = Field(default=None, description="Deliveries of this event")
    url: str | None = Field(default=None, description="Deliveries to this URL")
    message_id: str | None = Field(default=None, description="Deliveries about this message, by number or UUID")

    def values(self) -> dict[str, Any]:
        given = self.model_dump(exclude_none=True)
        message = given.pop("message_id", None)
        if message is None:
            return given
        number = row_id(message)
        if number is not None:
            return {**given, "message_id": number}
        try:
            return {**given, "message_uuid": UUID(message)}
        except ValueError:
            raise Invalid({"message_id": ["The selected message id is invalid."]}) from None


@router.get("/deliveries")
def list_deliveries(
    session: SessionDep, user: Reader, paging: PagingDep, wanted: Annotated[DeliveryFilter, Query()]
) -> Envelope[DeliveryPage]:
    """List deliveries with every attempt, newest first."""
    return Envelope(data=history.page(session, user.user_id, wanted.values(), paging))


@router.get("/deliveries/{delivery_id}")
def show_delivery(session: SessionDep, user: Reader, delivery_id: DeliveryId) -> Envelope[DeliveryDetail]:
    """Show one delivery with its body."""
    return Envelope(data=history.show(session, user.user_id, row_id(delivery_id)))


@router.post(
    "/deliveries/replay",
    summary="Replay failed deliveries",
    response_description=REPLAYING_MANY.format(n=12),
    responses=refuses(429),
)
def replay_failed(session: SessionDep, user: Owner, body: ReplayRange) -> MessageEnvelope[Replayed]:
    """Retry all failed deliveries created between `from` and `to` (default: now), up to 10,000 per call."""
    n = history.replay_failed(session, user.user_id, body.since, body.until)
    return MessageEnvelope(data=Replayed(replayed=n), message=REPLAYING_MANY.format(n=n))


@router.post(
    "/deliveries/{delivery_id}/replay",
    summary="Replay one delivery",
    response_description=REPLAYING,
    responses={**refuses(422, DELIVERY_PENDING, DELIVERY_URL_GONE), **refuses(429)},
)
def replay(session: SessionDep, user: Owner, delivery_id: DeliveryId) -> MessageEnvelope[DeliveryDetail]:
    """Post one delivery again, whether it failed or succeeded. Its body and `webhook-id` stay the same."""
    again = history.replay(session, user.user_id, row_id(delivery_id))
    return MessageEnvelope(data=again, message=REPLAYING)


@router.post(
    "/test",
    summary="Send a test webhook",
    response_description=TEST_WEBHOOK_SENT,
    responses={**refuses(422, NO_WEBHOOK_URL), **refuses(429)},
)
async def test(user: OwnerAlone, body: WebhookTest) -> MessageEnvelope[WebhookTestOut]:
    """Send a sample to one of your URLs now, once, and show the response."""
    call = await run_in_threadpool(_prepare, user.user_id, body.event)
    return MessageEnvelope(data=await trial.send(call), message=TEST_WEBHOOK_SENT)


def _prepare(user_id: int, hook: AccountHook | None) -> Call:
    with transaction() as session:
        return trial.prepare(session, user_id, hook)
