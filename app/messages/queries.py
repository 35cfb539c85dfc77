"""Message lists: newest first, as quick with ten million messages of one user as with ten.

A list walks indexes in the order of its answer and stops after one page. The index is that of the narrowest filter; a
list by status, by direction or of everything merges one walk per status. Only ids are gathered on the way, from the
index alone, so that even a page deep in the list reads no more rows than it shows.

Where no filter but status and direction is given, the total comes from the usage figures; else it is counted up to
10,000.
"""

import base64
import binascii
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import Field
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.accounts import usage
from app.accounts.principals import Principal
from app.core.database import columns_of
from app.core.errors import Invalid
from app.core.numbers import normalize_number
from app.core.pages import Page, Paging
from app.core.shares import Shares
from app.core.sql_like import containing
from app.core.validation import MAX_ID, Filter, Since, Until, row_id
from app.messages.models import Message
from app.messages.schemas import MessageOut
from app.messages.states import Stage, Status

MAX_COUNTED = 10_000
SEARCH_DAYS = 31
# A search may keep a core of the database's busy for seconds.
_searches = Shares(16)
_COLUMNS = columns_of(Message, "m")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEWEST_FIRST = " ORDER BY created_at DESC, id DESC"

# Where a row stands in the order of the list.
_Place = tuple[datetime, int]


class MessageFilter(Filter):
    direction: Literal["inbound", "outbound"] | None = Field(
        default=None, description="`outbound`: sent by you; `inbound`: received by a phone"
    )
    status: Status | None = Field(default=None, description="Messages with this status")
    stage: Literal["scheduled"] | None = Field(
        default=None, description="`scheduled`: pending messages whose `send_at` has not come"
    )
    device_id: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="A phone, by number or by its own string"
    )
    number: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="The other party's number")
    my_id: Annotated[str, Field(max_length=255)] | None = Field(default=None, description="Your reference")
    since: Since = None
    until: Until = None
    search: Annotated[str, Field(max_length=255)] | None = Field(default=None, description="Text to search for")
    cursor: Annotated[str, Field(max_length=100)] | None = Field(
        default=None,
        description="Continue after the previous page, with its `next_cursor`; cost does not grow with depth",
    )


class MessagePage(Page[MessageOut]):
    """With filters other than status and direction `total` is exact up to 10,000; beyond that it is 10,000 and
    `total_exact` is false.
    """

    total_exact: bool = Field(description="False if there are more than `total`", examples=[True])
    next_cursor: str | None = Field(description="`cursor` of the next page; null at the end", examples=[None])


@dataclass
class _Walks:
    """Index walks whose union is the list: a condition each, one for all, and the values of both."""

    each: list[str]
    common: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def sql(self, tail: str = "") -> str:
        """All walks as one statement of (created_at, id), with `tail` behind each."""
        parts = [
            f"(SELECT created_at, id FROM messages WHERE {' AND '.join([*self.common, walk])}{tail})"  # noqa: S608 - constants
            for walk in self.each
        ]
        return " UNION ALL ".join(parts)


def page(session: Session, user: Principal, wanted: MessageFilter, paging: Paging) -> MessagePage:
    """A page of the user's messages. Raises `Invalid` for a search without a short range, and for a bad cursor;
    `TooManyAttempts` where the account searches so much already.
    """
    _refuse_long_search(wanted)
    with nullcontext() if wanted.search is None else _searches.one(user.user_id):
        return _page(session, user, wanted, paging)


def _page(session: Session, user: Principal, wanted: MessageFilter, paging: Paging) -> MessagePage:
    after = _parse_cursor(wanted.cursor)
    if after:
        paging = replace(paging, page=1, query=_without_cursor(paging))
    statuses = _statuses(wanted)
    walks = _walks(session, user, wanted, statuses)
    if walks is None:
        return MessagePage(**paging.fields([], 0), total_exact=True, next_cursor=None)
    total = _total_by_figures(session, user.user_id, wanted, statuses)
    if total is not None and not after and paging.offset >= max(total, 1):
        return MessagePage(**paging.fields([], total), total_exact=True, next_cursor=None)
    rows = _rows(session, walks, after, paging)
    shown, more = rows[: paging.per_page], len(rows) > paging.per_page
    exact = True
    reached = paging.offset + len(rows)
    if not more and not after and (rows or not paging.offset):
        total = reached
    elif total is None:
        known, rest = (reached, _behind(walks, _place(rows[-1]))) if rows and not after else (0, walks)
        total, exact = _count(session, rest, known)
    next_cursor = _cursor(shown[-1]) if more else None
    fields = paging.fields([MessageOut.model_validate(dict(row)) for row in shown], total)
    if after:
        fields |= {"first": None, "to": None, "prev_page_url": None, "next_page_url": _cursor_url(paging, next_cursor)}
    elif more:
        fields["next_page_url"] = paging.url(paging.page + 1)
    return MessagePage(**fields, total_exact=exact, next_cursor=next_cursor)


