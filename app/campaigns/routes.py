"""Campaigns in the public API."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from app.accounts.auth import can, can_alone
from app.accounts.principals import Principal, hold
from app.campaigns import life, records, stopping, watching
from app.campaigns.models import Campaign
from app.campaigns.paths import CampaignId
from app.campaigns.schemas import (
    CampaignChange,
    CampaignDetail,
    CampaignDraft,
    CampaignFilter,
    CampaignOut,
    Retry,
    StartAt,
)
from app.campaigns.watching import watchers
from app.core.database import transaction
from app.core.dependencies import PagingDep, SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.pages import Page
from app.core.refusals import (
    CAMPAIGN_NOT_ALLOWED,
    END_HAS_PASSED,
    NO_RECIPIENTS,
    NOTHING_TO_RETRY,
    ONLY_AT_REST,
    refuses,
)
from app.core.security import bearer, parse_token

router = APIRouter(prefix="/api/campaigns", tags=["Campaigns"])

# What an answer's `message` says.
CAMPAIGN_CREATED = "Campaign created successfully"
CAMPAIGN_UPDATED = "Campaign updated successfully"
CAMPAIGN_DELETED = "Campaign deleted successfully"
CAMPAIGN_STARTED = "Campaign started"
CAMPAIGN_PAUSED = "Campaign paused"
CAMPAIGN_RESUMED = "Campaign resumed"
CAMPAIGN_CANCELLED = "Campaign cancelled"
EVENT = 'id: 5f2b8c0d1e4a9b37\nevent: progress\ndata: {"status":"running","counts":{"recipients":1000}}\n\n'
RETRYING = "Sending {n} messages again"

Owner = Annotated[Principal, Depends(can("campaigns"))]
Maker = Annotated[Principal, Depends(can("campaigns", "bulk"))]
OwnerAlone = Annotated[Principal, Depends(can_alone("campaigns"))]


def campaign_of(session: SessionDep, user: Owner, campaign_id: CampaignId) -> Campaign:
    return records.find(session, user.user_id, campaign_id)


def campaign_to_change(session: SessionDep, user: Owner, campaign_id: CampaignId) -> Campaign:
    return records.find(session, user.user_id, campaign_id, lock=True)


def watched(user: OwnerAlone, campaign_id: CampaignId) -> Iterator[str]:
    with transaction() as session:
        records.find(session, user.user_id, campaign_id)
    with watching.shares.one(user.user_id):
        yield campaign_id


# Until the stream has ended.
WatchedId = Annotated[str, Depends(watched, scope="request")]
OneCampaign = Annotated[Campaign, Depends(campaign_of)]
LockedCampaign = Annotated[Campaign, Depends(campaign_to_change)]


@router.get("", summary="List campaigns")
def list_campaigns(
    session: SessionDep, user: Owner, paging: PagingDep, wanted: Annotated[CampaignFilter, Query()]
) -> Envelope[Page[CampaignOut]]:
    """List your campaigns, newest first."""
    return Envelope(data=records.page(session, user.user_id, wanted, paging))


@router.post("", status_code=201, summary="Create a campaign", response_description=CAMPAIGN_CREATED)
def create_campaign(session: SessionDep, user: Maker, draft: CampaignDraft) -> MessageEnvelope[CampaignOut]:
    """Create a draft: a text, who sends it, how fast and when. Then add recipients, and start it.

    Requires the plan's feature `bulk`.
    """
    [made] = records.shown(session, [records.create(session, user, draft)])
    return MessageEnvelope(data=made, message=CAMPAIGN_CREATED)


@router.get("/{campaign_id}", summary="Show a campaign")
def show_campaign(session: SessionDep, campaign: OneCampaign) -> Envelope[CampaignDetail]:
    """Show a campaign and how far it is: in all, by phone, and by the reasons of failures."""
    return Envelope(data=records.detail(session, campaign))


@router.patch("/{campaign_id}", summary="Change a campaign", response_description=CAMPAIGN_UPDATED)
def change_campaign(
    session: SessionDep, user: Owner, campaign: LockedCampaign, wanted: CampaignChange
) -> MessageEnvelope[CampaignOut]:
    """Change a campaign: everything before it starts, then its name, rate, hours and end."""
    records.change(session, user, campaign, wanted)
    [shown] = records.shown(session, [campaign])
    return MessageEnvelope(data=shown, message=CAMPAIGN_UPDATED)


@router.delete(
    "/{campaign_id}",
    summary="Delete a campaign",
    response_description=CAMPAIGN_DELETED,
    responses=refuses(422, ONLY_AT_REST),
)
def delete_campaign(session: SessionDep, campaign: LockedCampaign) -> Done:
    """Delete a draft, or a campaign that is finished or cancelled. Its messages stay."""
    records.remove(session, campaign)
    return Done(message=CAMPAIGN_DELETED)


@router.post(
    "/{campaign_id}/start",
    summary="Start a campaign",
    response_description=CAMPAIGN_STARTED,
    responses=refuses(422, NO_RECIPIENTS, END_HAS_PASSED, CAMPAIGN_NOT_ALLOWED, state="finished", done="started"),
)
def start_campaign(
    session: SessionDep, user: Maker, campaign: LockedCampaign, wanted: StartAt
) -> MessageEnvelope[CampaignOut]:
    """Start a campaign, now or at a time. From then on recipients can no longer be added.

    Requires the plan's feature `bulk`.
    """
    hold(session, user)
    life.start(session, campaign, wanted.start_at if "start_at" in wanted.model_fields_set else campaign.start_at)
    [shown] = records.shown(session, [campaign])
    return MessageEnvelope(data=shown, message=CAMPAIGN_STARTED)


@router.post(
    "/{campaign_id}/pause",
    summary="Pause a campaign",
    response_description=CAMPAIGN_PAUSED,
    responses=refuses(422, CAMPAIGN_NOT_ALLOWED, state="finished", done="paused"),
)
def pause_campaign(user: OwnerAlone, campaign_id: CampaignId) -> MessageEnvelope[CampaignOut]:
    """Pause a campaign. Once this has answered, no more of its messages are given to phones.

    `counts` says how many phones were given and have not reported yet, how many are held, and how many are not made.
    """
    return MessageEnvelope(data=stopping.pause(user.user_id, campaign_id), message=CAMPAIGN_PAUSED)


@router.post(
    "/{campaign_id}/resume",
    summary="Resume a campaign",
    response_description=CAMPAIGN_RESUMED,
    responses=refuses(422, END_HAS_PASSED, CAMPAIGN_NOT_ALLOWED, state="finished", done="resumed"),
)
def resume_campaign(session: SessionDep, user: Maker, campaign: LockedCampaign) -> MessageEnvelope[CampaignOut]:
    """Resume a paused campaign.

    Requires the plan's feature `bulk`.
    """
    hold(session, user)
    life.resume(session, campaign)
    [shown] = records.shown(session, [campaign])
    return MessageEnvelope(data=shown, message=CAMPAIGN_RESUMED)


@router.post(
    "/{campaign_id}/cancel",
    summary="Cancel a campaign",
    response_description=CAMPAIGN_CANCELLED,
    responses=refuses(422, CAMPAIGN_NOT_ALLOWED, state="finished", done="cancelled"),
)
def cancel_campaign(user: OwnerAlone, campaign_id: CampaignId) -> MessageEnvelope[CampaignOut]:
    """Cancel a campaign for good: what waits is cancelled, and phones are asked to give back what they have.

    Recipients for whom no message was made stay as not sent.
    """
    return MessageEnvelope(data=stopping.cancel(user.user_id, campaign_id), message=CAMPAIGN_CANCELLED)


@router.post(
    "/{campaign_id}/retry-failed",
    summary="Send failed messages again",
    response_description=RETRYING.format(n=20),
    responses=refuses(422, NOTHING_TO_RETRY, END_HAS_PASSED, CAMPAIGN_NOT_ALLOWED, state="draft", done="retried"),
)
def retry_failed(
    session: SessionDep, user: Maker, campaign: LockedCampaign, wanted: Retry
) -> MessageEnvelope[CampaignOut]:
    """Send the campaign's failed messages again; not those of which nobody knows whether they were sent, unless asked.

    A finished campaign runs again. Requires the plan's feature `bulk`.
    """
    hold(session, user)
    n = life.retry_failed(session, campaign, uncertain=wanted.uncertain)
    [shown] = records.shown(session, [campaign])
    return MessageEnvelope(data=shown, message=RETRYING.format(n=n))


@router.post(
    "/{campaign_id}/duplicate", status_code=201, summary="Duplicate a campaign", response_description=CAMPAIGN_CREATED
)
def duplicate_campaign(session: SessionDep, user: Maker, campaign: OneCampaign) -> MessageEnvelope[CampaignOut]:
    """Create a draft with the same text, settings and recipients.

    Requires the plan's feature `bulk`.
    """
    hold(session, user)
    [made] = records.shown(session, [records.duplicate(session, campaign)])
    return MessageEnvelope(data=made, message=CAMPAIGN_CREATED)


@router.get(
    "/{campaign_id}/events",
    summary="Watch a campaign",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENT}}},
        **refuses(429),
    },
)
async def watch_campaign(request: Request, campaign_id: WatchedId) -> StreamingResponse:
    """Server-sent events `progress`, each with what `GET` shows of the campaign's progress.

    The first comes at once, the next when something changed, at most one a second. With `Last-Event-ID` a client that
    comes back gets the first one only if it is news.
    """
    credentials = parse_token(bearer(request.headers.get("authorization")) or "")
    assert credentials is not None  # it has just been asked for
    events = watchers().events(credentials, campaign_id, request.headers.get("last-event-id"))
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
