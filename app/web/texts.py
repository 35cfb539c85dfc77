"""Templates: texts that are kept, to be taken into a message or a campaign."""

from fastapi import APIRouter, Response
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.errors import AppError, Invalid, NotFound
from app.core.pages import Paging
from app.messages import templates
from app.messages.schemas import NewTemplate, TemplateChange, TemplateFilter, TemplateOut
from app.web.lists import paging, wanted
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_CHOICES = 200


def choices(session: Session, visit: Visit) -> list[TemplateOut]:
    """The account's templates, to choose one from."""
    return templates.page(session, visit.me.user_id, TemplateFilter(), Paging(1, _CHOICES, "", ())).data


def taken(session: Session, visit: Visit) -> TemplateOut | None:
    """The template whose text the address or the form asks for; none where it is not there any more."""
    number = visit.query("template") or visit.given("template")
    try:
        return templates.shown(templates.find(session, visit.me.user_id, number))
    except NotFound:
        return None


def _templates(visit: Visit, error: AppError | None = None) -> Response:
    with transaction() as session:
        try:
            found = wanted(visit, TemplateFilter, "search")
        except Invalid as refused:
            error, found = error or refused, TemplateFilter()
        data = templates.page(session, visit.me.user_id, found, paging(visit))
        return page(visit, "templates.html", error=error, data=data, search=visit.query("search"))


@router.get("/templates")
def all_templates(visit: SignedIn) -> Response:
    return _templates(visit)


@router.post("/templates")
def create(visit: Posts) -> Response:
    try:
        new = visit.read(NewTemplate)
        with transaction() as session:
            templates.create(session, visit.me.user_id, new)
    except AppError as error:
        return _templates(visit, error)
    return go("/templates?done=saved")


@router.get("/templates/{template}")
def template(visit: SignedIn, template: str) -> Response:
    return _template(visit, template)


def _template(visit: Visit, template: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        found = templates.shown(templates.find(session, visit.me.user_id, template))
    return page(visit, "template.html", error=error, kept=found)


@router.post("/templates/{template}")
def change(visit: Posts, template: str) -> Response:
    try:
        new = visit.read(TemplateChange)
        with transaction() as session:
            templates.change(session, templates.find(session, visit.me.user_id, template, lock=True), new)
    except Invalid as error:
        return _template(visit, template, error)
    return go("/templates?done=saved")


@router.post("/templates/{template}/delete")
def delete(visit: Posts, template: str) -> Response:
    with transaction() as session:
        session.delete(templates.find(session, visit.me.user_id, template, lock=True))
    return go("/templates?done=removed")
