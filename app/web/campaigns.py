"""Campaigns: made step by step, tried without sending, started, watched, paused and gone on with."""

from collections import Counter
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from app.accounts.principals import hold, require
from app.campaigns import adding, dry_run, life, listing, progress, records, sources, stopping, trial
from app.campaigns.models import Campaign
from app.campaigns.recipient_schemas import Added, DryRun, FileColumns, RecipientFilter, RecipientList, TestDraft
from app.campaigns.schemas import CampaignChange, CampaignDraft, CampaignFilter, Retry
from app.campaigns.states import OPEN
from app.contacts import groups
from app.core.database import transaction
from app.core.errors import AppError, Invalid
from app.core.validation import read, row_id
from app.devices import ownership
from app.messages.accepting.preview import preview
from app.messages.schemas import PreviewDraft
from app.web import texts
from app.web.charts import Chart, Series
from app.web.lists import paging, wanted
from app.web.messages import SEPARATORS
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit, has_file, posted, posted_file
from app.web.words import gettext, marked, speaking

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_ROWS_SHOWN = 3
_PER_CENT = 100


@router.get("/campaigns")
def campaigns(visit: SignedIn) -> Response:
    with transaction() as session:
        try:
            found = wanted(visit, CampaignFilter, "status")
        except Invalid:
            found = CampaignFilter()
        data = records.page(session, visit.me.user_id, found, paging(visit))
        template = "campaigns_rows.html" if visit.is_htmx else "campaigns.html"
        return page(visit, template, live="campaigns", data=data)


@router.get("/campaigns/new")
def new(visit: SignedIn) -> Response:
    return _new(visit)


def _new(visit: Visit, error: AppError | None = None) -> Response:
    with transaction() as session:
        return page(
            visit,
            "campaign_new.html",
            error=error,
            templates=texts.choices(session, visit),
            taken=texts.taken(session, visit),
        )


@router.post("/campaigns")
def create(visit: Posts) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        draft = visit.read(CampaignDraft)
        with transaction() as session:
            made = records.create(session, visit.me, draft).id
    except AppError as error:
        return _new(visit, error)
    return go(f"/campaigns/{made}")


@router.get("/campaigns/{campaign}")
def campaign(visit: SignedIn, campaign: str) -> Response:
    return _campaign(visit, campaign)


def _campaign(
    visit: Visit,
    campaign: str,
    error: AppError | None = None,
    *,
    added: Added | None = None,
    tried: DryRun | None = None,
) -> Response:
    with transaction() as session:
        found = records.find(session, visit.me.user_id, campaign)
        shown = records.detail(session, found)
        is_open = found.status in OPEN
        return page(
            visit,
            "campaign_draft.html" if is_open else "campaign.html",
            error=error,
            live="campaigns",
            campaign=shown,
            added=added,
            tried=tried,
            columns=found.columns,
            course=None if is_open else _course(visit, session, found),
            **(_for_draft(session, visit, found.id, shown.message) if is_open else {}),
        )


def _for_draft(session: Session, visit: Visit, number: int, message: str) -> dict[str, Any]:
    """What a draft's page shows besides: the text on real rows, phones and groups to choose from."""
    rows = listing.recipients(session, number, RecipientFilter(per_page=_ROWS_SHOWN)).data
    return {
        "rows": [(row, _filled(session, visit, message, row)) for row in rows],
        "phones": ownership.names(session, visit.me.user_id, active=True),
        "groups": groups.every(session, visit.me.user_id),
        "templates": texts.choices(session, visit),
        "taken": texts.taken(session, visit),
    }


def _filled(session: Session, visit: Visit, message: str, row: Any) -> Any:
    """The text as a recipient would get it; the refusal where it cannot be filled."""
    fields = {**(row.fields or {}), **({"name": row.name} if row.name else {})}
    try:
        return preview(session, visit.me.user_id, read(PreviewDraft, {"message": message, "fields": fields}))
    except Invalid as error:
        return error


@router.get("/campaigns/{campaign}/course")
def campaign_course(visit: SignedIn, campaign: str) -> Response:
    with transaction() as session:
        found = records.find(session, visit.me.user_id, campaign)
        shown = records.detail(session, found)
        return page(visit, "campaign_course.html", campaign=shown, course=_course(visit, session, found))


_RESULTS = (
    (("sent", "delivered"), marked("sent"), "c1"),
    (("delivered",), marked("delivered"), "c2"),
    (("failed", "uncertain"), marked("failed"), "c3"),
)


