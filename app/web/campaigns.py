"""Campaigns: made step by step, tried without sending, started, watched, paused and gone on with."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

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
from app.campaigns.texts import template_of
from app.contacts import book, groups
from app.core.allowed_hours import OF_ACCOUNT
from app.core.database import transaction
from app.core.envelope import plain_number
from app.core.errors import AppError, Invalid
from app.core.hours import DAYS
from app.core.validation import read, row_id
from app.devices import ownership
from app.devices.ownership import PhoneName
from app.messages.schemas import MESSAGE_LENGTH
from app.messages.segments import segments
from app.web import texts
from app.web.charts import Chart, Series
from app.web.lists import paging, wanted
from app.web.messages import SEPARATORS
from app.web.pages import PageRoute, go, page
from app.web.shown import local
from app.web.visits import Posts, SignedIn, Visit, has_file, posted, posted_file, ticked
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
    typed: bool = False,
    added: Added | None = None,
    tried: DryRun | None = None,
) -> Response:
    """`typed`: the settings show what was typed, not what is stored."""
    with transaction() as session:
        found = records.find(session, visit.me.user_id, campaign)
        shown = records.detail(session, found)
        phones = _phones(session, visit, found)
        is_open = found.status in OPEN
        stored = _stored(visit, found, phones)
        return page(
            visit,
            "campaign_draft.html" if is_open else "campaign.html",
            error=error,
            live="campaigns",
            campaign=shown,
            phones=phones,
            settings=stored | (_typed(visit) if typed else {}),
            was=(typed and visit.given("was")) or json.dumps(stored),
            added=added,
            tried=tried,
            columns=found.columns,
            course=None if is_open else _course(visit, session, found),
            rest=_rest(found),
            **(_for_draft(session, visit, found) if is_open else {}),
        )


def _for_draft(session: Session, visit: Visit, campaign: Campaign) -> dict[str, Any]:
    """What a draft's page shows besides: the text on real rows, and groups to choose from."""
    rows = listing.recipients(session, campaign.id, RecipientFilter(per_page=_ROWS_SHOWN)).data
    names = book.names_of(session, visit.me.user_id, [row.number for row in rows if row.name is None])
    return {
        "rows": [(row, _filled(campaign, row.name or names.get(row.number), row.fields)) for row in rows],
        "groups": groups.every(session, visit.me.user_id),
        "templates": texts.choices(session, visit),
        "taken": texts.taken(session, visit),
    }


class _Filled(NamedTuple):
    """The text as a recipient will get it, and its SMS parts, none where it is not sent; or why it cannot be filled."""

    text: str = ""
    segments: int = 0
    wrong: str = ""


def _filled(campaign: Campaign, name: str | None, fields: Mapping[str, str] | None) -> _Filled:
    try:
        text = template_of(campaign).fill(name, fields)
    except Invalid as error:
        return _Filled(wrong=error.message)
    return _Filled(text, segments(text)[0] if text.strip() and len(text) <= MESSAGE_LENGTH else 0)


@router.get("/campaigns/{campaign}/rest")
def campaign_rest(visit: SignedIn, campaign: str) -> Response:
    with transaction() as session:
        found = records.find(session, visit.me.user_id, campaign)
        shown, course = records.detail(session, found), _course(visit, session, found)
        return page(visit, "campaign_rest.html", campaign=shown, course=course, rest=_rest(found))


@router.get("/campaigns/{campaign}/figures")
def campaign_figures(visit: SignedIn, campaign: str) -> Response:
    with transaction() as session:
        found = records.find(session, visit.me.user_id, campaign)
        return page(visit, "campaign_figures.html", campaign=records.detail(session, found), rest=_rest(found))


@router.get("/campaigns/{campaign}/begun")
def begun(visit: SignedIn, campaign: str) -> Response:
    """Where the page of a scheduled campaign looks whether it has begun, and is led to what it is then."""
    with transaction() as session:
        found = records.find(session, visit.me.user_id, campaign)
        waits = visit.is_htmx and found.status in OPEN
    return Response(status_code=204) if waits else go(f"/campaigns/{row_id(campaign)}", is_htmx=visit.is_htmx)


