"""The contacts of a user: a number once, in E.164."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.accounts.principals import Principal
from app.contacts import groups
from app.contacts.models import Contact, ContactGroupMember
from app.contacts.schemas import ContactChange, ContactFilter, ContactOut, NewContact
from app.core.errors import Invalid
from app.core.numbers import normalize_number
from app.core.owned import find_owned, rows_of_page
from app.core.pages import Page, Paging
from app.core.sql_like import containing

MODEL = "Contact"
_NO_NUMBER = {"phone_number": ["The phone number field must be a valid phone number, with + and the country code."]}
_TAKEN = {"phone_number": ["The phone number has already been taken."]}

_NAMES = text("SELECT phone_number, name FROM contacts WHERE user_id = :user AND phone_number = ANY(:numbers)")

_ZONES = text("""
    SELECT phone_number, time_zone FROM contacts
    WHERE user_id = :user AND phone_number = ANY(:numbers) AND time_zone IS NOT NULL
""")


def find(session: Session, user_id: int, contact: str, *, lock: bool = False) -> Contact:
    """The user's contact, locked where it is to be changed. Raises `NotFound`."""
    return find_owned(session, Contact, MODEL, user_id, contact, lock=lock)


def names_of(session: Session, user_id: int, numbers: Sequence[str]) -> dict[str, str | None]:
    """The names of the user's contacts among many numbers, by number."""
    rows = session.execute(_NAMES, {"user": user_id, "numbers": numbers})
    return {row.phone_number: row.name for row in rows}


def zones_of(session: Session, user_id: int, numbers: Sequence[str]) -> dict[str, str]:
    """The time zones that are known of the user's contacts among many numbers, by number."""
    rows = session.execute(_ZONES, {"user": user_id, "numbers": numbers})
    return {row.phone_number: row.time_zone for row in rows}


def page(session: Session, user_id: int, wanted: ContactFilter, paging: Paging) -> Page[ContactOut]:
    """A page of the user's contacts, newest first."""
    conditions = matching(user_id, wanted)
    found, total = rows_of_page(session, Contact, conditions, Contact.id.desc(), paging)
    return Page(**paging.fields(shown(session, found), total))


def matching(user_id: int, wanted: ContactFilter) -> list[ColumnElement[bool]]:
    """The conditions of a list or an export."""
    conditions: list[ColumnElement[bool]] = [Contact.user_id == user_id]
    if wanted.search:
        pattern = containing(wanted.search)
        columns = (Contact.name, Contact.phone_number, Contact.email, Contact.notes)
        conditions.append(or_(*(column.ilike(pattern) for column in columns)))
    if wanted.group_id is not None:
        in_group = select(ContactGroupMember.contact_id).where(ContactGroupMember.group_id == wanted.group_id)
        conditions.append(Contact.id.in_(in_group))
    return conditions


def shown(session: Session, found: Sequence[Contact]) -> list[ContactOut]:
    """Contacts as they are shown, with their groups."""
    of_each = groups.of_contacts(session, [contact.id for contact in found])
    return [
        ContactOut(
            id=contact.id,
            name=contact.name,
            phone_number=contact.phone_number,
            email=contact.email,
            notes=contact.notes,
            time_zone=contact.time_zone,
            groups=of_each[contact.id],
            created_at=contact.created_at,
            updated_at=contact.updated_at,
        )
        for contact in found
    ]


def create(session: Session, user: Principal, wanted: NewContact) -> Contact:
    """Make a contact. Raises `Invalid` for no number, a number the user has already, and groups of others."""
    values = {**wanted.model_dump(exclude={"group_ids"}), "phone_number": _number(wanted.phone_number, user)}
    statement = insert(Contact).values(user_id=user.user_id, **values).on_conflict_do_nothing().returning(Contact)
    contact = session.scalars(statement).one_or_none()
    if contact is None:
        raise Invalid(_TAKEN)
    if wanted.group_ids:
        groups.set_groups(session, user.user_id, contact.id, wanted.group_ids)
    return contact


def change(session: Session, user: Principal, contact: Contact, wanted: ContactChange) -> None:
    """Change what the request names. Raises as `create`."""
    given = wanted.given()
    group_ids: list[int] | None = given.pop("group_ids", None)
    if "phone_number" in given:
        given["phone_number"] = _number(given["phone_number"], user)
    _write(session, contact, given)
    if "group_ids" in wanted.model_fields_set:
        groups.set_groups(session, user.user_id, contact.id, group_ids or [])


def _write(session: Session, contact: Contact, values: dict[str, Any]) -> None:
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    for name, value in {**values, "updated_at": now}.items():
        setattr(contact, name, value)
    try:
        session.flush()
    except IntegrityError as error:
        if getattr(error.orig, "sqlstate", None) == "23505":
            raise Invalid(_TAKEN) from None
        raise


def _number(phone_number: str, user: Principal) -> str:
    number = normalize_number(phone_number, user.default_region)
    if number is None:
        raise Invalid(_NO_NUMBER)
    return number
