"""The front page: what was sent, what waits, which phones there are, and what does not work; and the first steps."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import account, usage
from app.core.database import transaction
from app.devices import ownership
from app.messages import queries
from app.messages.life import timeline
from app.messages.lookup import find
from app.messages.queries import MessageFilter
from app.web import operators
from app.web.charts import Chart, Series
from app.web.lists import paging
from app.web.pages import PageRoute, go, page
from app.web.visits import SIGN_IN, Anybody, SignedIn, Visit
from app.web.words import gettext, marked, speaking
from app.webhooks import urls

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_PHONES_SHOWN = 12
_FAILURES_SHOWN = 5
_DAYS = 30
_HOURS = 24
_LIVE = "messages phones"

_SERIES = (
    (usage.UsageKind.SENT, marked("sent"), "c1"),
    (usage.UsageKind.DELIVERED, marked("delivered"), "c2"),
    (usage.UsageKind.FAILED, marked("failed"), "c3"),
)


@router.get("/")
def front(visit: Anybody) -> Response:
    if visit.principal is None:
        return go(SIGN_IN)
    troubles = _troubles(visit)
    with transaction() as session:
        if not usage.figures(session, visit.me.user_id)[usage.UsageKind.ACCEPTED].total and not ownership.names(
            session, visit.me.user_id
        ):
            return go("/first-steps")
        return page(
            visit,
            "overview.html",
            live=_LIVE,
            hours=_hours(visit, session),
            days=_days(visit, session),
            troubles=troubles,
            **_now(visit, session),
        )


@router.get("/overview/now")
def now(visit: SignedIn) -> Response:
    """The part of the front page that changes while one looks."""
    troubles = _troubles(visit)
    with transaction() as session:
        return page(visit, "overview_now.html", troubles=troubles, **_now(visit, session))


def _troubles(visit: Visit) -> list[operators.Trouble]:
    """Of the installation, for its operators. Looked for outside of a transaction, since it may take seconds."""
    return operators.troubles() if visit.account.is_operator else []


def _now(visit: Visit, session: Session) -> dict[str, Any]:
    phones, number_of_phones = ownership.first_shown(session, visit.me.user_id, _PHONES_SHOWN)
    failed = queries.page(session, visit.me, MessageFilter(status="failed"), paging(visit, _FAILURES_SHOWN))
    return {
        "stats": account.delivery_stats(session, visit.me.user_id),
        "waiting": _waiting(session, visit.me.user_id),
        "phones": phones,
        "number_of_phones": number_of_phones,
        "failures": failed.data,
        "webhooks": urls.shown(session, visit.me.user_id),
    }


_ENDS = text("""
    SELECT (SELECT id FROM messages WHERE user_id = :user AND status = 'pending' AND deleted_at IS NULL
            ORDER BY created_at, id LIMIT 1) AS oldest,
           (SELECT id FROM messages WHERE user_id = :user AND status = 'pending' AND deleted_at IS NULL
            ORDER BY created_at DESC, id DESC LIMIT 1) AS newest
""")


def _waiting(session: Session, user_id: int) -> dict[str, Any]:
    """How many messages wait, why the oldest does, and when the newest is expected to be sent."""
    n = usage.visible(session, user_id).by_status["pending"]
    oldest, newest = session.execute(_ENDS, {"user": user_id}).one()
    if oldest is None:
        return {"n": 0, "oldest": None, "why": None, "done": None}
    first = timeline.of(session, find(session, user_id, str(oldest)))
    last = first if newest == oldest else timeline.of(session, find(session, user_id, str(newest)))
    return {
        "n": max(n, 1),
        "oldest": first,
        "why": first.waiting and first.waiting.reason,
        "done": last.waiting and last.waiting.expected_at,
    }


def _hours(visit: Visit, session: Session) -> Chart:
    """Sent, delivered and failed in each of the last 24 hours, by the account's clock."""
    this_hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [this_hour - timedelta(hours=ago) for ago in reversed(range(_HOURS))]
    counted = usage.by_hour(session, visit.me.user_id, hours[0])
    with speaking(visit.language):
        labels = [hour.astimezone(visit.zone).strftime("%H:%M") for hour in hours]
        title = gettext("Messages sent, delivered and failed in each of the last 24 hours")
        return Chart(title, labels, _series(counted, hours))


def _days(visit: Visit, session: Session) -> Chart:
    """Sent, delivered and failed on each of the last 30 days (UTC)."""
    counted = usage.by_day(session, visit.me.user_id, _DAYS)
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=ago) for ago in reversed(range(_DAYS))]
    with speaking(visit.language):
        title = gettext("Messages sent, delivered and failed on each of the last 30 days")
        return Chart(title, [day.isoformat() for day in days], _series(counted, days))


def _series(counted: Mapping[tuple[Any, usage.UsageKind], int], places: Sequence[Any]) -> list[Series]:
    return [
        Series(gettext(label), colour, [counted.get((place, kind), 0) for place in places])
        for kind, label, colour in _SERIES
    ]


@router.get("/first-steps")
def first_steps(visit: SignedIn) -> Response:
    with transaction() as session:
        return page(visit, "first_steps.html", live=_LIVE, **_steps(visit, session))


@router.get("/first-steps/now")
def first_steps_now(visit: SignedIn) -> Response:
    with transaction() as session:
        return page(visit, "first_steps_now.html", **_steps(visit, session))


def _steps(visit: Visit, session: Session) -> dict[str, Any]:
    phones = ownership.shown(session, visit.me.user_id)
    figures = usage.figures(session, visit.me.user_id)
    last = queries.page(session, visit.me, MessageFilter(direction="outbound"), paging(visit, 1)).data
    return {
        "phones": phones,
        "delivered": figures[usage.UsageKind.DELIVERED].total,
        "last": timeline.of(session, find(session, visit.me.user_id, str(last[0].id))) if last else None,
    }
