"""Campaigns in the public API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from app.accounts.auth import can
from app.accounts.principals import Principal
from app.campaigns import records
from app.campaigns.models import Campaign
from app.campaigns.schemas import CampaignChange, CampaignDraft, CampaignFilter, CampaignOut
from app.core.dependencies import PagingDep, SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.pages import Page
from app.core.refusals import ONLY_AT_REST, refuses

router = APIRouter(prefix="/api/campaigns", tags=["Campaigns"])

# What an answer's `message` says.
CAMPAIGN_CREATED = "Campaign created successfully"
CAMPAIGN_UPDATED = "Campaign updated successfully"
CAMPAIGN_DELETED = "Campaign deleted successfully"

CampaignId = Annotated[
    str, Path(description="The campaign's number", examples=["4"], json_schema_extra={"model": records.MODEL})
]
Owner = Annotated[Principal, Depends(can("campaigns"))]
Maker = Annotated[Principal, Depends(can("campaigns", "bulk"))]


def campaign_of(session: SessionDep, user: Owner, campaign_id: CampaignId) -> Campaign:
    return records.find(session, user.user_id, campaign_id)


def campaign_to_change(session: SessionDep, user: Owner, campaign_id: CampaignId) -> Campaign:
    return records.find(session, user.user_id, campaign_id, lock=True)


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
def show_campaign(session: SessionDep, campaign: OneCampaign) -> Envelope[CampaignOut]:
    """Show a campaign and how many recipients stand where."""
    [shown] = records.shown(session, [campaign])
    return Envelope(data=shown)


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
