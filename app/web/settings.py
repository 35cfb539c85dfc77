"""The account: settings, language, password, sessions, plan, and its end."""

import io
import re
from typing import Any
from zoneinfo import available_timezones

import segno
from fastapi import APIRouter, BackgroundTasks, Depends, Response
from sqlalchemy.orm import Session

from app.accounts import (
    account,
    codes,
    cookies,
    deletion,
    login_limits,
    plans,
    second_factor,
    sessions,
    signin,
    tokens,
    usage,
)
from app.accounts.models import User
from app.accounts.schemas import (
    AccountRemoval,
    EmailProof,
    PasswordChange,
    PromoUse,
    SecondFactor,
    SettingsChange,
    SettingsOut,
)
from app.contacts import book
from app.contacts.schemas import ContactFilter
from app.core.database import transaction
from app.core.dependencies import per_address
from app.core.errors import AppError
from app.core.hours import DAYS
from app.core.mail import require_mail
from app.core.once import once
from app.core.pages import Paging
from app.core.places import mailing
from app.core.settings import Feature, get_settings
from app.core.validation import read
from app.devices import ownership
from app.web import words
from app.web.pages import PageRoute, end_cookie, go, in_one_field, page
from app.web.visits import SIGN_IN, Posts, SignedIn, Visit, user_of
from app.web.words import marked


@once
def zone_names() -> list[str]:
    """Names of time zones to choose from."""
    return sorted(
        name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "posix", "right"))
    )


FEATURES: dict[Feature, str] = {
    "api": marked("the API"),
    "webhooks": marked("webhooks"),
    "bulk": marked("messages to many and campaigns"),
}

router = APIRouter(include_in_schema=False, route_class=PageRoute)


def _settings(visit: Visit, error: AppError | None = None, part: str = "") -> Response:
    """`part`: the form that was refused; the others show what is stored."""
    with transaction() as session:
        user = user_of(session, visit)
        return page(
            visit,
            "settings.html",
            error=error,
            part=part,
            zones=zone_names(),
            settings=SettingsOut.model_validate(user, from_attributes=True),
            sending=_sending_form(visit) if part == "sending" else _sending_stored(user),
            user=user,
            sessions=sessions.shown(session, visit.me),
            mine=_mine(session, visit),
            has_mail=get_settings().smtp_url is not None,
        )


def _mine(session: Session, visit: Visit) -> dict[str, int]:
    """How much goes with the account."""
    user = visit.me.user_id
    return {
        "messages": usage.visible(session, user).total,
        "contacts": book.page(session, user, ContactFilter(), Paging(1, 1, "", ())).total,
        "phones": len(ownership.names(session, user)),
        "api_keys": len(tokens.keys(session, user)),
    }


@router.get("/settings")
def settings(visit: SignedIn) -> Response:
    return _settings(visit)


@router.post("/settings")
def change(visit: Posts) -> Response:
    try:
        wanted = visit.read(SettingsChange)
        with transaction() as session:
            account.change_settings(session, user_of(session, visit), wanted.given())
    except AppError as error:
        return _settings(visit, error, "settings")
    return go("/settings?done=saved")


def _sending_stored(user: User) -> dict[str, Any]:
    """The rules of sending as the fields of their form."""
    zones = user.country_zones or {}
    return {
        "hours": user.allowed_hours or {"days": DAYS},
        "cap": user.frequency_cap or {},
        "same_content_minutes": user.same_content_minutes,
        "sticky_phone": user.sticky_phone,
        "country_zones": "\n".join(f"{country} {zone}" for country, zone in zones.items()),
    }


def _sending_form(visit: Visit) -> dict[str, Any]:
    """As `_sending_stored`, of what was typed."""
    hours, cap = visit.nested("allowed_hours"), visit.nested("frequency_cap")
    typed = {name: visit.given(name) for name in ("same_content_minutes", "country_zones")}
    return {**typed, "hours": hours, "cap": cap, "sticky_phone": visit.given("sticky_phone") == "1"}


@router.post("/settings/sending")
def change_sending(visit: Posts) -> Response:
    """The hours of bulk messages, and what keeps people from too many of them."""
    hours, cap = visit.nested("allowed_hours"), visit.nested("frequency_cap")
    values = {
        "allowed_hours": _hours(hours) if hours.get("from") or hours.get("to") else None,
        "frequency_cap": cap if any(cap.values()) else None,
        "same_content_minutes": visit.given("same_content_minutes"),
        "sticky_phone": visit.given("sticky_phone"),
        "country_zones": _country_zones(visit.given("country_zones")),
    }
    try:
        wanted = read(SettingsChange, values)
        with transaction() as session:
            account.change_settings(session, user_of(session, visit), wanted.given())
    except AppError as error:
        return _settings(visit, in_one_field(error, "country_zones", "allowed_hours.days"), "sending")
    return go("/settings?done=saved")


def _hours(typed: dict[str, Any]) -> dict[str, Any]:
    days = typed.get("days")
    return {**typed, "days": [day for day in days if day] if isinstance(days, list) else days}


