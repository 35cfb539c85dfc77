"""Phones: all of them, one of them, and pairing another."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.accounts.principals import hold
from app.core.database import transaction
from app.core.errors import AppError
from app.core.links import base_url
from app.core.validation import row_id
from app.devices import figures, invitation, ownership
from app.devices.models import Device
from app.devices.schemas import DeviceChange
from app.messages import queries
from app.messages.queries import MessageFilter
from app.web.lists import paging
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_LIMITS = ("per_minute", "per_hour", "per_day", "per_month", "recipients_per_month")
_MESSAGES_SHOWN = 10


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
        return page(
            visit, "phone.html", error=error, live="phones messages", limits=_LIMITS, **_state(visit, session, number)
        )


_WAITING = text(
    "SELECT count(*) FROM (SELECT FROM message_queue WHERE user_id = :user AND device_id = :id LIMIT 10001) q"
)


def _state(visit: Visit, session: Session, number: int) -> dict[str, Any]:
    shown = ownership.show(session, number)
    messages = queries.page(session, visit.me, MessageFilter(device_id=str(number)), paging(visit, _MESSAGES_SHOWN))
    return {
        "phone": shown,
        "figures": figures.of_device(session, number),
        "sim_cards": session.get_one(Device, number).sim_cards,
        "messages": messages.data,
        "waiting": session.scalar(_WAITING, {"user": visit.me.user_id, "id": number}),
    }


@router.post("/phones/{device}")
def change(visit: Posts, device: str) -> Response:
    try:
        wanted = visit.read(DeviceChange)
        with transaction() as session:
            number = ownership.find(session, visit.me.user_id, device)
            ownership.change(session, visit.me.user_id, number, ownership.columns(wanted, visit.me.default_region))
    except AppError as error:
        return _phone(visit, device, error)
    return go(f"/phones/{number}?done=saved")


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
