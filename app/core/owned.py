"""Rows as their owner reaches them: one by its number, or a page."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.core.database import Base
from app.core.errors import NotFound
from app.core.pages import Paging
from app.core.validation import row_id

Row = TypeVar("Row", bound=Base)


def find_owned(session: Session, table: type[Row], model: str, user_id: int, name: str, *, lock: bool = False) -> Row:
    """The user's row, locked where it is to be changed. Raises `NotFound`, of what is called `model` outside."""
    columns = table.__table__.c
    query = select(table).where(columns.id == (row_id(name) or 0), columns.user_id == user_id)
    if lock:
        query = query.with_for_update(key_share=True)
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(model)
    return found


def rows_of_page(
    session: Session, table: type[Row], conditions: Sequence[ColumnElement[bool]], order: Any, paging: Paging
) -> tuple[Sequence[Row], int]:
    """The rows of a page, and how many there are in all."""
    total = session.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()
    query = select(table).where(*conditions).order_by(order)
    return session.scalars(query.limit(paging.per_page).offset(paging.offset)).all(), total
