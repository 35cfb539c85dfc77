"""The recipients of a campaign in the public API: added, listed, and looked at before anything is sent."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import State

from app.accounts.auth import can, can_alone
from app.accounts.principals import Principal
from app.campaigns import adding, dry_run, listing, records, sources, trial
from app.campaigns.paths import CampaignId
from app.campaigns.recipient_schemas import (
    Added,
    DryRun,
    FileColumns,
    LeftOutOut,
    ListFilter,
    RecipientFilter,
    RecipientList,
    RecipientPage,
    TestDraft,
    TestSent,
)
from app.core.database import transaction
from app.core.dependencies import PagingDep, SessionDep
from app.core.envelope import Envelope, MessageEnvelope
from app.core.pages import Page
from app.core.refusals import ALREADY_STARTED, NO_ACTIVE_DEVICE, refuses
from app.core.validation import read
from app.files import uploads
from app.files.uploads import LargeOrFile
from app.messages.schemas import SmsQueued

router = APIRouter(prefix="/api/campaigns", tags=["Campaigns"])

RECIPIENTS_ADDED = "Added {n} recipients"
TEST_QUEUED = "SMS queued for sending"

OwnerAlone = Annotated[Principal, Depends(can_alone("campaigns"))]
Maker = Annotated[Principal, Depends(can("campaigns", "bulk"))]
MakerAlone = Annotated[Principal, Depends(can_alone("campaigns", "bulk"))]


def owned(user: OwnerAlone, campaign_id: CampaignId) -> int:
    with transaction() as session:
        return records.find(session, user.user_id, campaign_id).id


def opened(user: MakerAlone, campaign_id: CampaignId) -> int:
    with transaction() as session:
        return adding.open_one(session, user.user_id, campaign_id).id


OwnedId = Annotated[int, Depends(owned)]
OpenId = Annotated[int, Depends(opened)]


@router.put(
    "/{campaign_id}/recipients",
    summary="Add recipients",
    response_description=RECIPIENTS_ADDED.format(n=988),
    responses={**refuses(422, ALREADY_STARTED), **refuses(429)},
)
async def add_recipients(
    user: MakerAlone,
    campaign: OpenId,
    request: Request,
    wanted: Annotated[FileColumns, Query()],
    body: Annotated[RecipientList | None, Depends(LargeOrFile(RecipientList))],
) -> MessageEnvelope[Added]:
    """Add recipients to a campaign that has not started, in as many calls as you like; a million in all.

    The body is JSON, a CSV or XLSX file, or a form with the file in its field `file`. The columns of a file are
    placeholders of the text, by their headers. Rows without a usable number, and numbers that the campaign has
    already, are left out and counted; of the first 10,000 you can see why. A file that cannot be read adds nothing.
    """
    work = (
        partial(_add_file, user, campaign, request.state, wanted)
        if body is None
        else partial(_add, user, campaign, body)
    )
    data = await request.state.heavy.run(work)
    return MessageEnvelope(data=data, message=RECIPIENTS_ADDED.format(n=data.added))


def _add(user: Principal, campaign: int, body: RecipientList) -> Added:
    source = sources.of_list(body.recipients or [], user.default_region)
    with transaction() as session:
        return adding.add(session, user.user_id, campaign, source, body.group_ids or [])


def _add_file(user: Principal, campaign: int, state: State, wanted: FileColumns) -> Added:
    with uploads.opened(state.file, state.content_type) as upload:
        wanted = read(FileColumns, {**wanted.given(), **upload.fields})
        source = sources.of_file(upload.file, upload.charset, wanted, user.default_region)
        with transaction() as session:
            return adding.add(session, user.user_id, campaign, source)


def _csv(example: str) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: it answers CSV too."""
    return {200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": example}}}, **refuses(429)}


def _download(request: Request, parts: Any, name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(request.state.heavy.each(parts), media_type="text/csv", headers=headers)


@router.get(
    "/{campaign_id}/recipients",
    summary="List recipients",
    response_model=Envelope[RecipientPage],
    responses=_csv(listing.EXAMPLE),
)
async def list_recipients(campaign: OwnedId, request: Request, wanted: Annotated[RecipientFilter, Query()]) -> Any:
    """List a campaign's recipients in the order of sending, each with the state of its message; or all as CSV."""
    if wanted.format == "csv":
        return _download(request, listing.recipients_as_csv(campaign, wanted), f"campaign-{campaign}-recipients")

    def page() -> RecipientPage:
        with transaction() as session:
            return listing.recipients(session, campaign, wanted)

    return Envelope(data=await run_in_threadpool(page))


@router.get(
    "/{campaign_id}/left-out",
    summary="List rows that were left out",
    response_model=Envelope[Page[LeftOutOut]],
    responses=_csv(listing.LEFT_OUT_EXAMPLE),
)
async def list_left_out(
    campaign: OwnedId, request: Request, paging: PagingDep, wanted: Annotated[ListFilter, Query()]
) -> Any:
    """List the rows that were left out when recipients were added, the first 10,000 of a campaign; or all as CSV."""
    if wanted.format == "csv":
        return _download(request, listing.left_out_as_csv(campaign, bom=wanted.bom), f"campaign-{campaign}-left-out")

    def page() -> Page[LeftOutOut]:
        with transaction() as session:
            return listing.left_out(session, campaign, paging)

    return Envelope(data=await run_in_threadpool(page))


@router.post("/{campaign_id}/dry-run", summary="Try a campaign without sending", responses=refuses(429))
async def try_campaign(user: OwnerAlone, campaign: OwnedId, request: Request) -> Envelope[DryRun]:
    """Count what a campaign would send: segments, price, empty placeholders, the phones, and when it would end.

    A placeholder that no recipient has a field for is refused here, as it is at the start.
    """
    return Envelope(data=await request.state.heavy.run(dry_run.count, user, campaign))


@router.post(
    "/{campaign_id}/test",
    summary="Send a campaign's text to yourself",
    response_description=TEST_QUEUED,
    responses=refuses(422, NO_ACTIVE_DEVICE),
)
def test_campaign(
    session: SessionDep, user: Maker, campaign_id: CampaignId, wanted: TestDraft
) -> MessageEnvelope[TestSent]:
    """Send the text to your own number, filled as for the first recipient, or with what you give."""
    campaign = records.find(session, user.user_id, campaign_id)
    queued = trial.send(session, user, campaign, wanted)
    [shown] = records.shown(session, [campaign])
    return MessageEnvelope(data=TestSent(**shown.model_dump(), test=SmsQueued(**queued)), message=TEST_QUEUED)
