"""Opt-outs: the numbers that get nothing more, and which texts make them so."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.accounts.principals import hold
from app.core.database import transaction
from app.core.errors import AppError, Invalid
from app.core.validation import read
from app.optouts import book, exporting, importing
from app.optouts import settings as words_of
from app.optouts.schemas import NewOptOut, OptOutExport, OptOutFilter, OptOutSettingsChange, OptOutsImported
from app.web.lists import paging, wanted
from app.web.pages import PageRoute, go, in_one_field, page
from app.web.visits import Posts, SignedIn, Visit, posted_file

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_REPLIES = ("opt_out_reply", "opt_in_reply", "help_reply")
_WORDS = ("opt_out_words", "opt_in_words")


def _opt_outs(
    visit: Visit, error: AppError | None = None, part: str = "", imported: OptOutsImported | None = None
) -> Response:
    with transaction() as session:
        try:
            found = wanted(visit, OptOutFilter, "search", "by")
        except Invalid as refused:
            error, found = error or refused, OptOutFilter()
        return page(
            visit,
            "opt_outs.html",
            error=error,
            part=part,
            data=book.page(session, visit.me.user_id, found, paging(visit, path="/opt-outs")),
            settings=words_of.of_account(session, visit.me.user_id),
            imported=imported,
            search=visit.query("search"),
            by=visit.query("by"),
        )


@router.get("/opt-outs")
def opt_outs(visit: SignedIn) -> Response:
    return _opt_outs(visit)


@router.post("/opt-outs")
def create(visit: Posts) -> Response:
    try:
        new = visit.read(NewOptOut)
        with transaction() as session:
            book.create(session, visit.me, new)
    except AppError as error:
        return _opt_outs(visit, error)
    return go("/opt-outs?done=saved")


@router.get("/opt-outs/export")
async def export(visit: SignedIn, request: Request) -> Response:
    chosen = read(OptOutExport, {name: value for name in ("search", "by") if (value := visit.query(name))})
    return StreamingResponse(
        request.state.heavy.each(exporting.rows(visit.me.user_id, chosen, bom=True)),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="opt-outs.csv"'},
    )


@router.post("/opt-outs/import")
async def import_file(visit: SignedIn, request: Request) -> Response:
    try:
        imported = await request.state.heavy.run(_import, visit)
    except AppError as error:
        return await run_in_threadpool(_opt_outs, visit, error)
    return await run_in_threadpool(_opt_outs, visit, None, "", imported)


def _import(visit: Visit) -> OptOutsImported:
    with posted_file(visit) as upload:
        visit.form = {**upload.fields}
        return importing.read_in(visit.me, upload, upload.fields)


@router.post("/opt-outs/settings")
def change_settings(visit: Posts) -> Response:
    try:
        values = {name: visit.given(name) or None for name in _REPLIES}
        words: dict[str, list[str] | None] = {name: _lines(visit.given(name)) for name in _WORDS}
        if not words["opt_in_words"] and visit.given("built_in_opt_in") == "1":
            words["opt_in_words"] = None
        switches = {name: visit.given(name) for name in ("keywords", "events")}
        chosen = read(OptOutSettingsChange, {**values, **switches, **words})
        with transaction() as session:
            hold(session, visit.me)
            words_of.change(session, visit.me.user_id, chosen.given())
    except AppError as error:
        return _opt_outs(visit, in_one_field(error, *_WORDS), "settings")
    return go("/opt-outs?done=saved")


def _lines(typed: str) -> list[str]:
    return [line.strip() for line in typed.splitlines() if line.strip()]


@router.post("/opt-outs/{number}/remove")
def remove(visit: Posts, number: str) -> Response:
    with transaction() as session:
        book.remove(session, visit.me.user_id, number)
    return go("/opt-outs?done=removed")
