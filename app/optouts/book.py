"""The numbers that have opted out of an account's messages: list, add, remove."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, delete, or_, select, text
from sqlalchemy.orm import Session

from app.accounts.principals import Principal
from app.core import outbound
from app.core.arrays import columns_named, transposed, unnest
from app.core.database import columns_of
from app.core.errors import Invalid, NotFound
from app.core.numbers import normalize_number
from app.core.owned import find_owned, rows_of_page
from app.core.pages import Page, Paging
from app.core.sql_like import containing
from app.core.task_names import TaskName
from app.core.validation import row_id
from app.optouts import consent
from app.optouts.models import By, OptOut
from app.optouts.schemas import NewOptOut, OptOutFilter, OptOutOut

MODEL = "OptOut"
_NO_NUMBER = {"phone_number": ["The phone number field must be a valid phone number, with + and the country code."]}


class New(NamedTuple):
    """A number that opts out, in E.164, and how it came to that."""

    user_id: int
    phone_number: str
    by: str
    note: str | None = None
    keyword: str | None = None
    message_id: int | None = None


# By number, so that of two that add the same ones none waits for what the other waits for.
_ADD = text(f"""
    INSERT INTO opt_outs ({", ".join(New._fields)}, look_at)
    SELECT {", ".join(f"u.{name}" for name in New._fields)}, clock_timestamp()
    FROM {unnest(*columns_named(OptOut, New._fields))} ORDER BY u.user_id, u.phone_number
    ON CONFLICT (user_id, phone_number) DO NOTHING
    RETURNING {columns_of(OptOut)}
""")  # noqa: S608 - names of columns


def add(session: Session, new: Sequence[New]) -> Sequence[Row[Any]]:
    """Opt numbers out; those that had not before. What waits for them is withdrawn by a task.

    To be followed by `consent.settle` as the last act of the transaction.
    """
    if not new:
        return []
    added = session.execute(_ADD, transposed(new, *New._fields)).all()
    for user in {row.user_id for row in added}:
        outbound.nudge(session, TaskName.WITHDRAW, user)
    return added


_TAKE_BACK = text(f"""
    DELETE FROM opt_outs o USING {unnest(OptOut.user_id, OptOut.phone_number)}
    WHERE o.user_id = u.user_id AND o.phone_number = u.phone_number RETURNING {columns_of(OptOut, "o")}
""")  # noqa: S608 - names of columns


def take_back(session: Session, keys: Sequence[tuple[int, str]]) -> Sequence[Row[Any]]:
    """Opt numbers of accounts in again; the opt-outs that there were."""
    return session.execute(_TAKE_BACK, transposed(keys, "user_id", "phone_number")).all() if keys else []


def create(session: Session, user: Principal, wanted: NewOptOut) -> OptOut:
    """Opt a number out; the one there is where it had before. Raises `Invalid`."""
    number = normalize_number(wanted.phone_number, user.default_region)
    if number is None:
        raise Invalid(_NO_NUMBER)
    standing = select(OptOut).where(OptOut.user_id == user.user_id, OptOut.phone_number == number)
    found = None
    while found is None:  # The one that was there may be removed before it is held.
        add(session, [New(user.user_id, number, By.OWNER, wanted.note)])
        found = session.scalar(standing.with_for_update(read=True, key_share=True))
    consent.settle(session, [user.user_id])
    return found


def of_number(session: Session, user_id: int, number: str) -> OptOut | None:
    """The opt-out of a number, None where it has none."""
    return session.scalar(select(OptOut).where(OptOut.user_id == user_id, OptOut.phone_number == number))


def remove(session: Session, user_id: int, opt_out: str) -> None:
    """Let the number be sent to again. Raises `NotFound`."""
    statement = delete(OptOut).where(OptOut.id == (row_id(opt_out) or 0), OptOut.user_id == user_id)
    if session.execute(statement.returning(OptOut.id)).first() is None:
        raise NotFound(MODEL)


def find(session: Session, user_id: int, opt_out: str) -> OptOut:
    """The user's opt-out. Raises `NotFound`."""
    return find_owned(session, OptOut, MODEL, user_id, opt_out)


def page(session: Session, user_id: int, wanted: OptOutFilter, paging: Paging) -> Page[OptOutOut]:
    """A page of the user's opt-outs, newest first."""
    conditions = matching(user_id, wanted)
    found, total = rows_of_page(session, OptOut, conditions, OptOut.id.desc(), paging)
    return Page(**paging.fields([shown(opt_out) for opt_out in found], total))


def matching(user_id: int, wanted: OptOutFilter) -> list[ColumnElement[bool]]:
    """The conditions of a list or an export."""
    conditions: list[ColumnElement[bool]] = [OptOut.user_id == user_id]
    if wanted.search:
        pattern = containing(wanted.search)
        conditions.append(or_(OptOut.phone_number.like(pattern), OptOut.note.ilike(pattern)))
    if wanted.by:
        conditions.append(OptOut.by == wanted.by)
    return conditions


def shown(opt_out: Any) -> OptOutOut:
    """An opt-out as it is shown, from its row."""
    return OptOutOut.model_validate(opt_out, from_attributes=True)