# After so many seconds the page of a running campaign asks for its figures again, or a share of the time it has run.
_MIN_REST, _MAX_REST, _SHARE_OF_RUN = 10, 120, 1 / 5


def _rest(campaign: Campaign) -> int:
    now = datetime.now(UTC)
    ran = (now - (campaign.started_at or now)).total_seconds()
    return round(min(max(ran * _SHARE_OF_RUN, _MIN_REST), _MAX_REST))


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
        with transaction() as session:
            _saved(session, visit, campaign)
    except AppError as error:
        return _campaign(visit, campaign, error, typed=True)
    return go(f"/campaigns/{campaign}?done=saved")


def _saved(session: Session, visit: Visit, campaign: str) -> Campaign:
    """The campaign, locked, with the settings that came with the form. Raises `Invalid` and `Refused`."""
    found = records.find(session, visit.me.user_id, campaign, lock=True)
    was = _stored(visit, found, _phones(session, visit, found)) | _was(visit)
    try:
        if changed := _changed(visit, was):
            records.change(session, visit.me, found, read(CampaignChange, changed))
    except Invalid as error:
        raise _at_its_field(visit, error) from error
    return found


def _was(visit: Visit) -> dict[str, Any]:
    """The settings as the page showed them. It may be an old one, and takes nothing back that was set meanwhile."""
    try:
        was = json.loads(visit.given("was"))
    except ValueError:
        return {}
    return was if isinstance(was, dict) else {}


def _phones(session: Session, visit: Visit, campaign: Campaign) -> list[PhoneName]:
    """The phones to choose from: those that may send, and those that are chosen already."""
    active = ownership.names(session, visit.me.user_id, active=True)
    chosen = _chosen(campaign)
    return [each for each in ownership.names(session, visit.me.user_id) if each in active or each.id in chosen]


def _chosen(campaign: Campaign) -> list[Any]:
    return campaign.devices if isinstance(campaign.devices, list) else [campaign.devices]


_OF_EACH = ("price", "my_id", "callback_url", "validity_period")
_TEXTS = ("name", "message", "sim_slot", *_OF_EACH, "rate_per_minute", "start_at", "end_at")
_RULES = ("hours", "stop_rule", "canary")


def _stored(visit: Visit, campaign: Campaign, phones: Sequence[PhoneName]) -> dict[str, Any]:
    """The settings as the fields of their form."""
    hours, rule, canary = campaign.hours or {}, campaign.stop_rule or {}, campaign.canary or {}
    of = "sent_share" if canary.get("sent_share") else "delivered_share"
    days = hours.get("days", DAYS)
    return {
        "name": campaign.name,
        "message": campaign.message.replace("\r\n", "\n").replace("\r", "\n"),
        "device_id": [str(phone.id) for phone in phones if phone.id in _chosen(campaign)],
        "sim_slot": "" if campaign.sim_slot is None else str(campaign.sim_slot),
        "price": "" if campaign.price is None else str(plain_number(campaign.price)),
        "my_id": campaign.my_id or "",
        "callback_url": campaign.callback_url or "",
        "validity_period": str(campaign.validity_period or ""),
        "rate_per_minute": str(campaign.rate_per_minute or ""),
        "start_at": local(campaign.start_at, visit.zone),
        "end_at": local(campaign.end_at, visit.zone),
        "hours": {
            "from": hours.get("from", ""),
            "to": hours.get("to", ""),
            "zone": hours.get("zone", OF_ACCOUNT),
            "days": [day for day in DAYS if day in days],
        },
        "stop_rule": {"failed_share": _per_cent(rule.get("failed_share")), "of_last": str(rule.get("of_last", ""))},
        "canary": {
            "first": str(canary.get("first", "")),
            "of": of,
            "share": _per_cent(canary.get(of)),
            "within_minutes": str(canary.get("within_minutes", "")),
        },
    }


def _per_cent(share: float | None) -> str:
    return "" if share is None else f"{share * _PER_CENT:.10g}"