def batch(
    session: Session, user: Principal, wanted: MessageFilter, cursor: str | None, most: int
) -> tuple[Sequence[RowMapping], str | None]:
    """The next rows of a list that is read to its end, and the cursor of those behind them. Raises as `page`."""
    _refuse_long_search(wanted)
    after = _parse_cursor(cursor)
    walks = _walks(session, user, wanted, _statuses(wanted))
    if walks is None:
        return [], None
    with nullcontext() if wanted.search is None else _searches.one(user.user_id):
        rows = _rows(session, walks, after, Paging(1, most, "", ()))
    return rows[:most], _cursor(rows[most - 1]) if len(rows) > most else None


def _refuse_long_search(wanted: MessageFilter) -> None:
    if wanted.since and wanted.until and wanted.since > wanted.until:
        raise Invalid({"to": ["The to field must be a date after or equal to from."]})
    if wanted.search is None:
        return
    until = wanted.until or datetime.now(UTC)
    if wanted.since is None or until - wanted.since > timedelta(days=SEARCH_DAYS):
        sentence = f"The search field needs a date range of at most {SEARCH_DAYS} days, given by from and to."
        raise Invalid({"search": [sentence]})


def _statuses(wanted: MessageFilter) -> list[str]:
    """The statuses that the list can hold: everything inbound is received, and nothing else is."""
    possible = set(Status) if wanted.status is None else {wanted.status}
    if wanted.direction == "inbound":
        possible &= {Status.RECEIVED}
    elif wanted.direction == "outbound":
        possible -= {Status.RECEIVED}
    if wanted.stage is not None:
        possible &= {Status.PENDING}
    return sorted(possible)


def _walks(session: Session, user: Principal, wanted: MessageFilter, statuses: Sequence[str]) -> _Walks | None:
    """The walks for the filters, none where nothing can be found."""
    if not statuses:
        return None
    walks = _Walks([], ["user_id = :user", "deleted_at IS NULL"], {"user": user.user_id})
    if wanted.device_id is not None:
        walks.values["device"] = _device(session, user.user_id, wanted.device_id)
        if walks.values["device"] is None:
            return None
        walks.common.append("device_id = :device")
    for name, condition, value in (
        ("my_id", "my_id = :my_id", wanted.my_id),
        ("since", "created_at >= :since", wanted.since),
        ("until", "created_at <= :until", wanted.until),
        ("search", "message ILIKE :search", wanted.search and containing(wanted.search)),
    ):
        if value is not None:
            walks.common.append(condition)
            walks.values[name] = value
    if wanted.stage is not None:
        _keep_scheduled(session, user, walks)
    walks.each = _each(user, wanted, statuses, walks)
    return walks


# Of what is held for its time, `closes_at` marks what allowed hours hold.
_IS_HELD = f"q.stage = {Stage.HELD} AND q.due_at IS NOT NULL AND q.closes_at IS NULL"
_HELD = text(f"SELECT message_id FROM message_queue q WHERE user_id = :user AND {_IS_HELD} LIMIT :most")  # noqa: S608 - constants


_COUNT_HELD = text(f"""
    SELECT count(*) FROM (SELECT FROM message_queue q WHERE user_id = :user AND {_IS_HELD} LIMIT :most) AS held
""")  # noqa: S608 - constants


def count_scheduled(session: Session, user_id: int) -> int:
    """How many messages wait for the time that their sender gave, counted up to `MAX_COUNTED`."""
    counted: int = session.execute(_COUNT_HELD, {"user": user_id, "most": MAX_COUNTED}).scalar_one()
    return counted


def _keep_scheduled(session: Session, user: Principal, walks: _Walks) -> None:
    """Of the pending ones those that are scheduled: a few of many are named, many of them are met soon."""
    walks.common.append("scheduled_at IS NOT NULL")
    held = session.scalars(_HELD, {"user": user.user_id, "most": MAX_COUNTED + 1}).all()
    if len(held) > MAX_COUNTED:
        walks.common.append(f"EXISTS (SELECT FROM message_queue q WHERE q.message_id = messages.id AND {_IS_HELD})")
    else:
        walks.common.append("id = ANY(:held)")
        walks.values["held"] = list(held)


