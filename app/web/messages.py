"""Sending, and what became of messages."""

import base64
import hashlib
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.accounts.principals import hold
from app.contacts import book, groups
from app.core.database import transaction
from app.core.errors import AppError, Invalid, NotFound
from app.core.numbers import explain_refusal, normalize_number
from app.core.security import parse_token, random_text
from app.core.validation import read
from app.devices import ownership
from app.messages import attachments, exporting, queries
from app.messages.accepting import bulk, intake, later, requests
from app.messages.accepting.preview import preview
from app.messages.life import cancelling, editing, retrying, timeline, transitions
from app.messages.life.transitions import Change
from app.messages.lookup import MODEL, find
from app.messages.queries import MessageFilter
from app.messages.schemas import BulkDraft, PreviewDraft, SmsChange, SmsDraft
from app.messages.states import Event, Status
from app.web import texts
from app.web.lists import moments, paging
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit
from app.web.words import marked, said, speaking

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_LEFT_OUT_SHOWN = 100
KEY_LENGTH = 32
SEPARATORS = re.compile(r"[\n,;]+")
# What a browser shows in its own place; anything else is only to be saved.
_PICTURES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_ENDED = "default-src 'none'; sandbox"


@router.get("/send")
def send_page(visit: SignedIn) -> Response:
    return _send(visit)


def _send(visit: Visit, error: AppError | None = None) -> Response:
    with transaction() as session:
        return page(
            visit,
            "send.html",
            error=error,
            phones=ownership.names(session, visit.me.user_id, active=True),
            groups=groups.every(session, visit.me.user_id),
            templates=texts.choices(session, visit),
            taken=texts.taken(session, visit),
            chosen=[str(group) for group in visit.listed("group_ids")],
            to=visit.given("recipients") or visit.query("to"),
            # Of this page: sending it twice sends once.
            key=visit.given("key") or random_text(KEY_LENGTH),
        )


@router.post("/send/preview")
def preview_text(visit: Posts) -> Response:
    """What the text comes to as it is typed."""
    text = visit.given("message")
    if not text.strip():
        return page(visit, "send_preview.html", preview=None, wrong={})
    try:
        with transaction() as session:
            shown = preview(session, visit.me.user_id, read(PreviewDraft, {"message": text}))
    except Invalid as error:
        return page(visit, "send_preview.html", preview=None, wrong=error.errors)
    return page(visit, "send_preview.html", preview=shown, wrong={})


@router.post("/send")
async def send(visit: Posts, request: Request) -> Response:
    recipients = [part.strip() for part in SEPARATORS.split(visit.given("recipients")) if part.strip()]
    shared: dict[str, Any] = {name: visit.given(name) for name in ("message", "device_id", "sim_slot")}
    shared["send_at"] = visit.moment("send_at")
    # Nothing of a template's text is sent unfilled.
    shared |= {"fields": {}} if visit.given("template") else {}
    try:
        if len(recipients) == 1 and not visit.listed("group_ids"):
            single = {"recipient_number": recipients[0], "ignore_opt_out": visit.given("ignore_opt_out")}
            message = await run_in_threadpool(send_one, visit, shared | single)
            return go(f"/messages/{message}")
        draft = read(
            BulkDraft,
            {
                **shared,
                "recipients": recipients or None,
                "group_ids": visit.listed("group_ids") or None,
                "skip_invalid": visit.given("skip_invalid") or None,
            },
        )
        key, digest = _once(visit)
        accepted = await request.state.heavy.run(lambda: bulk.sent(visit.me, draft, key, digest))
    except AppError as error:
        return await run_in_threadpool(_send, visit, _at_its_field(visit, error, recipients))
    return await run_in_threadpool(_sent, visit, recipients, accepted)


def _sent(visit: Visit, recipients: Sequence[str], accepted: bulk.Accepted) -> Response:
    skipped = accepted.skipped
    return page(
        visit,
        "sent.html",
        queued=len(accepted.ids),
        left_out=[(each.get("number") or recipients[each["index"]], each) for each in skipped[:_LEFT_OUT_SHOWN]],
        left_out_more=len(skipped[_LEFT_OUT_SHOWN:]),
    )


def send_one(visit: Visit, values: dict[str, Any]) -> int:
    if "fields" in values:
        values["fields"] = _name_of(visit, values["recipient_number"])
    key, digest = _once(visit)
    item = requests.Send(
        credentials=parse_token(visit.anchor),
        draft=read(SmsDraft, values),
        idempotency_key=key,
        request_hash=digest,
    )
    with transaction() as session:
        sent: int = intake.accept_one(session, item)["id"]
    return sent


def _name_of(visit: Visit, recipient: str) -> dict[str, str]:
    """What a template's text can say of the recipient: the contact's name."""
    number = normalize_number(recipient, visit.me.default_region)
    with transaction() as session:
        name = book.names_of(session, visit.me.user_id, [number]).get(number) if number else None
    return {"name": name} if name else {}


def _once(visit: Visit) -> tuple[str | None, bytes]:
    """The key of the page that was sent, and what stands for its content."""
    key = visit.given("key")
    return (f"page-{key}" if key else None), hashlib.sha256(repr(sorted(visit.form.items())).encode()).digest()