def _course(visit: Visit, session: Session, campaign: Campaign) -> Chart | None:
    """What was sent, delivered and failed by when, by the account's clock; nothing before anything was."""
    steps = progress.course(session, campaign.id)
    if not steps:
        return None
    # From where there was nothing, so that there is a line to draw from the first minute on.
    steps = [(steps[0][0] - timedelta(minutes=1), Counter()), *steps]
    moments = [moment.astimezone(visit.zone) for moment, _ in steps]
    written = "%H:%M" if moments[-1].date() == moments[0].date() else "%Y-%m-%d %H:%M"
    with speaking(visit.language):
        series = [
            Series(gettext(label), colour, [sum(standing[name] for name in names) for _, standing in steps])
            for names, label, colour in _RESULTS
        ]
        title = gettext("Messages sent, delivered and failed since the start")
    return Chart(title, [moment.strftime(written) for moment in moments], series)


@router.post("/campaigns/{campaign}")
def change(visit: Posts, campaign: str) -> Response:
    try:
        new_values = read(CampaignChange, _values(visit))
        with transaction() as session:
            found = records.find(session, visit.me.user_id, campaign, lock=True)
            records.change(session, visit.me, found, new_values)
    except Invalid as error:
        return _campaign(visit, campaign, error)
    return go(f"/campaigns/{campaign}?done=saved")


_WHEN = ("start_at", "end_at")


def _values(visit: Visit) -> dict[str, Any]:
    """The fields of a form as the API takes them: shares in per cent, times by the account's clock."""
    form = visit.form
    values: dict[str, Any] = {name: form[name] for name in CampaignChange.model_fields if name in form}
    values |= {name: visit.moment(name) or None for name in _WHEN if name in form}
    if isinstance(devices := values.get("device_id"), list):
        values["device_id"] = [each for each in devices if each] or None
    if isinstance(hours := form.get("hours"), dict):
        is_set = bool(hours.get("from") or hours.get("to"))
        values["hours"] = {name: value for name, value in hours.items() if value} if is_set else None
    if isinstance(rule := form.get("stop_rule"), dict):
        values["stop_rule"] = _shared(rule, "failed_share")
    if isinstance(canary := form.get("canary"), dict):
        values["canary"] = _shared(canary, "delivered_share")
    return values


def _shared(rule: dict[str, Any], share: str) -> dict[str, Any] | None:
    """A rule with its share as a part of one; None where nothing of it is given."""
    given = {name: value for name, value in rule.items() if value}
    if not given:
        return None
    with suppress(KeyError, ValueError):
        given[share] = float(given[share]) / _PER_CENT
    return given


@router.post("/campaigns/{campaign}/recipients")
async def add_recipients(visit: SignedIn, campaign: str, request: Request) -> Response:
    """Recipients from a file, a list that was pasted, or groups."""
    try:
        added = await request.state.heavy.run(_add, visit, campaign)
    except AppError as error:
        return await run_in_threadpool(_campaign, visit, campaign, error)
    return await run_in_threadpool(partial(_campaign, visit, campaign, added=added))


def _add(visit: Visit, campaign: str) -> Added:
    require(visit.me, "campaigns", "bulk")
    if has_file(visit):
        with posted_file(visit) as upload:
            columns = read(FileColumns, upload.fields)
            source = sources.of_file(upload.file, upload.charset, columns, visit.me.default_region)
            with transaction() as session:
                number = adding.open_one(session, visit.me.user_id, campaign).id
                return adding.add(session, visit.me.user_id, number, source)
    posted(visit)
    pasted = [part.strip() for part in SEPARATORS.split(visit.given("recipients")) if part.strip()]
    chosen = read(RecipientList, {"recipients": pasted or None, "group_ids": visit.form.get("group_ids") or None})
    source = sources.of_list(chosen.recipients or [], visit.me.default_region)
    with transaction() as session:
        number = adding.open_one(session, visit.me.user_id, campaign).id
        return adding.add(session, visit.me.user_id, number, source, chosen.group_ids or [])


@router.get("/campaigns/{campaign}/recipients")
async def recipients(visit: SignedIn, campaign: str, request: Request) -> Response:
    number = await run_in_threadpool(_number, visit, campaign)
    filters = wanted(visit, RecipientFilter, "state", "cursor", "format")
    if filters.format == "csv":
        parts = listing.recipients_as_csv(number, filters.model_copy(update={"bom": True}))
        return _download(request, parts, f"campaign-{number}-recipients")
    return await run_in_threadpool(_recipients, visit, number, filters)


