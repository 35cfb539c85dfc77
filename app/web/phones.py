"""Phones: all of them, one of them, and pairing another."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.accounts.principals import hold
from app.accounts.usage import delivery_rate
from app.core.database import transaction
from app.core.errors import AppError, Invalid, NotFound
from app.core.links import base_url
from app.core.validation import read, row_id
from app.devices import figures, invitation, ownership
from app.devices.figures import Kind
from app.devices.models import Device
from app.devices.schemas import DeviceChange
from app.messages import queries
from app.messages.life import capacity, timeline
from app.messages.life.timeline import Timeline
from app.messages.lookup import find
from app.messages.queries import MessageFilter
from app.web.charts import Chart, Series
from app.web.lists import paging
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit
from app.web.words import gettext, marked, speaking

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_MESSAGES_SHOWN = 10
_DAYS = 30


@router.get("/phones")
def phones(visit: SignedIn) -> Response:
    with transaction() as session:
        return page(visit, "phones.html", live="phones", phones=ownership.shown(session, visit.me.user_id))


@router.get("/phones/now")
def phones_now(visit: SignedIn) -> Response:
    with transaction() as session:
        return page(visit, "phones_now.html", phones=ownership.shown(session, visit.me.user_id))


@router.post("/phones/pair")
def pair(visit: Posts) -> Response:
    """Show what to enter on a new phone. The private token is on this answer alone."""
    with transaction() as session:
        hold(session, visit.me)
        invited = invitation.invite(session, visit.me.user_id, base_url(visit.request.scope))
    token = invited.private_token.partition("|")[0]
    return page(visit, "pair.html", live="phones", invited=invited, token=token, enrolled=[])


@router.get("/phones/pair/{token}")
def paired(visit: SignedIn, token: str) -> Response:
    """The phones that came with a private token, as one waits for them."""
    with transaction() as session:
        query = select(Device.id).where(
            Device.user_id == visit.me.user_id, Device.enrolled_by == (row_id(token) or 0), Device.removed_at.is_(None)
        )
        enrolled = [ownership.show(session, number) for number in session.scalars(query.order_by(Device.id))]
    return page(visit, "pair_now.html", enrolled=enrolled)


@router.get("/phones/{device}")
def phone(visit: SignedIn, device: str) -> Response:
    return _phone(visit, device)


@router.get("/phones/{device}/now")
def phone_now(visit: SignedIn, device: str) -> Response:
    with transaction() as session:
        return page(
            visit, "phone_now.html", **_state(visit, session, ownership.find(session, visit.me.user_id, device))
        )


def _phone(visit: Visit, device: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        number = ownership.find(session, visit.me.user_id, device)
        state = _state(visit, session, number)
        stored, was = state["phone"].limits, visit.nested("was")
        return page(
            visit,
            "phone.html",
            error=error,
            live="phones messages",
            days=_days(visit, session, number),
            was=was,
            limits=_by_slot(_limits(visit.form.get("limits", stored))),
            limits_were=_by_slot(_limits(was.get("limits", stored))),
            **state,
        )


def _limits(value: Any) -> Any:
    """As the API has them. Forms have SIM cards by `sim-1`: names that are numbers alone would be places in a list."""
    if not isinstance(value, dict) or not isinstance(of_sims := value.get("sims"), dict):
        return value
    return {**value, "sims": {slot.removeprefix("sim-"): of_sim for slot, of_sim in of_sims.items()}}


def _at_its_field(error: AppError) -> AppError:
    if not isinstance(error, Invalid):
        return error
    return Invalid({name.replace("limits.sims.", "limits.sims.sim-"): told for name, told in error.errors.items()})


def _by_slot(limits: Any) -> dict[str, dict[str, Any]]:
    """The limits of the phone as a whole, under "", and of its SIM cards by slot."""
    own = _nested(limits)
    return {"": own, **{slot: _nested(of_sim) for slot, of_sim in _nested(own.get("sims")).items()}}


def _nested(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


_SERIES = ((Kind.SENT, marked("sent")), (Kind.DELIVERED, marked("delivered")), (Kind.FAILED, marked("failed")))


def _days(visit: Visit, session: Session, number: int) -> Chart | None:
    """The delivery rate of each of the last 30 days (UTC), with what it is of; nothing where nothing was sent."""
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=ago) for ago in reversed(range(_DAYS))]
    counted = figures.by_day(session, number, days[0])
    if not counted:
        return None
    of = {kind: [counted.get((day, kind), 0) for day in days] for kind in Kind}
    pairs = zip(of[Kind.DELIVERED], of[Kind.SENT], strict=True)
    with speaking(visit.language):
        rate = Series(gettext("delivery rate, %"), "c2", [round(delivery_rate(*pair)) for pair in pairs])
        beside = [Series(gettext(label), "", of[kind]) for kind, label in _SERIES]
        title = gettext("Of what was sent on each of the last 30 days, how much was delivered, in per cent")
    return Chart(title, [day.isoformat() for day in days], [rate], beside, edge=100)


_WAITING = text(
    "SELECT count(*) FROM (SELECT FROM message_queue WHERE user_id = :user AND device_id = :id LIMIT 10001) q"
)
_NEXT = text("""
    SELECT message_id FROM message_queue WHERE user_id = :user AND device_id = :id
    ORDER BY stage, lane, message_id LIMIT 1
""")


def _next(session: Session, user: int, number: int) -> Timeline | None:
    """The first of what waits for the phone, which knows why; none where it left meanwhile."""
    message = session.scalar(_NEXT, {"user": user, "id": number})
    try:
        return timeline.of(session, find(session, user, str(message))) if message else None
    except NotFound:
        return None


def _state(visit: Visit, session: Session, number: int) -> dict[str, Any]:
    shown, device = ownership.show(session, number), session.get_one(Device, number)
    messages = queries.page(session, visit.me, MessageFilter(device_id=str(number)), paging(visit, _MESSAGES_SHOWN))
    return {
        "phone": shown,
        "figures": figures.of_device(session, number),
        "sim_cards": device.sim_cards,
        "budgets": capacity.budgets(session, device),
        "messages": messages.data,
        "next": _next(session, visit.me.user_id, number),
        "waiting": session.scalar(_WAITING, {"user": visit.me.user_id, "id": number}),
    }


@router.post("/phones/{device}")
def change(visit: Posts, device: str) -> Response:
    try:
        changed = visit.changed()
        with transaction() as session:
            number = ownership.find(session, visit.me.user_id, device)
            if "limits" in changed:
                changed["limits"] = _merged(ownership.limits(session, number), _limits(changed["limits"]))
            wanted = read(DeviceChange, changed)
            ownership.change(session, visit.me.user_id, number, ownership.columns(wanted, visit.me.default_region))
    except AppError as error:
        return _phone(visit, device, _at_its_field(error))
    return go(f"/phones/{number}?done=saved")


def _merged(stored: Mapping[str, Any], changed: Any) -> Any:
    if not isinstance(changed, dict):
        return changed
    return {**stored, **{name: _merged(_nested(stored.get(name)), value) for name, value in changed.items()}}


@router.post("/phones/{device}/default")
def make_default(visit: Posts, device: str) -> Response:
    with transaction() as session:
        number = ownership.find(session, visit.me.user_id, device)
        ownership.make_default(session, visit.me.user_id, number)
    return go(f"/phones/{number}?done=saved")


@router.post("/phones/{device}/remove")
def remove(visit: Posts, device: str) -> Response:
    with transaction() as session:
        ownership.remove(session, visit.me.user_id, ownership.find(session, visit.me.user_id, device))
    return go("/phones?done=removed")