def _typed(visit: Visit) -> dict[str, Any]:
    """As `_stored`, of what was typed; only of the fields that the form has."""
    typed: dict[str, Any] = {name: visit.given(name) for name in _TEXTS}
    typed |= {name: visit.nested(name) for name in _RULES}
    typed["device_id"] = visit.listed("device_id")
    typed["hours"] = {**typed["hours"], "days": ticked(typed["hours"].get("days"))}
    return {name: value for name, value in typed.items() if name in visit.form}


def _changed(visit: Visit, stored: dict[str, Any]) -> dict[str, Any]:
    """What was typed anew, as the API takes it. The form shows less than the API can set: seconds of a time, say."""
    typed = _typed(visit)
    values: dict[str, Any] = {name: visit.form[name] for name in typed}
    values |= {name: visit.moment(name) or None for name in ("start_at", "end_at") if name in typed}
    if isinstance(values.get("device_id"), list):
        values["device_id"] = typed["device_id"] or None
    if isinstance(values.get("hours"), dict):
        hours = typed["hours"]
        values["hours"] = hours if hours.get("from") or hours.get("to") else None
    if isinstance(values.get("stop_rule"), dict):
        values["stop_rule"] = _rule(typed["stop_rule"], "failed_share")
    if isinstance(values.get("canary"), dict):
        values["canary"] = _canary(typed["canary"])
    return {name: value for name, value in values.items() if typed[name] != stored[name]}


def _canary(typed: dict[str, Any]) -> dict[str, Any] | None:
    share = "sent_share" if typed.get("of") == "sent_share" else "delivered_share"
    rule = {name: typed.get(name) for name in ("first", "within_minutes")}
    return _rule({**rule, share: typed.get("share")}, share)


def _rule(typed: dict[str, Any], share: str) -> dict[str, Any] | None:
    """A rule with its share as a part of one; None where nothing of it is given."""
    given = {name: value for name, value in typed.items() if value}
    if not given:
        return None
    with suppress(KeyError, TypeError, ValueError):
        given[share] = float(given[share]) / _PER_CENT
    return given


_MISSING = marked("Fill this in too, or empty the other fields here.")
_PHONE_GONE = marked("One of these phones was removed; choose again.")
_NO_SHARE = marked("Enter more than 0 and at most 100 per cent.")
_WRONG = {"days": marked("Choose at least one day."), "share": _NO_SHARE, "failed_share": _NO_SHARE}


def _at_its_field(visit: Visit, error: Invalid) -> Invalid:
    """The form has one field for all phones and one for all days, and its shares are in per cent."""
    told: dict[str, list[str]] = {}
    for name, sentences in error.errors.items():
        rule, _, part = name.partition(".")
        field = {"delivered_share": "share", "sent_share": "share"}.get(part, part.partition(".")[0])
        if rule == "device_id":
            told[rule] = [_PHONE_GONE]
        elif rule not in _RULES or not part:
            told[name] = list(sentences)
        elif not visit.nested(rule).get(field):
            told[f"{rule}.{field}"] = [_MISSING]
        elif field in _WRONG:
            told[f"{rule}.{field}"] = [_WRONG[field]]
        else:
            spoken, short = name.replace("_", " "), field.replace("_", " ")
            told[f"{rule}.{field}"] = [each.replace(spoken, short) for each in sentences]
    return Invalid(told)


@router.post("/campaigns/{campaign}/recipients")
async def add_recipients(visit: SignedIn, campaign: str, request: Request) -> Response:
    """Recipients from a file, a list that was pasted, or groups."""
    try:
        added = await request.state.heavy.run(_add, visit, campaign)
    except AppError as error:
        return await run_in_threadpool(_campaign, visit, campaign, error)
    visit.form = {}  # what was typed is done with
    return await run_in_threadpool(partial(_campaign, visit, campaign, added=added))


def _add(visit: Visit, campaign: str) -> Added:
    require(visit.me, "campaigns", "bulk")
    if has_file(visit):
        with posted_file(visit) as upload:
            visit.form = dict(upload.fields)
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
        number = await run_in_threadpool(_save, visit, campaign)
        tried = await request.state.heavy.run(dry_run.count, visit.me, number)
    except AppError as error:
        return await run_in_threadpool(partial(_campaign, visit, campaign, error, typed=True))
    return await run_in_threadpool(partial(_campaign, visit, campaign, tried=tried))


