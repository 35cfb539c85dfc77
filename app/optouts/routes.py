"""Opt-outs in the public API."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from app.accounts.auth import can, can_alone
from app.accounts.principals import Principal, hold
from app.core.dependencies import PagingDep, SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.pages import Page
from app.core.refusals import refuses
from app.files.uploads import LargeOrFile
from app.optouts import book, exporting, importing, settings
from app.optouts.models import OptOut
from app.optouts.schemas import (
    NewOptOut,
    OptOutExport,
    OptOutFileImport,
    OptOutFilter,
    OptOutImport,
    OptOutOut,
    OptOutSettingsChange,
    OptOutSettingsOut,
    OptOutsImported,
)

router = APIRouter(prefix="/api", tags=["Opt-outs"])

# What an answer's `message` says.
OPTED_OUT = "The number has opted out"
OPTED_IN = "The number may be sent to again"
IMPORTED_OPT_OUTS = "Imported {n} opt-outs"
SETTINGS_UPDATED = "Opt-out settings updated successfully"

OptOutId = Annotated[
    str, Path(description="The opt-out's number", examples=["4"], json_schema_extra={"model": book.MODEL})
]
Owner = Annotated[Principal, Depends(can("contacts"))]
OwnerAlone = Annotated[Principal, Depends(can_alone("contacts"))]


def opt_out_of(session: SessionDep, user: Owner, opt_out_id: OptOutId) -> OptOut:
    return book.find(session, user.user_id, opt_out_id)


@router.get("/opt-outs")
def list_opt_outs(
    session: SessionDep, user: Owner, paging: PagingDep, wanted: Annotated[OptOutFilter, Query()]
) -> Envelope[Page[OptOutOut]]:
    """List the numbers that have opted out of your messages, newest first."""
    return Envelope(data=book.page(session, user.user_id, wanted, paging))


@router.post("/opt-outs", status_code=201, summary="Opt a number out", response_description=OPTED_OUT)
def create_opt_out(session: SessionDep, user: Owner, body: NewOptOut) -> MessageEnvelope[OptOutOut]:
    """Send nothing more to a number. What waits for it is cancelled, and phones are asked for what they have.

    A number that has opted out already stays as it is.
    """
    return MessageEnvelope(data=book.shown(book.create(session, user, body)), message=OPTED_OUT)


@router.post(
    "/opt-outs/import",
    status_code=201,
    summary="Import opt-outs",
    response_description=IMPORTED_OPT_OUTS.format(n=42),
    responses=refuses(429),
)
async def import_opt_outs(
    user: OwnerAlone,
    request: Request,
    wanted: Annotated[OptOutFileImport, Query()],
    body: Annotated[OptOutImport | None, Depends(LargeOrFile(OptOutImport))],
) -> MessageEnvelope[OptOutsImported]:
    """Opt out up to 100,000 numbers.

    The body is JSON, a CSV or XLSX file, or a form with the file in its field `file`, as for contacts.
    """
    if body is None:
        work = partial(importing.take_in_file, user, request.state.file, request.state.content_type, wanted)
    else:
        work = partial(importing.take_in, user, body)
    data = await request.state.heavy.run(work)
    return MessageEnvelope(data=data, message=IMPORTED_OPT_OUTS.format(n=data.added))


@router.get(
    "/opt-outs/export",
    response_class=StreamingResponse,
    summary="Export opt-outs",
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": exporting.EXAMPLE}}},
        **refuses(429),
    },
)
async def export_opt_outs(
    user: OwnerAlone, request: Request, wanted: Annotated[OptOutExport, Query()]
) -> StreamingResponse:
    """Download the numbers that have opted out as CSV, filtered if you like. Import accepts the same file."""
    return StreamingResponse(
        request.state.heavy.each(exporting.rows(user.user_id, wanted, bom=wanted.bom)),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="opt-outs.csv"'},
    )


@router.get("/opt-outs/settings", summary="Show opt-out settings")
def show_settings(session: SessionDep, user: Owner) -> Envelope[OptOutSettingsOut]:
    """Show which received texts opt out and in, and what is answered to them."""
    return Envelope(data=settings.of_account(session, user.user_id))


@router.put("/opt-outs/settings", summary="Change opt-out settings", response_description=SETTINGS_UPDATED)
@router.patch("/opt-outs/settings", summary="Change opt-out settings (PATCH)", response_description=SETTINGS_UPDATED)
def change_settings(session: SessionDep, user: Owner, body: OptOutSettingsChange) -> MessageEnvelope[OptOutSettingsOut]:
    """Change the given settings; null restores a default."""
    hold(session, user)
    return MessageEnvelope(data=settings.change(session, user.user_id, body.given()), message=SETTINGS_UPDATED)


@router.get("/opt-outs/{opt_out_id}", summary="Show opt-out")
def show_opt_out(opt_out: Annotated[OptOut, Depends(opt_out_of)]) -> Envelope[OptOutOut]:
    """Show one opt-out."""
    return Envelope(data=book.shown(opt_out))


@router.delete("/opt-outs/{opt_out_id}", summary="Remove opt-out", response_description=OPTED_IN)
def remove_opt_out(session: SessionDep, user: Owner, opt_out_id: OptOutId) -> Done:
    """Let a number be sent to again. What was cancelled stays cancelled."""
    book.remove(session, user.user_id, opt_out_id)
    return Done(message=OPTED_IN)
