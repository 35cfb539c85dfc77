"""Webhooks: URLs, the signing secret, what became of every delivery, replays, and a test."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.accounts.auth import Principal, can, can_alone, hold
from app.core.database import SessionDep, transaction
from app.core.envelope import Envelope, MessageEnvelope, Timestamp
from app.core.errors import Invalid
from app.core.pages import PagingDep
from app.core.throttling import hit
from app.core.validation import Body, Filter, Moment, row_id
from app.webhooks import history, signing, trial, urls
from app.webhooks.claims import Call
from app.webhooks.guard import WebhookUrl
from app.webhooks.history import DeliveryPage, DeliveryWhole, State
from app.webhooks.outbox import AccountHook, EventName
from app.webhooks.trial import TrialOut
from app.webhooks.urls import WebhooksChanged, WebhooksOut

# In a minute, of one account over all processes.
MAX_TESTS = 10
MAX_REPLAYS = 120
MAX_REPLAYS_OF_MANY = 10

router = APIRouter(prefix="/api/webhooks", tags=["Webhooks"])

Reader = Annotated[Principal, Depends(can("webhooks"))]
Owner = Annotated[Principal, Depends(can("webhooks", "webhooks"))]
OwnerAlone = Annotated[Principal, Depends(can_alone("webhooks", "webhooks"))]


class WebhooksChange(Body):
    webhook_url_incoming: WebhookUrl | None = None
    webhook_url_status: WebhookUrl | None = None


class SecretOut(BaseModel):
    """`previous_valid_until` is set for a day after a rotation: until then a previous secret signs too."""

    secret: str
    previous_valid_until: Timestamp | None


class ReplayRange(Body):
    since: Moment = Field(alias="from")
    until: Moment | None = Field(default=None, alias="to")


class Replayed(BaseModel):
    replayed: int


class TrialRequest(Body):
    event: AccountHook | None = None


@router.get("")
def show_webhooks(session: SessionDep, user: Reader) -> Envelope[WebhooksOut]:
    """Your webhook URLs, and whether one was switched off because its receiver failed for days."""
    return Envelope(data=urls.shown(session, user.user_id))


@router.put("")
@router.patch("")
def change_webhooks(session: SessionDep, user: Owner, body: WebhooksChange) -> MessageEnvelope[WebhooksChanged]:
    """Set or, with null, remove the URLs that the request names. Setting one that was switched off enables it."""
    names: dict[str, AccountHook] = {"webhook_url_incoming": "incoming", "webhook_url_status": "status"}
    given = {names[name]: url for name, url in body.given().items()}
    hold(session, user)
    return MessageEnvelope(data=urls.change(session, user.user_id, given), message="Webhooks updated successfully")


@router.get("/secret")
def show_secret(session: SessionDep, user: Reader) -> Envelope[SecretOut]:
    """The secret that your webhooks are signed with."""
    hold(session, user)  # one that is made here must not become known to who has the account no longer
    return Envelope(data=_secret(session, user))


@router.post("/secret")
def rotate_secret(session: SessionDep, user: Owner) -> MessageEnvelope[SecretOut]:
    """Make a new secret. For 24 hours every webhook carries the signature of the previous one as well."""
    hold(session, user)
    signing.rotate(session, user.user_id)
    return MessageEnvelope(data=_secret(session, user), message="Webhook secret rotated")


def _secret(session: Session, user: Principal) -> SecretOut:
    secret, until = signing.current(session, user.user_id)
    return SecretOut(secret=secret, previous_valid_until=until)


class DeliveryFilter(Filter):
    """Which deliveries to list; `message_id` is the message's number or its UUID."""

    state: State | None = None
    event: EventName | None = None
    url: str | None = None
    message_id: str | None = None

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
    """Deliveries, newest first, with every attempt."""
    return Envelope(data=history.page(session, user.user_id, wanted.values(), paging))


@router.get("/deliveries/{delivery_id}")
def show_delivery(session: SessionDep, user: Reader, delivery_id: str) -> Envelope[DeliveryWhole]:
    """One delivery, with the body that is posted."""
    return Envelope(data=history.show(session, user.user_id, row_id(delivery_id)))


@router.post("/deliveries/replay")
def replay_failed(session: SessionDep, user: Owner, body: ReplayRange) -> MessageEnvelope[Replayed]:
    """Post all failed deliveries made between `from` and `to` (default now) again, up to 10,000 in one call."""
    hit("webhook-replay-many", str(user.user_id), MAX_REPLAYS_OF_MANY)
    if body.until is not None and body.until < body.since:
        raise Invalid({"to": ["The to field must be a date after or equal to from."]})
    n = history.replay_failed(session, user.user_id, body.since, body.until)
    return MessageEnvelope(data=Replayed(replayed=n), message=f"Replaying {n} webhook deliveries")


@router.post("/deliveries/{delivery_id}/replay")
def replay(session: SessionDep, user: Owner, delivery_id: str) -> MessageEnvelope[DeliveryWhole]:
    """Post one delivery again, whether it failed or was accepted. It keeps its body and its `webhook-id`."""
    hit("webhook-replay", str(user.user_id), MAX_REPLAYS)
    again = history.replay(session, user.user_id, row_id(delivery_id))
    return MessageEnvelope(data=again, message="Replaying the webhook delivery")


@router.post("/test")
async def test(user: OwnerAlone, body: TrialRequest) -> MessageEnvelope[TrialOut]:
    """Send a sample to one of your URLs now, and see what came back. It is tried once."""
    call = await run_in_threadpool(_prepare, user.user_id, body.event)
    return MessageEnvelope(data=await trial.send(call), message="Test webhook sent")


def _prepare(user_id: int, hook: AccountHook | None) -> Call:
    hit("webhook-test", str(user_id), MAX_TESTS)
    with transaction() as session:
        return trial.prepare(session, user_id, hook)