def _save(visit: Visit, campaign: str) -> int:
    with transaction() as session:
        return _saved(session, visit, campaign).id


@router.post("/campaigns/{campaign}/test")
def test(visit: Posts, campaign: str) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        draft = read(TestDraft, {"recipient_number": visit.given("recipient_number")})
        with transaction() as session:
            sent = trial.send(session, visit.me, _saved(session, visit, campaign), draft)
    except AppError as error:
        return _campaign(visit, campaign, error, typed=True)
    return go(f"/messages/{sent['id']}")


@router.post("/campaigns/{campaign}/start")
def start(visit: Posts, campaign: str) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        with transaction() as session:
            hold(session, visit.me)
            found = _saved(session, visit, campaign)
            life.start(session, found, found.start_at)
    except AppError as error:
        return _campaign(visit, campaign, error, typed=True)
    return go(f"/campaigns/{row_id(campaign)}")


@router.post("/campaigns/{campaign}/pause")
def pause(visit: Posts, campaign: str) -> Response:
    try:
        stopping.pause(visit.me.user_id, campaign)
    except AppError as error:
        return _campaign(visit, campaign, error)
    return go(f"/campaigns/{row_id(campaign)}")


@router.post("/campaigns/{campaign}/cancel")
def cancel(visit: Posts, campaign: str) -> Response:
    try:
        stopping.cancel(visit.me.user_id, campaign)
    except AppError as error:
        return _campaign(visit, campaign, error)
    return go(f"/campaigns/{row_id(campaign)}?done=cancelled")


@router.post("/campaigns/{campaign}/resume")
def resume(visit: Posts, campaign: str) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        with transaction() as session:
            hold(session, visit.me)
            life.resume(session, records.find(session, visit.me.user_id, campaign, lock=True))
    except AppError as error:
        return _campaign(visit, campaign, error)
    return go(f"/campaigns/{row_id(campaign)}")


@router.post("/campaigns/{campaign}/retry")
def retry(visit: Posts, campaign: str) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        wanted_retry = visit.read(Retry)
        with transaction() as session:
            hold(session, visit.me)
            found = records.find(session, visit.me.user_id, campaign, lock=True)
            life.retry_failed(session, found, uncertain=wanted_retry.uncertain)
    except AppError as error:
        return _campaign(visit, campaign, error)
    return go(f"/campaigns/{row_id(campaign)}?done=queued")


@router.post("/campaigns/{campaign}/duplicate")
def duplicate(visit: Posts, campaign: str) -> Response:
    try:
        require(visit.me, "campaigns", "bulk")
        with transaction() as session:
            hold(session, visit.me)
            made = records.duplicate(session, records.find(session, visit.me.user_id, campaign)).id
    except AppError as error:
        return _campaign(visit, campaign, error)
    return go(f"/campaigns/{made}")


@router.post("/campaigns/{campaign}/delete")
def delete(visit: Posts, campaign: str) -> Response:
    try:
        with transaction() as session:
            records.remove(session, records.find(session, visit.me.user_id, campaign, lock=True))
    except AppError as error:
        return _campaign(visit, campaign, error)
    return go("/campaigns?done=removed")


@router.get("/campaigns/{campaign}/dry-run")
@router.get("/campaigns/{campaign}/test")
@router.get("/campaigns/{campaign}/start")
@router.get("/campaigns/{campaign}/pause")
@router.get("/campaigns/{campaign}/cancel")
@router.get("/campaigns/{campaign}/resume")
@router.get("/campaigns/{campaign}/retry")
@router.get("/campaigns/{campaign}/duplicate")
@router.get("/campaigns/{campaign}/delete")
def asked_already(visit: SignedIn, campaign: str) -> Response:
    """The address of a form's answer, entered again: the campaign's page."""
    return go(f"/campaigns/{_number(visit, campaign)}")