_PAST = marked("This time is over. Choose one in the future, or none.")


def _at_its_field(visit: Visit, error: AppError, recipients: Sequence[str] = ()) -> AppError:
    """The page has one field for all recipients, whom it names as typed. Times are of the account's clock."""
    if not isinstance(error, Invalid):
        return error
    named: dict[str, list[str]] = {}
    for name, sentences in error.errors.items():
        field, _, place = name.partition(".")
        told = [_PAST if each == later.PAST else each for each in sentences]
        if field == "recipients" and place.isdigit():
            typed = recipients[int(place)]
            with speaking(visit.language):
                told = [f"{typed}: {said(explain_refusal(typed, visit.me.default_region))}"]
        elif field in {"recipient_number", "group_ids"}:
            field = "recipients"
        named.setdefault(field, []).extend(told)
    return Invalid(named)


@router.get("/messages")
def messages(visit: SignedIn) -> Response:
    context: dict[str, Any] = {"live": "messages"}
    error = None
    with transaction() as session:
        context["phones"] = ownership.names(session, visit.me.user_id)
        try:
            context["data"] = queries.page(session, visit.me, _filter(visit), paging(visit))
        except Invalid as refused:
            error, context["data"] = refused, None
        visit.form = {**visit.request.query_params}
        template = "messages_rows.html" if visit.is_htmx else "messages.html"
        return page(visit, template, error=error, **context)


def _filter(visit: Visit) -> MessageFilter:
    """What the address asks for; its days are those of the account's clock. Raises `Invalid`."""
    names = ("direction", "status", "device_id", "number", "my_id", "search", "cursor")
    values = {name: visit.query(name) for name in names} | moments(visit)
    return read(MessageFilter, {name: value for name, value in values.items() if value.strip()})


@router.get("/messages/export")
async def export(visit: SignedIn, request: Request) -> Response:
    """The messages of the filter, as CSV that Excel reads."""
    parts = exporting.rows(visit.me, _filter(visit), bom=True)
    first = await request.state.heavy.run(next, parts)
    return StreamingResponse(
        request.state.heavy.each(chain((first,), parts)),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="messages.csv"'},
    )


@router.get("/messages/{message}")
def message(visit: SignedIn, message: str) -> Response:
    return _message(visit, message)


def _message(visit: Visit, message: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        return page(visit, "message.html", error=error, live="messages", **_life(visit, session, message))


@router.get("/messages/{message}/life")
def life(visit: SignedIn, message: str) -> Response:
    with transaction() as session:
        return page(visit, "message_life.html", **_life(visit, session, message))


def _life(visit: Visit, session: Any, message: str) -> dict[str, Any]:
    row = find(session, visit.me.user_id, message)
    told = timeline.of(session, row)
    return {
        "message": row,
        "life": told,
        "may_retry": row["status"] == Status.FAILED,
        "may_cancel": row["status"] == Status.PENDING,
    }


@router.post("/messages/{message}/send-at")
def reschedule(visit: Posts, message: str) -> Response:
    try:
        wanted = read(SmsChange, {"send_at": visit.moment("send_at")})
        with transaction() as session:
            row = find(session, visit.me.user_id, message)
            editing.change(session, row, wanted)
    except Invalid as error:
        return _message(visit, message, _at_its_field(visit, error))
    return go(f"/messages/{row['id']}?done=saved")


@router.post("/messages/{message}/cancel")
async def cancel(visit: Posts, message: str) -> Response:
    number = await cancelling.cancel(visit.me.user_id, message)
    return go(f"/messages/{number}?done=cancelled")


@router.post("/messages/{message}/retry")
def retry(visit: Posts, message: str) -> Response:
    with transaction() as session:
        hold(session, visit.me)
        row = find(session, visit.me.user_id, message)
        retrying.retry(session, row)
    return go(f"/messages/{row['id']}?done=queued")


@router.post("/messages/{message}/delete")
def delete(visit: Posts, message: str) -> Response:
    with transaction() as session:
        row = find(session, visit.me.user_id, message)
        transitions.apply(session, [Change(row["id"], Event.DELETED)])
    return go("/messages?done=removed")


@router.get("/messages/{message}/parts/{place}")
def part(visit: SignedIn, message: str, place: str) -> Response:
    """One part of an MMS: a picture is shown, anything else is saved. Neither runs as a page of ours."""
    with transaction() as session:
        parts = attachments.whole(session, find(session, visit.me.user_id, message))
    number = int(place) if place.isascii() and place.isdigit() and len(place) < 6 else -1  # noqa: PLR2004 - of few parts
    data = parts[number].get("data") if 0 <= number < len(parts) else None
    try:
        content = base64.b64decode(data or "")
    except ValueError:  # it is kept as the phone posted it
        content = b""
    if not content:
        raise NotFound(MODEL)
    kind = str(parts[number].get("content_type") or "").lower()
    headers = {"Content-Security-Policy": _ENDED, "Content-Disposition": "inline"}
    if kind not in _PICTURES:
        kind, headers["Content-Disposition"] = "application/octet-stream", "attachment"
    return Response(content, media_type=kind, headers=headers)