def _country_zones(typed: str) -> dict[str, str] | None:
    """A line each: a country, and its time zone."""
    lines = [line.split(None, 1) for line in typed.splitlines() if line.strip()]
    return {country.upper(): "".join(zone) for country, *zone in lines} or None


@router.post("/settings/language")
def change_language(visit: Posts) -> Response:
    chosen = visit.given("language")
    with transaction() as session:
        user_of(session, visit).language = chosen if chosen in words.LANGUAGES else None
    return go("/settings?done=saved")


@router.post("/settings/password")
def change_password(visit: Posts) -> Response:
    try:
        wanted = visit.read(PasswordChange)
        signin.change_password(visit.me, wanted.current_password, wanted.password)
    except AppError as error:
        return _settings(visit, error, "password")
    return go("/settings?done=password")


@router.get("/settings/second-factor")
def second_factor_page(visit: SignedIn) -> Response:
    return _second_factor(visit, second_factor.new_secret())


def _second_factor(visit: Visit, secret: str, error: AppError | None = None) -> Response:
    with transaction() as session:
        user = user_of(session, visit)
    image = io.BytesIO()
    code = segno.make(second_factor.address(secret, user.email), error="m")
    code.save(image, kind="svg", scale=5, xmldecl=False, svgns=True, nl=False)
    return page(
        visit, "second_factor.html", error=error, secret=secret, user=user, qr=image.getvalue().decode(), codes=None
    )


@router.post("/settings/second-factor")
def turn_on_second_factor(visit: Posts) -> Response:
    """Ask for a code from now on. The recovery codes are on this answer alone."""
    try:
        wanted = visit.read(SecondFactor)
        with login_limits.of_password(visit.me.user_id):
            signin.confirm(visit.me.user_id, visit.given("current_password") or None)
            with transaction() as session:
                user = session.get_one(User, visit.me.user_id, with_for_update={"key_share": True})
                recovery = second_factor.turn_on(session, user, wanted.secret, wanted.code)
                sessions.end_all(session, visit.me.user_id, but=visit.me.token_id)
    except AppError as error:
        typed = visit.given("secret")
        is_one = re.fullmatch(second_factor.SECRET_FORM, typed)
        return _second_factor(visit, typed if is_one else second_factor.new_secret(), error)
    return page(visit, "second_factor.html", codes=recovery)


@router.post("/settings/second-factor/off")
def turn_off_second_factor(visit: Posts) -> Response:
    try:
        with login_limits.of_password(visit.me.user_id):
            signin.confirm(visit.me.user_id, visit.given("current_password") or None)
        with transaction() as session:
            second_factor.turn_off(
                session, session.get_one(User, visit.me.user_id, with_for_update={"key_share": True})
            )
    except AppError as error:
        return _settings(visit, error, "second-factor")
    return go("/settings?done=saved")


@router.post("/settings/sessions/{number}/end")
def end_session(visit: Posts, number: str) -> Response:
    with transaction() as session:
        tokens.revoke(session, visit.me, "session", number)
    return go("/settings?done=session")


@router.post("/settings/sessions/end")
def end_sessions(visit: Posts) -> Response:
    with transaction() as session:
        sessions.end_all(session, visit.me.user_id, but=visit.me.token_id)
    return go("/settings?done=session")


@router.post("/settings/email/code", dependencies=[Depends(per_address("email-code", login_limits.RESETS_PER_ADDRESS))])
def send_code(visit: Posts, later: BackgroundTasks) -> Response:
    require_mail()
    later.add_task(mailing, codes.mail_proof, visit.me.user_id)
    return go("/settings?done=code-sent")


@router.post("/settings/email")
def prove_email(visit: Posts) -> Response:
    try:
        wanted = visit.read(EmailProof)
        with transaction() as session:
            codes.prove_email(session, visit.me.user_id, wanted.code)
    except AppError as error:
        return _settings(visit, error, "email")
    return go("/settings?done=confirmed")


@router.post("/settings/delete")
def delete_account(visit: Posts) -> Response:
    try:
        wanted = visit.read(AccountRemoval)
        deletion.delete_account(visit.me, wanted.current_password, None)
    except AppError as error:
        return _settings(visit, error, "delete")
    response = go(f"{SIGN_IN}?done=deleted")
    end_cookie(visit, response, cookies.SESSION)
    return response


def _plan(visit: Visit, error: AppError | None = None) -> Response:
    with transaction() as session:
        user = user_of(session, visit)
        return page(
            visit,
            "plan.html",
            error=error,
            plan=account.subscription_with_payment(user, is_premium=visit.me.is_premium),
            about=FEATURES,
            figures=account.overview(session, visit.me).usage,
        )


@router.get("/plan")
def plan(visit: SignedIn) -> Response:
    return _plan(visit)


@router.post("/plan/promo")
def redeem(visit: Posts) -> Response:
    try:
        wanted = visit.read(PromoUse)
        with transaction() as session:
            plans.redeem(session, visit.me.user_id, wanted.code)
    except AppError as error:
        return _plan(visit, error)
    return go("/plan?done=saved")
