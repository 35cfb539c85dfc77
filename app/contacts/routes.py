"""Contacts and groups in the public API."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse

from app.accounts.auth import can, can_alone
from app.accounts.principals import Principal
from app.contacts import book, exporting, from_file, groups, importing
from app.contacts.models import Contact, ContactGroup
from app.contacts.schemas import (
    ContactChange,
    ContactFilter,
    ContactImport,
    ContactOut,
    ExportFilter,
    FileImport,
    GroupChange,
    GroupFilter,
    GroupMembers,
    GroupOut,
    Imported,
    MembersAdded,
    NewContact,
    NewGroup,
)
from app.core.dependencies import PagingDep, SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.pages import Page
from app.core.refusals import refuses
from app.files.uploads import LargeOrFile

router = APIRouter(prefix="/api", tags=["Contacts"])

# What an answer's `message` says.
CONTACT_CREATED = "Contact created successfully"
IMPORTED_CONTACTS = "Imported {n} contacts"
CONTACT_UPDATED = "Contact updated successfully"
CONTACT_DELETED = "Contact deleted successfully"
GROUP_CREATED = "Contact group created successfully"
GROUP_UPDATED = "Contact group updated successfully"
GROUP_DELETED = "Contact group deleted successfully"
CONTACTS_ADDED = "Contacts added to the group"
CONTACT_REMOVED = "Contact removed from the group"

ContactId = Annotated[
    str, Path(description="The contact's number", examples=["12"], json_schema_extra={"model": book.MODEL})
]
GroupId = Annotated[
    str, Path(description="The group's number", examples=["3"], json_schema_extra={"model": groups.MODEL})
]
Owner = Annotated[Principal, Depends(can("contacts"))]
OwnerAlone = Annotated[Principal, Depends(can_alone("contacts"))]


def contact_of(session: SessionDep, user: Owner, contact_id: ContactId) -> Contact:
    return book.find(session, user.user_id, contact_id)


def group_of(session: SessionDep, user: Owner, group_id: GroupId) -> ContactGroup:
    return groups.find(session, user.user_id, group_id)


def contact_to_change(session: SessionDep, user: Owner, contact_id: ContactId) -> Contact:
    return book.find(session, user.user_id, contact_id, lock=True)


def group_to_change(session: SessionDep, user: Owner, group_id: GroupId) -> ContactGroup:
    return groups.find(session, user.user_id, group_id, lock=True)


OneContact = Annotated[Contact, Depends(contact_of)]
OneGroup = Annotated[ContactGroup, Depends(group_of)]
LockedContact = Annotated[Contact, Depends(contact_to_change)]
LockedGroup = Annotated[ContactGroup, Depends(group_to_change)]


@router.get("/contacts")
def list_contacts(
    session: SessionDep, user: Owner, paging: PagingDep, wanted: Annotated[ContactFilter, Query()]
) -> Envelope[Page[ContactOut]]:
    """List your contacts, newest first."""
    return Envelope(data=book.page(session, user.user_id, wanted, paging))


@router.post("/contacts", status_code=201, response_description=CONTACT_CREATED)
def create_contact(session: SessionDep, user: Owner, body: NewContact) -> MessageEnvelope[ContactOut]:
    """Add a contact. Each number can exist once."""
    contact = book.create(session, user, body)
    return MessageEnvelope(data=book.shown(session, [contact])[0], message=CONTACT_CREATED)


@router.post(
    "/contacts/import", status_code=201, response_description=IMPORTED_CONTACTS.format(n=42), responses=refuses(429)
)
async def import_contacts(
    user: OwnerAlone,
    request: Request,
    wanted: Annotated[FileImport, Query()],
    body: Annotated[ContactImport | None, Depends(LargeOrFile(ContactImport))],
) -> MessageEnvelope[Imported]:
    """Add or update up to 100,000 contacts, and add them to a group if you name one.

    The body is JSON, a CSV or XLSX file, or a form with the file in its field `file`. In a file, columns are found by
    their headers in many languages, and the numbers by their content; name the columns in the query, or in the form,
    if you know better. An empty cell leaves the contact's value as it is.
    """
    if body is None:
        work = partial(from_file.take_in, user, request.state.file, request.state.content_type, wanted)
    else:
        work = partial(importing.take_in, user, body, wanted.group_id)
    data = await request.state.heavy.run(work)
    return MessageEnvelope(data=data, message=IMPORTED_CONTACTS.format(n=data.imported))


@router.get(
    "/contacts/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}, "example": exporting.EXAMPLE}}},
        **refuses(429),
    },
)
async def export_contacts(
    user: OwnerAlone, request: Request, wanted: Annotated[ExportFilter, Query()]
) -> StreamingResponse:
    """Download your contacts as CSV, filtered if you like. Import accepts the same columns.

    Every field is quoted. Text that a spreadsheet would run as a formula is prefixed with an apostrophe.
    """
    return StreamingResponse(
        request.state.heavy.each(exporting.rows(user.user_id, wanted, bom=wanted.bom)),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="contacts.csv"'},
    )


@router.get("/contacts/{contact_id}")
def show_contact(session: SessionDep, contact: OneContact) -> Envelope[ContactOut]:
    """Show one contact."""
    return Envelope(data=book.shown(session, [contact])[0])


@router.put("/contacts/{contact_id}", response_description=CONTACT_UPDATED)
@router.patch("/contacts/{contact_id}", summary="Change contact (PATCH)", response_description=CONTACT_UPDATED)
def change_contact(
    session: SessionDep, user: Owner, contact: LockedContact, body: ContactChange
) -> MessageEnvelope[ContactOut]:
    """Change the given fields; null clears a field, `group_ids` replaces the groups."""
    book.change(session, user, contact, body)
    return MessageEnvelope(data=book.shown(session, [contact])[0], message=CONTACT_UPDATED)


@router.delete("/contacts/{contact_id}", response_description=CONTACT_DELETED)
def delete_contact(session: SessionDep, contact: LockedContact) -> Done:
    """Delete a contact. Its messages are kept."""
    session.delete(contact)
    return Done(message=CONTACT_DELETED)


@router.get("/contact-groups")
def list_groups(
    session: SessionDep, user: Owner, paging: PagingDep, wanted: Annotated[GroupFilter, Query()]
) -> Envelope[Page[GroupOut]]:
    """List your groups, newest first."""
    return Envelope(data=groups.page(session, user.user_id, wanted.search, paging))


@router.post("/contact-groups", status_code=201, response_description=GROUP_CREATED)
def create_group(session: SessionDep, user: Owner, body: NewGroup) -> MessageEnvelope[GroupOut]:
    """Create a group."""
    group = ContactGroup(user_id=user.user_id, name=body.name)
    session.add(group)
    session.flush()
    return MessageEnvelope(data=groups.shown(session, [group])[0], message=GROUP_CREATED)


@router.get("/contact-groups/{group_id}")
def show_group(session: SessionDep, group: OneGroup) -> Envelope[GroupOut]:
    """Show one group."""
    return Envelope(data=groups.shown(session, [group])[0])


@router.put("/contact-groups/{group_id}", response_description=GROUP_UPDATED)
@router.patch("/contact-groups/{group_id}", summary="Change group (PATCH)", response_description=GROUP_UPDATED)
def change_group(session: SessionDep, group: LockedGroup, body: GroupChange) -> MessageEnvelope[GroupOut]:
    """Rename a group."""
    groups.change(session, group, body)
    return MessageEnvelope(data=groups.shown(session, [group])[0], message=GROUP_UPDATED)


@router.delete("/contact-groups/{group_id}", response_description=GROUP_DELETED)
def delete_group(session: SessionDep, group: LockedGroup) -> Done:
    """Delete a group. Its contacts are kept."""
    session.delete(group)
    return Done(message=GROUP_DELETED)


@router.get("/contact-groups/{group_id}/contacts")
def list_members(session: SessionDep, user: Owner, group: OneGroup, paging: PagingDep) -> Envelope[Page[ContactOut]]:
    """List the contacts in a group, newest first."""
    return Envelope(data=book.page(session, user.user_id, ContactFilter(group_id=group.id), paging))


@router.post("/contact-groups/{group_id}/contacts", response_description=CONTACTS_ADDED)
def add_members(session: SessionDep, user: Owner, group: OneGroup, body: GroupMembers) -> MessageEnvelope[MembersAdded]:
    """Add contacts to a group. Existing members stay."""
    added = groups.add(session, user.user_id, group, body.contact_ids)
    return MessageEnvelope(data=MembersAdded(added=added), message=CONTACTS_ADDED)


@router.delete("/contact-groups/{group_id}/contacts/{contact_id}", response_description=CONTACT_REMOVED)
def remove_member(session: SessionDep, group: OneGroup, contact_id: ContactId) -> Done:
    """Remove a contact from a group. The contact is kept."""
    groups.remove(session, group, contact_id)
    return Done(message=CONTACT_REMOVED)
