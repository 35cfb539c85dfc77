"""Contacts and groups."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.contacts import book, exporting, from_file, groups
from app.contacts.models import ContactGroup
from app.contacts.schemas import (
    ContactChange,
    ContactFilter,
    ContactOut,
    ExportFilter,
    GroupChange,
    GroupFilter,
    GroupMembers,
    Imported,
    NewContact,
    NewGroup,
)
from app.core.database import transaction
from app.core.errors import AppError, Invalid
from app.core.pages import Paging
from app.core.validation import read, row_id
from app.web.lists import paging, wanted
from app.web.pages import PageRoute, go, page
from app.web.settings import zone_names
from app.web.visits import Posts, SignedIn, Visit, posted_file

router = APIRouter(include_in_schema=False, route_class=PageRoute)


def _contacts(visit: Visit, error: AppError | None = None) -> Response:
    with transaction() as session:
        try:
            found = wanted(visit, ContactFilter, "search", "group_id")
        except Invalid as refused:
            error, found = error or refused, ContactFilter()
        return page(
            visit,
            "contacts.html",
            error=error,
            data=book.page(session, visit.me.user_id, found, paging(visit, path="/contacts")),
            groups=groups.names(session, visit.me.user_id),
            search=visit.query("search"),
            group=visit.query("group_id"),
            imported=None,
        )


@router.get("/contacts")
def contacts(visit: SignedIn) -> Response:
    return _contacts(visit)


@router.post("/contacts")
def create(visit: Posts) -> Response:
    try:
        new = visit.read(NewContact)
        with transaction() as session:
            book.create(session, visit.me, new)
    except AppError as error:
        return _contacts(visit, error)
    return go("/contacts?done=saved")


@router.get("/contacts/export")
async def export(visit: SignedIn, request: Request) -> Response:
    """All contacts, or those of the filter, as CSV that Excel reads."""
    chosen = read(ExportFilter, {name: value for name in ("search", "group_id") if (value := visit.query(name))})
    return StreamingResponse(
        request.state.heavy.each(exporting.rows(visit.me.user_id, chosen, bom=True)),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="contacts.csv"'},
    )


@router.post("/contacts/import")
async def import_file(visit: SignedIn, request: Request) -> Response:
    """Contacts from a CSV or XLSX file."""
    try:
        imported = await request.state.heavy.run(_import, visit)
    except AppError as error:
        return await run_in_threadpool(_contacts, visit, error)
    return await run_in_threadpool(_imported, visit, imported)


def _import(visit: Visit) -> Imported:
    with posted_file(visit) as upload:
        visit.form = {**upload.fields}
        return from_file.read_in(visit.me, upload, upload.fields)


def _imported(visit: Visit, imported: Imported) -> Response:
    with transaction() as session:
        return page(
            visit,
            "contacts.html",
            data=book.page(session, visit.me.user_id, ContactFilter(), paging(visit, path="/contacts")),
            groups=groups.names(session, visit.me.user_id),
            search="",
            group="",
            imported=imported,
        )


@router.get("/contacts/{contact}")
def contact(visit: SignedIn, contact: str) -> Response:
    return _contact(visit, contact)


def _contact(visit: Visit, contact: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        found = book.shown(session, [book.find(session, visit.me.user_id, contact)])[0]
        mine = [group.id for group in found.groups]
        return page(
            visit,
            "contact.html",
            error=error,
            contact=found,
            was=visit.nested("was"),
            zones=zone_names(),
            groups=groups.names(session, visit.me.user_id),
            was_in=visit.listed("was_in") if error else mine,
            chosen=[str(group) for group in (visit.listed("group_ids") if error else mine)],
        )


@router.post("/contacts/{contact}")
def change(visit: Posts, contact: str) -> Response:
    try:
        new = read(ContactChange, {**visit.changed(), "group_ids": visit.listed("group_ids")})
        was_in = {row_id(str(group)) for group in visit.listed("was_in")}
        with transaction() as session:
            found = book.find(session, visit.me.user_id, contact, lock=True)
            # The page may be an old one: groups that the contact was put into meanwhile it keeps.
            now_in = {group.id for group in groups.of_contacts(session, [found.id])[found.id]}
            chosen = set(new.group_ids or ())
            new.group_ids = sorted((now_in - (was_in - chosen)) | (chosen - was_in))
            book.change(session, visit.me, found, new)
    except Invalid as error:
        return _contact(visit, contact, error)
    return go("/contacts?done=saved")


@router.post("/contacts/{contact}/delete")
def delete(visit: Posts, contact: str) -> Response:
    with transaction() as session:
        session.delete(book.find(session, visit.me.user_id, contact, lock=True))
    return go("/contacts?done=removed")


def _groups(visit: Visit, error: AppError | None = None) -> Response:
    with transaction() as session:
        found = wanted(visit, GroupFilter, "search")
        return page(
            visit,
            "groups.html",
            error=error,
            data=groups.page(session, visit.me.user_id, found.search, paging(visit)),
            search=found.search,
        )


@router.get("/groups")
def all_groups(visit: SignedIn) -> Response:
    return _groups(visit)


@router.post("/groups")
def create_group(visit: Posts) -> Response:
    try:
        new = visit.read(NewGroup)
        with transaction() as session:
            session.add(ContactGroup(user_id=visit.me.user_id, name=new.name))
    except AppError as error:
        return _groups(visit, error)
    return go("/groups?done=saved")


@router.get("/groups/{group}")
def group(visit: SignedIn, group: str) -> Response:
    return _group(visit, group)


def _group(visit: Visit, group: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        found = groups.find(session, visit.me.user_id, group)
        paged = paging(visit, path=f"/groups/{found.id}")
        members = book.page(session, visit.me.user_id, ContactFilter(group_id=found.id), paged)
        candidates: list[ContactOut] = []
        if search := visit.query("add").strip():
            filtered = ContactFilter(search=search[:255])
            candidates = book.page(session, visit.me.user_id, filtered, Paging(1, 20, "", ())).data
        return page(
            visit, "group.html", error=error, group=found, data=members, candidates=candidates, add=visit.query("add")
        )


@router.post("/groups/{group}")
def rename_group(visit: Posts, group: str) -> Response:
    try:
        new = visit.read(GroupChange)
        with transaction() as session:
            groups.change(session, groups.find(session, visit.me.user_id, group, lock=True), new)
    except Invalid as error:
        return _group(visit, group, error)
    return go(f"/groups/{group}?done=saved")


@router.post("/groups/{group}/delete")
def delete_group(visit: Posts, group: str) -> Response:
    with transaction() as session:
        session.delete(groups.find(session, visit.me.user_id, group, lock=True))
    return go("/groups?done=removed")


@router.post("/groups/{group}/contacts")
def add_members(visit: Posts, group: str) -> Response:
    try:
        new = visit.read(GroupMembers)
        with transaction() as session:
            found = groups.find(session, visit.me.user_id, group)
            groups.add(session, visit.me.user_id, found, new.contact_ids)
    except Invalid as error:
        return _group(visit, group, error)
    return go(f"/groups/{group}?done=saved")


@router.post("/groups/{group}/contacts/{contact}/remove")
def remove_member(visit: Posts, group: str, contact: str) -> Response:
    with transaction() as session:
        groups.remove(session, groups.find(session, visit.me.user_id, group), contact)
    return go(f"/groups/{group}?done=removed")
