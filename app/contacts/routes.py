"""Contacts and groups in the public API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from app.accounts.auth import Principal, can, can_alone
from app.contacts import book, exporting, groups, importing
from app.contacts.models import Contact, ContactGroup
from app.contacts.schemas import (
    ContactChange,
    ContactFilter,
    ContactOut,
    ExportFilter,
    GroupChange,
    GroupFilter,
    GroupOut,
    Import,
    Imported,
    Members,
    MembersAdded,
    NewContact,
    NewGroup,
)
from app.core.database import SessionDep, transaction
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.pages import Page, PagingDep
from app.core.validation import large

router = APIRouter(prefix="/api", tags=["Contacts"])

Owner = Annotated[Principal, Depends(can("contacts"))]
OwnerAlone = Annotated[Principal, Depends(can_alone("contacts"))]


def contact_of(session: SessionDep, user: Owner, contact_id: str) -> Contact:
    return book.find(session, user.user_id, contact_id)


def group_of(session: SessionDep, user: Owner, group_id: str) -> ContactGroup:
    return groups.find(session, user.user_id, group_id)


def contact_to_change(session: SessionDep, user: Owner, contact_id: str) -> Contact:
    return book.find(session, user.user_id, contact_id, lock=True)


def group_to_change(session: SessionDep, user: Owner, group_id: str) -> ContactGroup:
    return groups.find(session, user.user_id, group_id, lock=True)


OneContact = Annotated[Contact, Depends(contact_of)]
OneGroup = Annotated[ContactGroup, Depends(group_of)]
LockedContact = Annotated[Contact, Depends(contact_to_change)]
LockedGroup = Annotated[ContactGroup, Depends(group_to_change)]


@router.get("/contacts")
def list_contacts(
    session: SessionDep, user: Owner, paging: PagingDep, wanted: Annotated[ContactFilter, Query()]
) -> Envelope[Page[ContactOut]]:
    """Your contacts, newest first."""
    return Envelope(data=book.page(session, user.user_id, wanted, paging))


@router.post("/contacts", status_code=201)
def create_contact(session: SessionDep, user: Owner, body: NewContact) -> MessageEnvelope[ContactOut]:
    """Add a contact. A number can be there once."""
    contact = book.create(session, user, body)
    return MessageEnvelope(data=book.shown(session, [contact])[0], message="Contact created successfully")


@router.post("/contacts/import", status_code=201)
async def import_contacts(
    user: OwnerAlone, request: Request, body: Annotated[Import, Depends(large(Import))]
) -> MessageEnvelope[Imported]:
    """Add or update up to 100,000 contacts, and put them into a group where you name one."""
    data = await request.state.heavy.run(_import, user, body)
    return MessageEnvelope(data=data, message=f"Imported {data.imported} contacts")


def _import(user: Principal, body: Import) -> Imported:
    judged = importing.judge(body, user.default_region)
    with transaction() as session:
        importing.merge(session, user.user_id, judged.rows, body.group_id)
    return Imported(imported=len(judged.rows), skipped=judged.skipped, skipped_rows=judged.skipped_rows)


@router.get(
    "/contacts/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": exporting.EXAMPLE}}}},
)
async def export_contacts(
    user: OwnerAlone, request: Request, wanted: Annotated[ExportFilter, Query()]
) -> StreamingResponse:
    """Your contacts as CSV, all or those that the filters leave. An import takes the same columns.

    Every field is quoted. Text that a spreadsheet would run as a formula has an apostrophe in front of it.
    """
    return StreamingResponse(
        request.state.heavy.each(exporting.rows(user.user_id, wanted, bom=wanted.bom)),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="contacts.csv"'},
    )


@router.get("/contacts/{contact_id}")
def show_contact(session: SessionDep, contact: OneContact) -> Envelope[ContactOut]:
    """One contact."""
    return Envelope(data=book.shown(session, [contact])[0])


@router.put("/contacts/{contact_id}")
@router.patch("/contacts/{contact_id}")
def change_contact(
    session: SessionDep, user: Owner, contact: LockedContact, body: ContactChange
) -> MessageEnvelope[ContactOut]:
    """Change what the request names; null clears a field, `group_ids` replaces the groups."""
    book.change(session, user, contact, body)
    return MessageEnvelope(data=book.shown(session, [contact])[0], message="Contact updated successfully")


@router.delete("/contacts/{contact_id}")
def delete_contact(session: SessionDep, contact: LockedContact) -> Done:
    """Delete a contact. Its messages stay."""
    session.delete(contact)
    return Done(message="Contact deleted successfully")


@router.get("/contact-groups")
def list_groups(
    session: SessionDep, user: Owner, paging: PagingDep, wanted: Annotated[GroupFilter, Query()]
) -> Envelope[Page[GroupOut]]:
    """Your groups, newest first."""
    return Envelope(data=groups.page(session, user.user_id, wanted.search, paging))


@router.post("/contact-groups", status_code=201)
def create_group(session: SessionDep, user: Owner, body: NewGroup) -> MessageEnvelope[GroupOut]:
    """Make a group."""
    group = ContactGroup(user_id=user.user_id, name=body.name)
    session.add(group)
    session.flush()
    return MessageEnvelope(data=groups.shown(session, [group])[0], message="Contact group created successfully")


@router.get("/contact-groups/{group_id}")
def show_group(session: SessionDep, group: OneGroup) -> Envelope[GroupOut]:
    """One group."""
    return Envelope(data=groups.shown(session, [group])[0])


@router.put("/contact-groups/{group_id}")
@router.patch("/contact-groups/{group_id}")
def change_group(session: SessionDep, group: LockedGroup, body: GroupChange) -> MessageEnvelope[GroupOut]:
    """Rename a group."""
    groups.change(session, group, body)
    return MessageEnvelope(data=groups.shown(session, [group])[0], message="Contact group updated successfully")


@router.delete("/contact-groups/{group_id}")
def delete_group(session: SessionDep, group: LockedGroup) -> Done:
    """Delete a group. Its contacts stay."""
    session.delete(group)
    return Done(message="Contact group deleted successfully")


@router.get("/contact-groups/{group_id}/contacts")
def list_members(session: SessionDep, user: Owner, group: OneGroup, paging: PagingDep) -> Envelope[Page[ContactOut]]:
    """The contacts in a group, newest first."""
    return Envelope(data=book.page(session, user.user_id, ContactFilter(group_id=group.id), paging))


@router.post("/contact-groups/{group_id}/contacts")
def add_members(session: SessionDep, user: Owner, group: OneGroup, body: Members) -> MessageEnvelope[MembersAdded]:
    """Put contacts into a group. Those in it already stay."""
    added = groups.add(session, user.user_id, group, body.contact_ids)
    return MessageEnvelope(data=MembersAdded(added=added), message="Contacts added to the group")


@router.delete("/contact-groups/{group_id}/contacts/{contact_id}")
def remove_member(session: SessionDep, group: OneGroup, contact_id: str) -> Done:
    """Take a contact out of a group. The contact stays."""
    groups.remove(session, group, contact_id)
    return Done(message="Contact removed from the group")
