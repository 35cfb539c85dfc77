"""Sends and messages in the public API."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from app.accounts import account
from app.accounts.auth import can, can_alone
from app.accounts.principals import Principal, hold, require
from app.core.dependencies import Large, PagingDep, SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.refusals import (
    KEY_USED,
    NO_ACTIVE_DEVICE,
    NOBODY_LEFT,
    ONLY_FAILED,
    ONLY_PENDING,
    ONLY_SCHEDULED,
    OPTED_OUT,
    SAME_CONTENT,
    STILL_HELD,
    TRIED_ENOUGH,
    refuses,
)
from app.messages import attachments, queries, template_routes
from app.messages.accepting import bulk
from app.messages.accepting.idempotency import KEY_LENGTH
from app.messages.accepting.preview import preview
from app.messages.accepting.sending import QUEUED
from app.messages.life import cancelling, capacity, editing, retrying, timeline, transitions
from app.messages.life.transitions import Change
from app.messages.lookup import MODEL, find
from app.messages.queries import MessageFilter, MessagePage
from app.messages.schemas import (
    BulkDraft,
    BulkQueued,
    DeliveryStats,
    MessageDetail,
    Preview,
    PreviewDraft,
    SmsChange,
    SmsDraft,
    SmsQueued,
    StatusOut,
)
from app.messages.states import Event, Status

router = APIRouter(prefix="/api", tags=["SMS"])
router.include_router(template_routes.router)
# What `accepting.sending` answers, for the documents.
described = APIRouter(prefix="/api", tags=["SMS"])

# What an answer's `message` says.
DELIVERY_STATISTICS_RETRIEVED = "Delivery statistics retrieved successfully"
SMS_UPDATED = "SMS updated successfully"
SMS_DELETED = "SMS deleted successfully"
SMS_CANCELLED = "SMS cancelled successfully"
QUEUED_AGAIN = "SMS queued for sending again"

MessageName = Annotated[
    str, Path(description="The message's number or its UUID", examples=["101"], json_schema_extra={"model": MODEL})
]
Reader = Annotated[Principal, Depends(can("sms:read"))]
Sender = Annotated[Principal, Depends(can("sms:send"))]
SenderAlone = Annotated[Principal, Depends(can_alone("sms:send"))]
Wanted = Annotated[MessageFilter, Query()]
IdempotencyHeader = Annotated[
    str | None,
    Header(
        description="Within 24 hours, the same key and body return the first answer without sending again",
        json_schema_extra={"maxLength": KEY_LENGTH},
    ),
]


@router.get("/sms", responses=refuses(429))
def list_messages(session: SessionDep, user: Reader, paging: PagingDep, wanted: Wanted) -> Envelope[MessagePage]:
    """List your messages, newest first."""
    return Envelope(data=queries.page(session, user, wanted, paging))


@described.post(
    "/sms",
    status_code=201,
    dependencies=[Depends(can("sms:send"))],
    summary="Send an SMS",
    response_description=QUEUED,
    responses={
        **refuses(409, SAME_CONTENT, message=101, minutes=60),
        **refuses(422, NO_ACTIVE_DEVICE, OPTED_OUT, KEY_USED),
    },
)
def send(draft: SmsDraft, idempotency_key: IdempotencyHeader = None) -> MessageEnvelope[SmsQueued]:
    """Send one SMS."""
    raise NotImplementedError


def bulk_sender(user: SenderAlone, idempotency_key: IdempotencyHeader = None) -> Principal:
    # With a key it may be one that was accepted while the plan had the feature; `bulk.send` knows.
    if not idempotency_key:
        require(user, "sms:send", "bulk")
    return user


@router.post(
    "/sms/bulk",
    status_code=201,
    responses={
        201: {"model": BulkQueued, "description": bulk.QUEUED},
        **refuses(422, NO_ACTIVE_DEVICE, NOBODY_LEFT, KEY_USED),
        **refuses(429),
    },
    summary="Send to many recipients",
)
async def send_bulk(
    user: Annotated[Principal, Depends(bulk_sender)],
    request: Request,
    draft: Annotated[BulkDraft, Depends(Large(BulkDraft))],
    idempotency_key: IdempotencyHeader = None,
) -> Response:
    """Send one text to up to 100,000 recipients.

    Requires the plan's feature `bulk`.
    """

    def work() -> bytes:
        return bulk.send(user, draft, idempotency_key, hashlib.sha256(request.state.raw_body).digest())

    return Response(await request.state.heavy.run(work), 201, media_type="application/json")


@router.post("/sms/preview", summary="Preview a text")
def preview_message(session: SessionDep, user: Sender, draft: PreviewDraft) -> Envelope[Preview]:
    """Check a text before you send it: encoding, segments, and the price of one message. Nothing is sent.

    `forced_by` lists the characters that force UCS-2, whose segments hold less than half as many characters, and what
    could replace each. `{name}` is filled from `fields`, `{name|there}` has a default. Values are not filled again.
    """
    return Envelope(data=preview(session, user.user_id, draft))


@router.get("/sms/outbox", summary="List outbox", responses=refuses(429))
def outbox(session: SessionDep, user: Reader, paging: PagingDep, wanted: Wanted) -> Envelope[MessagePage]:
    """List sent messages, newest first."""
    wanted = wanted.model_copy(update={"direction": "outbound"})
    return Envelope(data=queries.page(session, user, wanted, paging))


@router.get("/sms/inbox", summary="List inbox", responses=refuses(429))
def inbox(session: SessionDep, user: Reader, paging: PagingDep, wanted: Wanted) -> Envelope[MessagePage]:
    """List received messages, newest first."""
    wanted = wanted.model_copy(update={"direction": "inbound"})
    return Envelope(data=queries.page(session, user, wanted, paging))


@router.get("/capacity", summary="Show capacity")
def show_capacity(session: SessionDep, user: Reader) -> Envelope[capacity.Capacity]:
    """Estimate when a single message sent now would go, and when everything that waits is done, by pace, limits and
    queue; and show what the limits of each phone and SIM card leave.
    """
    return Envelope(data=capacity.of(session, user.user_id))


@router.get("/sms/delivery-stats", response_description=DELIVERY_STATISTICS_RETRIEVED)
def delivery_stats(session: SessionDep, user: Reader) -> MessageEnvelope[DeliveryStats]:
    """Counts of messages sent, delivered and failed today, this week (from Monday) and this month, in UTC; and of those
    that are still scheduled.
    """
    periods = account.delivery_stats(session, user.user_id)
    stats = DeliveryStats.model_validate({**periods, "scheduled": queries.count_scheduled(session, user.user_id)})
    return MessageEnvelope(data=stats, message=DELIVERY_STATISTICS_RETRIEVED)


def message_of_reader(session: SessionDep, user: Reader, message: MessageName) -> dict[str, Any]:
    return find(session, user.user_id, message)


def message_of_sender(session: SessionDep, user: Sender, message: MessageName) -> dict[str, Any]:
    return find(session, user.user_id, message)


ReadMessage = Annotated[dict[str, Any], Depends(message_of_reader)]
SentMessage = Annotated[dict[str, Any], Depends(message_of_sender)]


@router.get("/sms/{message}", summary="Show message")
def show(session: SessionDep, row: ReadMessage) -> Envelope[MessageDetail]:
    """Show one message, by number or UUID."""
    return Envelope(data=MessageDetail.model_validate(row | {"attachments": attachments.whole(session, row)}))


@router.put(
    "/sms/{message}",
    summary="Report status or reschedule",
    response_description=SMS_UPDATED,
    responses=refuses(422, ONLY_SCHEDULED),
)
@router.patch(
    "/sms/{message}",
    summary="Report status or reschedule (PATCH)",
    response_description=SMS_UPDATED,
    responses=refuses(422, ONLY_SCHEDULED),
)
def change(session: SessionDep, row: SentMessage, body: SmsChange) -> MessageEnvelope[StatusOut]:
    """Report the result of a message. A status never moves backwards; the answer has the current one.

    Or change `send_at` of a message that is still scheduled; null sends it now.
    """
    status = editing.change(session, row, body)
    return MessageEnvelope(data=StatusOut(id=row["id"], status=status), message=SMS_UPDATED)


@router.delete("/sms/{message}", summary="Delete message", response_description=SMS_DELETED)
def delete(session: SessionDep, user: Sender, row: SentMessage) -> Done:
    """Delete a message. If no phone was given it, it is also cancelled; the account's figures stay.

    Deleting a received message also requires the ability `sms:read`.
    """
    if row["direction"] == "inbound":
        require(user, "sms:read")
    transitions.apply(session, [Change(row["id"], Event.DELETED)])
    return Done(message=SMS_DELETED)


@router.post(
    "/sms/{message}/cancel",
    summary="Cancel message",
    response_description=SMS_CANCELLED,
    responses=refuses(422, ONLY_PENDING),
)
async def cancel(user: SenderAlone, message: MessageName) -> MessageEnvelope[StatusOut]:
    """Cancel a message. A phone that already has it is asked to give it back, and has three seconds to confirm."""
    number = await cancelling.cancel(user.user_id, message)
    return MessageEnvelope(data=StatusOut(id=number, status=Status.CANCELLED), message=SMS_CANCELLED)


@router.post(
    "/sms/{message}/retry",
    summary="Send a failed message again",
    response_description=QUEUED_AGAIN,
    responses=refuses(
        422, ONLY_FAILED, STILL_HELD, TRIED_ENOUGH, NO_ACTIVE_DEVICE, OPTED_OUT, limit=retrying.MAX_ATTEMPTS
    ),
)
def retry(session: SessionDep, user: Sender, row: SentMessage) -> MessageEnvelope[StatusOut]:
    """Send a failed message again. If it is unknown whether the SMS was sent, it may arrive twice."""
    hold(session, user)
    retrying.retry(session, row)
    return MessageEnvelope(data=StatusOut(id=row["id"], status=Status.PENDING), message=QUEUED_AGAIN)


@router.get("/sms/{message}/timeline")
def show_timeline(session: SessionDep, row: ReadMessage) -> Envelope[timeline.Timeline]:
    """Show every stage of a message with time and phone, its webhooks, and why it is not sent yet."""
    return Envelope(data=timeline.of(session, row))
