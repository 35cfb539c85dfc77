"""Texts that are kept to be sent by their number."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import func, or_, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core.arrays import transposed, unnest
from app.core.errors import Invalid
from app.core.owned import find_owned, rows_of_page
from app.core.pages import Page, Paging
from app.core.sql_like import containing
from app.messages.models import Template
from app.messages.placeholders import fill, names
from app.messages.schemas import MESSAGE_LENGTH, NewTemplate, TemplateChange, TemplateFilter, TemplateOut

MODEL = "Template"
UNKNOWN = {"template_id": ["The selected template id is invalid."]}
_TAKEN = {"name": ["The name has already been taken."]}

Key = tuple[int, int]  # a user, and the number of a template


def find(session: Session, user_id: int, template: str, *, lock: bool = False) -> Template:
    """The user's template, locked where it is to be changed. Raises `NotFound`."""
    return find_owned(session, Template, MODEL, user_id, template, lock=lock)


def page(session: Session, user_id: int, wanted: TemplateFilter, paging: Paging) -> Page[TemplateOut]:
    """A page of the user's templates, by name."""
    conditions = [Template.user_id == user_id]
    if wanted.search:
        pattern = containing(wanted.search)
        conditions.append(or_(Template.name.ilike(pattern), Template.message.ilike(pattern)))
    found, total = rows_of_page(session, Template, conditions, Template.name, paging)
    return Page(**paging.fields([shown(template) for template in found], total))


def shown(template: Template) -> TemplateOut:
    """A template as it is shown."""
    return TemplateOut(
        id=template.id,
        name=template.name,
        message=template.message,
        placeholders=names(template.message),
        created_at=template.created_at,
        updated_at=template.updated_at,
    )


def create(session: Session, user_id: int, wanted: NewTemplate) -> Template:
    """Make a template. Raises `Invalid` for a name that there is already."""
    template = Template(user_id=user_id, **wanted.model_dump())
    session.add(template)
    _write(session)
    return template


def change(session: Session, template: Template, wanted: TemplateChange) -> None:
    """Change what the request names. Raises as `create`."""
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    for name, value in {**wanted.given(), "updated_at": now}.items():
        setattr(template, name, value)
    _write(session)


def _write(session: Session) -> None:
    try:
        session.flush()
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", None) == "23505":
            raise Invalid(_TAKEN) from None
        raise


_TEXTS = text(f"""
    SELECT t.user_id, t.id, t.message FROM {unnest(Template.user_id, Template.id)}
    JOIN templates t ON t.id = u.id AND t.user_id = u.user_id
""")  # noqa: S608 - names of columns


def texts(session: Session, keys: Collection[Key]) -> dict[Key, str]:
    """The texts of users' templates; of those that a user has not there is none."""
    if not keys:
        return {}
    rows = session.execute(_TEXTS, transposed(keys, "user_id", "id"))
    return {(row.user_id, row.id): row.message for row in rows}


def text_of(session: Session, user_id: int, template_id: int) -> str:
    """The text of the user's template. Raises `Invalid`."""
    found = texts(session, [(user_id, template_id)])
    if not found:
        raise Invalid(UNKNOWN)
    return found[user_id, template_id]


def filled(message: str, fields: Mapping[str, Any], *, may_stay: bool = False) -> str:
    """The text, its placeholders filled. Raises `Invalid` where one is left, unless it may, or nothing, or too much."""
    body, unknown = fill(message, fields)
    if unknown and not may_stay:
        refuse_unfilled(unknown)
    if not body.strip():
        raise Invalid({"message": ["The message field is required; nothing is left of it once it is filled."]})
    if len(body) > MESSAGE_LENGTH:
        sentence = f"The message field must not be greater than {MESSAGE_LENGTH} characters"
        raise Invalid({"message": [f"{sentence}; once it is filled it has {len(body)}."]})
    return body


def refuse_unfilled(placeholders: Collection[str]) -> None:
    """Raise `Invalid`, naming the placeholders."""
    named = ", ".join(f"{{{name}}}" for name in placeholders)
    raise Invalid({"message": [f"The message field has placeholders that no field fills: {named}."]})
