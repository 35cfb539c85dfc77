"""The sample that `POST /api/webhooks/test` sends, and what came back."""

from datetime import UTC, datetime
from uuid import uuid4

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import places
from app.core.envelope import timestamp
from app.core.errors import Refused
from app.core.refusals import NO_WEBHOOK_URL
from app.core.throttling import hit
from app.webhooks.claims import Call
from app.webhooks.client import guarded_session
from app.webhooks.guard import origin_of
from app.webhooks.outbox import AccountHook, body_of
from app.webhooks.sender import post
from app.webhooks.signing import ensure_secrets

# In a minute, of one account over all processes.
MAX_TESTS = 10

_URLS = text("SELECT hook, url FROM webhook_urls WHERE user_id = :user ORDER BY hook = :hook DESC, hook DESC")


class WebhookTestOut(BaseModel):
    """The response to the sample."""

    delivered: bool = Field(description="Whether the receiver accepted it", examples=[True])
    url: str = Field(examples=["https://app.example/sms/status"])
    webhook_id: str = Field(examples=["5b0c2a52-77e4-4a5e-9d57-2f6f1f0c9a11"])
    status: int | None = Field(description="HTTP status; null if there was no response", examples=[200])
    answer: str | None = Field(description="The first KiB of the response", examples=["ok"])
    error: str | None = Field(examples=[None])
    duration_ms: int = Field(examples=[84])


def prepare(session: Session, user_id: int, hook: AccountHook | None) -> Call:
    """A call with a sample for the user's URL of `hook`, or the one that is set. Raises `Refused` where none is.

    A disabled URL may be tried, so that its owner can see whether it works again.
    """
    hit("webhook-test", str(user_id), MAX_TESTS)
    urls = session.execute(_URLS, {"user": user_id, "hook": hook}).all()
    if not urls or (hook is not None and urls[0].hook != hook):
        raise Refused(NO_WEBHOOK_URL)
    found, url = urls[0]
    moment = timestamp(datetime.now(UTC))
    secrets = ensure_secrets(session, [user_id])[user_id]
    body = body_of(found, _sample(found, moment), moment)
    return Call(0, uuid4(), uuid4(), user_id, found, url, origin_of(url), body, 0, secrets)


async def send(call: Call) -> WebhookTestOut:
    """Post the sample, once, under the same guard and limits as any webhook."""
    places.leave()
    async with guarded_session() as session:
        result = await post(session, call)
    return WebhookTestOut(
        delivered=result.accepted,
        url=call.url,
        webhook_id=str(call.webhook_id),
        status=result.status_code,
        answer=result.answer,
        error=result.error,
        duration_ms=result.duration_ms,
    )


def _sample(hook: AccountHook, moment: str) -> dict[str, object]:
    outbound = hook == "status"
    return {
        "id": None,
        "message_id": str(uuid4()),
        "my_id": None,
        "device_id": None,
        "recipient_number": "+15550100001" if outbound else None,
        "sender_number": None if outbound else "+15550100001",
        "message": "This is a test from smsfleet.",
        "direction": "outbound" if outbound else "inbound",
        "status": "delivered" if outbound else "received",
        "price": 0,
        "is_charged": False,
        "sim_slot": None,
        "segments": 1,
        "encoding": "gsm7",
        "uncertain": False,
        "callback_url": None,
        "error_message": None,
        "kind": "sms",
        "attachments": [],
        "scheduled_at": None,
        "sent_at": moment if outbound else None,
        "delivered_at": moment if outbound else None,
        "received_at": None if outbound else moment,
        "created_at": moment,
        "updated_at": moment,
        "test": True,
    }