def _number(visit: Visit, campaign: str) -> int:
    with transaction() as session:
        return records.find(session, visit.me.user_id, campaign).id


def _recipients(visit: Visit, number: int, filters: RecipientFilter) -> Response:
    with transaction() as session:
        [shown] = records.shown(session, [records.find(session, visit.me.user_id, str(number))])
        return page(
            visit,
            "campaign_recipients.html",
            campaign=shown,
            data=listing.recipients(session, number, filters),
            state=visit.query("state"),
        )


def _download(request: Request, parts: Any, name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return StreamingResponse(request.state.heavy.each(parts), media_type="text/csv", headers=headers)


@router.get("/campaigns/{campaign}/left-out")
async def left_out(visit: SignedIn, campaign: str, request: Request) -> Response:
    number = await run_in_threadpool(_number, visit, campaign)
    if visit.query("format") == "csv":
        return _download(request, listing.left_out_as_csv(number, bom=True), f"campaign-{number}-left-out")
    return await run_in_threadpool(_left_out, visit, number)


def _left_out(visit: Visit, number: int) -> Response:
    with transaction() as session:
        [shown] = records.shown(session, [records.find(session, visit.me.user_id, str(number))])
        return page(
            visit, "campaign_left_out.html", campaign=shown, data=listing.left_out(session, number, paging(visit))
        )


@router.post("/campaigns/{campaign}/dry-run")
async def try_out(visit: Posts, campaign: str, request: Request) -> Response:
    try:
        number = await run_in_threadpool(_number, visit, campaign)
        tried = await request.state.heavy.run(dry_run.count, visit.me, number)
    except Invalid as error:
        return await run_in_threadpool(_campaign, visit, campaign, error)
    return await run_in_threadpool(partial(_campaign, visit, campaign, tried=tried))


@router.post("/campaigns/{campaign}/test")
def test(visit: Posts, campaign: str) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        draft = visit.read(TestDraft)
        with transaction() as session:
            sent = trial.send(session, visit.me, records.find(session, visit.me.user_id, campaign), draft)
    except Invalid as error:
        return _campaign(visit, campaign, error)
    return go(f"/messages/{sent['id']}")


@router.post("/campaigns/{campaign}/start")
def start(visit: Posts, campaign: str) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        with transaction() as session:
            hold(session, visit.me)
            found = records.find(session, visit.me.user_id, campaign, lock=True)
            life.start(session, found, found.start_at)
    except AppError as error:
        return _campaign(visit, campaign, error)
    return go(f"/campaigns/{row_id(campaign)}")


@router.post("/campaigns/{campaign}/pause")
def pause(visit: Posts, campaign: str) -> Response:
    stopping.pause(visit.me.user_id, campaign)
    return go(f"/campaigns/{row_id(campaign)}")


@router.post("/campaigns/{campaign}/cancel")
def cancel(visit: Posts, campaign: str) -> Response:
    stopping.cancel(visit.me.user_id, campaign)
    return go(f"/campaigns/{row_id(campaign)}?done=cancelled")


@router.post("/campaigns/{campaign}/resume")
def resume(visit: Posts, campaign: str) -> Response:
    require(visit.me, "campaigns", "bulk")
    with transaction() as session:
        hold(session, visit.me)
        life.resume(session, records.find(session, visit.me.user_id, campaign, lock=True))
    return go(f"/campaigns/{row_id(campaign)}")


@router.post("/campaigns/{campaign}/retry")
def retry(visit: Posts, campaign: str) -> Response:
    require(visit.me, "campaigns", "bulk")
    wanted_retry = visit.read(Retry)
    with transaction() as session:
        hold(session, visit.me)
        found = records.find(session, visit.me.user_id, campaign, lock=True)
        life.retry_failed(session, found, uncertain=wanted_retry.uncertain)
    return go(f"/campaigns/{row_id(campaign)}?done=queued")


@router.post("/campaigns/{campaign}/duplicate")
def duplicate(visit: Posts, campaign: str) -> Response:
    require(visit.me, "campaigns", "bulk")
    with transaction() as session:
        hold(session, visit.me)
        made = records.duplicate(session, records.find(session, visit.me.user_id, campaign)).id
    return go(f"/campaigns/{made}")


@router.post("/campaigns/{campaign}/delete")
def delete(visit: Posts, campaign: str) -> Response:
    with transaction() as session:
        records.remove(session, records.find(session, visit.me.user_id, campaign, lock=True))
    return go("/campaigns?done=removed")
