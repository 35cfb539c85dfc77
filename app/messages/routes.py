"""Sends and messages in the public API."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from app.accounts import account
from app.accounts.auth import Principal, can, can_alone, hold, require
from app.core.database import SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.pages import PagingDep
from app.core.security import bearer, parse_token
from app.core.validation import large
from app.messages import attachments, queries
from app.messages.accepting import bulk, intake
from app.messages.accepting.idempotency import IdempotencyKey, checked
from app.messages.life import cancelling, editing, retrying, timeline, transitions
from app.messages.life.transitions import Change
from app.messages.lookup import find
from app.messages.queries import MessageFilter, MessagePage
from app.messages.schemas import (
    BulkDraft,
    BulkQueued,
    DeliveryStats,
    MessageWhole,
    SmsChange,
    SmsDraft,
    SmsQueued,
    StatusOut,
)
from app.messages.states import Event, Status

router = APIRouter(prefix="/api", tags=["SMS"])

Reader = Annotated[Principal, Depends(can("sms:read"))]
Sender = Annotated[Principal, Depends(can("sms:send"))]
SenderAlone = Annotated[Principal, Depends(can_alone("sms:send"))]
Wanted = Annotated[MessageFilter, Query()]


@router.post("/sms", status_code=201, dependencies=[Depends(can("sms:send"))])
def send(
    session: SessionDep, request: Request, draft: SmsDraft, idempotency_key: IdempotencyKey = None
) -> MessageEnvelope[SmsQueued]:
    """Send one SMS."""
    # Behind `accepting.sending`, which answers this call in a transaction shared with others, this is never reached.
    item = intake.Send(
        credentials=parse_token(bearer(request.headers.get("authorization")) or ""),
        draft=draft,
        idempotency_key=checked(idempotency_key),
        request_hash=hashlib.sha256(request.state.raw_body).digest(),
    )
    return MessageEnvelope(data=SmsQueued(**intake.accept_one(session, item)), message="SMS queued for sending")


def bulk_sender(user: SenderAlone, idempotency_key: IdempotencyKey = None) -> Principal:
    # With a key it may be one that was accepted while the plan had the feature; `bulk.send` knows.
    if not idempotency_key:
        require(user, "sms:send", "bulk")
    return user


@router.post("/sms/bulk", status_code=201, responses={201: {"model": BulkQueued}})
async def send_bulk(
    user: Annotated[Principal, Depends(bulk_sender)],
    request: Request,
    draft: Annotated[BulkDraft, Depends(large(BulkDraft))],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send one text to up to 100,000 recipients.

    Needs the plan's feature `bulk`.
    """

    def work() -> bytes:
        return bulk.send(user, draft, idempotency_key, hashlib.sha256(request.state.raw_body).digest())

    return Response(await request.state.heavy.run(work), 201, media_type="application/json")


@router.get("/sms")
def list_messages(session: SessionDep, user: Reader, paging: PagingDep, wanted: Wanted) -> Envelope[MessagePage]:
    """Your messages, newest first."""
    return Envelope(data=queries.page(session, user, wanted, paging))


@router.get("/sms/outbox")
def outbox(session: SessionDep, user: Reader, paging: PagingDep, wanted: Wanted) -> Envelope[MessagePage]:
    """What you sent, newest first."""
    wanted = wanted.model_copy(update={"direction": "outbound"})
    return Envelope(data=queries.page(session, user, wanted, paging))


@router.get("/sms/inbox")
def inbox(session: SessionDep, user: Reader, paging: PagingDep, wanted: Wanted) -> Envelope[MessagePage]:
    """What your phones received, newest first."""
    wanted = wanted.model_copy(update={"direction": "inbound"})
    return Envelope(data=queries.page(session, user, wanted, paging))


@router.get("/sms/delivery-stats")
def delivery_stats(session: SessionDep, user: Reader) -> MessageEnvelope[DeliveryStats]:
    """How much was sent, delivered and failed today, this week (from Monday) and this month, in UTC."""
    stats = DeliveryStats.model_validate(account.delivery_stats(session, user.user_id))
    return MessageEnvelope(data=stats, message="Delivery statistics retrieved successfully")


def message_of_reader(session: SessionDep, user: Reader, message: str) -> dict[str, Any]:
    return find(session, user.user_id, message)


def message_of_sender(session: SessionDep, user: Sender, message: str) -> dict[str, Any]:
    return find(session, user.user_id, message)


ReadMessage = Annotated[dict[str, Any], Depends(message_of_reader)]
SentMessage = Annotated[dict[str, Any], Depends(message_of_sender)]


@router.get("/sms/{message}")
def show(session: SessionDep, row: ReadMessage) -> Envelope[MessageWhole]:
    """One message, by its number or its UUID."""
    return Envelope(data=MessageWhole.model_validate(row | {"attachments": attachments.whole(session, row)}))


@router.put("/sms/{message}")
@router.patch("/sms/{message}")
def change(session: SessionDep, row: SentMessage, body: SmsChange) -> MessageEnvelope[StatusOut]:
    """Report what became of a message. A status never moves backwards: the answer tells the one it has."""
    status = editing.change(session, row, body)
    return MessageEnvelope(data=StatusOut(id=row["id"], status=status), message="SMS updated successfully")


@router.delete("/sms/{message}")
def delete(session: SessionDep, user: Sender, row: SentMessage) -> Done:
    """Delete a message. One that no phone was given is withdrawn too; figures keep what was counted.

    A received one also needs the ability `sms:read`.
    """
    if row["direction"] == "inbound":
        require(user, "sms:read")
    transitions.apply(session, [Change(row["id"], Event.DELETED)])
    return Done(message="SMS deleted successfully")


@router.post("/sms/{message}/cancel")
async def cancel(user: SenderAlone, message: str) -> MessageEnvelope[StatusOut]:
    """Cancel a message. A phone that has it already is asked for it, and has three seconds to give it back."""
    number = await cancelling.cancel(user.user_id, message)
    return MessageEnvelope(data=StatusOut(id=number, status=Status.CANCELLED), message="SMS cancelled successfully")


@router.post("/sms/{message}/retry")
def retry(session: SessionDep, user: Sender, row: SentMessage) -> MessageEnvelope[StatusOut]:
    """Send a failed message again, knowingly: where nobody knows whether it left, it may arrive twice."""
    hold(session, user)
    retrying.retry(session, row)
    return MessageEnvelope(data=StatusOut(id=row["id"], status=Status.PENDING), message="SMS queued for sending again")


@router.get("/sms/{message}/timeline")
def show_timeline(session: SessionDep, row: ReadMessage) -> Envelope[timeline.Timeline]:
    """Every stage of a message with its time and phone, its webhooks, and why it is not sent yet."""
    return Envelope(data=timeline.of(session, row))
