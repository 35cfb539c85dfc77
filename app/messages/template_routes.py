"""Templates in the public API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from app.accounts.auth import can
from app.accounts.principals import Principal
from app.core.dependencies import PagingDep, SessionDep
from app.core.envelope import Done, Envelope, MessageEnvelope
from app.core.pages import Page
from app.messages import templates
from app.messages.models import Template
from app.messages.schemas import NewTemplate, TemplateChange, TemplateFilter, TemplateOut

router = APIRouter(prefix="/templates")

# What an answer's `message` says.
TEMPLATE_CREATED = "Template created successfully"
TEMPLATE_UPDATED = "Template updated successfully"
TEMPLATE_DELETED = "Template deleted successfully"

TemplateId = Annotated[
    str, Path(description="The template's number", examples=["7"], json_schema_extra={"model": templates.MODEL})
]
Sender = Annotated[Principal, Depends(can("sms:send"))]


def template_of(session: SessionDep, user: Sender, template_id: TemplateId) -> Template:
    return templates.find(session, user.user_id, template_id)


def template_to_change(session: SessionDep, user: Sender, template_id: TemplateId) -> Template:
    return templates.find(session, user.user_id, template_id, lock=True)


OneTemplate = Annotated[Template, Depends(template_of)]
LockedTemplate = Annotated[Template, Depends(template_to_change)]


@router.get("")
def list_templates(
    session: SessionDep, user: Sender, paging: PagingDep, wanted: Annotated[TemplateFilter, Query()]
) -> Envelope[Page[TemplateOut]]:
    """List your templates by name."""
    return Envelope(data=templates.page(session, user.user_id, wanted, paging))


@router.post("", status_code=201, response_description=TEMPLATE_CREATED)
def create_template(session: SessionDep, user: Sender, body: NewTemplate) -> MessageEnvelope[TemplateOut]:
    """Keep a text, to be sent with its number as `template_id`. Preview it with `POST /api/sms/preview`."""
    template = templates.create(session, user.user_id, body)
    return MessageEnvelope(data=templates.shown(template), message=TEMPLATE_CREATED)


@router.get("/{template_id}")
def show_template(template: OneTemplate) -> Envelope[TemplateOut]:
    """Show one template."""
    return Envelope(data=templates.shown(template))


@router.put("/{template_id}", response_description=TEMPLATE_UPDATED)
@router.patch("/{template_id}", summary="Change template (PATCH)", response_description=TEMPLATE_UPDATED)
def change_template(
    session: SessionDep, template: LockedTemplate, body: TemplateChange
) -> MessageEnvelope[TemplateOut]:
    """Change the given fields. Messages and campaigns that were made with it keep their text."""
    templates.change(session, template, body)
    return MessageEnvelope(data=templates.shown(template), message=TEMPLATE_UPDATED)


@router.delete("/{template_id}", response_description=TEMPLATE_DELETED)
def delete_template(session: SessionDep, template: LockedTemplate) -> Done:
    """Delete a template. Messages and campaigns that were made with it keep their text."""
    session.delete(template)
    return Done(message=TEMPLATE_DELETED)