def _each(user: Principal, wanted: MessageFilter, statuses: Sequence[str], walks: _Walks) -> list[str]:
    if wanted.number is None and wanted.my_id is None:
        return [f"status = '{status}'" for status in statuses]
    if len(statuses) < len(Status):
        walks.common.append("status = ANY(:statuses)" if len(statuses) > 1 else f"status = '{statuses[0]}'")
        walks.values["statuses"] = list(statuses)
    if wanted.number is None:
        return ["true"]
    number = normalize_number(wanted.number, user.default_region) or normalize_number(f"+{wanted.number}")
    # Neither a number in a form we know: a short code, or the name of a sender.
    walks.values["number"] = number or wanted.number
    parties = {"outbound": "recipient_number", "inbound": "sender_number"}
    return [
        f"direction = '{direction}' AND {column} = :number"
        for direction, column in parties.items()
        if wanted.direction in {None, direction}
    ]


_DEVICE = text("""
    SELECT id FROM devices WHERE user_id = :user AND (id = :id OR device_id = :name)
    ORDER BY id = :id DESC NULLS LAST LIMIT 1
""")


def _device(session: Session, user_id: int, reference: str) -> int | None:
    """The number of the user's phone, also of one that was removed: its messages are still there."""
    device: int | None = session.scalar(_DEVICE, {"user": user_id, "id": row_id(reference), "name": reference})
    return device


def _total_by_figures(session: Session, user_id: int, wanted: MessageFilter, statuses: Sequence[str]) -> int | None:
    """The exact total, without counting, where no filter but status and direction is given."""
    others = wanted.model_fields_set - {"direction", "status", "cursor"}
    if any(getattr(wanted, name) is not None for name in others):
        return None
    by_status = usage.visible(session, user_id).by_status
    return sum(by_status[status] for status in statuses)


def _count(session: Session, walks: _Walks, known: int) -> tuple[int, bool]:
    """How many the walks find, and the `known` ones that the page has passed.

    In the order of the list: a search ends at its newest matches, where they are enough.
    """
    found = walks.sql(f"{_NEWEST_FIRST} LIMIT :most")
    statement = f"SELECT count(*) FROM (SELECT FROM ({found}) walked LIMIT :most) counted"  # noqa: S608 - constants
    values = {**walks.values, "most": max(MAX_COUNTED + 1 - known, 0)}
    counted: int = known + session.execute(text(statement), values).scalar_one()
    return min(counted, MAX_COUNTED), counted <= MAX_COUNTED


def _place(row: RowMapping) -> _Place:
    return row["created_at"], row["id"]


def _behind(walks: _Walks, place: _Place) -> _Walks:
    values = {**walks.values, "after": place[0], "after_id": place[1]}
    return _Walks(walks.each, [*walks.common, "(created_at, id) < (:after, :after_id)"], values)


def _rows(session: Session, walks: _Walks, after: _Place | None, paging: Paging) -> Sequence[RowMapping]:
    """The rows of the page, and one more where there is more."""
    offset = 0 if after else paging.offset
    most = paging.per_page + 1
    if after:
        walks = _behind(walks, after)
    # Ordered and limited one by one: the planner merges walks only where each is a query of its own.
    walked = walks.sql(f"{_NEWEST_FIRST} LIMIT :reach")
    statement = (
        f"SELECT {_COLUMNS} FROM (SELECT created_at, id FROM ({walked}) walked"  # noqa: S608 - constants
        f"{_NEWEST_FIRST} LIMIT :most OFFSET :offset) shown"
        " JOIN messages m ON m.id = shown.id ORDER BY shown.created_at DESC, shown.id DESC"
    )
    values = {**walks.values, "most": most, "offset": offset, "reach": offset + most}
    return session.execute(text(statement), values).mappings().all()


def _cursor(row: RowMapping) -> str:
    microseconds = (row["created_at"] - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{microseconds}.{row['id']}".encode()).decode().rstrip("=")


def _parse_cursor(cursor: str | None) -> _Place | None:
    if cursor is None:
        return None
    try:
        plain = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        moment, _, number = plain.partition(".")
        after = _EPOCH + timedelta(microseconds=int(moment)), int(number)
    except (binascii.Error, ValueError, OverflowError):
        raise Invalid({"cursor": ["The selected cursor is invalid."]}) from None
    if not 0 < after[1] <= MAX_ID:
        raise Invalid({"cursor": ["The selected cursor is invalid."]})
    return after


def _without_cursor(paging: Paging) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in paging.query if pair[0] != "cursor")


def _cursor_url(paging: Paging, cursor: str | None) -> str | None:
    return cursor and f"{paging.path}?{urlencode([*paging.query, ('cursor', cursor)])}"
