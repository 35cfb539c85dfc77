"""API keys: made, shown once with a command that works, revoked."""

from fastapi import APIRouter, Response

from app.accounts import login_limits, signin, tokens
from app.accounts.models import User
from app.accounts.principals import ABILITIES, require
from app.accounts.schemas import NewKey
from app.core.database import transaction
from app.core.errors import AppError, Invalid
from app.core.links import base_url
from app.core.validation import read
from app.web.pages import PageRoute, go, page
from app.web.visits import Posts, SignedIn, Visit
from app.web.words import marked

router = APIRouter(include_in_schema=False, route_class=PageRoute)

ABOUT = {
    "*": marked("everything"),
    "sms:send": marked("send messages"),
    "sms:read": marked("read messages"),
    "campaigns": marked("campaigns"),
    "contacts": marked("contacts and groups"),
    "devices": marked("phones"),
    "webhooks": marked("webhooks"),
    "account": marked("the account and its settings"),
    "tokens": marked("API keys and sessions"),
    "phone:enroll": marked("pair phones, and nothing else"),
}


def _keys(visit: Visit, error: AppError | None = None, new: tokens.NewToken | None = None) -> Response:
    with transaction() as session:
        return page(
            visit,
            "keys.html",
            error=error,
            keys=tokens.keys(session, visit.me.user_id),
            abilities=ABILITIES,
            about=ABOUT,
            chosen=visit.listed("abilities") or ["sms:send"],
            new=new,
            server=base_url(visit.request.scope),
            has_password=session.get_one(User, visit.me.user_id).password_hash is not None,
        )


@router.get("/keys")
def keys(visit: SignedIn) -> Response:
    return _keys(visit)


@router.post("/keys")
def create(visit: Posts) -> Response:
    try:
        require(visit.me, "tokens", "api")
        values = {
            "name": visit.given("name"),
            "abilities": visit.listed("abilities"),
            "expires_at": visit.end_of_day("expires_at"),
        }
        if not values["abilities"]:  # which is everything to the API
            raise Invalid({"abilities": ["The abilities field is required."]})
        wanted = read(NewKey, values)
        with login_limits.of_password(visit.me.user_id):
            signin.confirm(visit.me.user_id, visit.given("current_password") or None)
        with transaction() as session:
            new = tokens.create_key(session, visit.me, wanted.name, wanted.abilities, wanted.expires_at)
    except AppError as error:
        return _keys(visit, error)
    return _keys(visit, new=new)


@router.post("/keys/{key}/revoke")
def revoke(visit: Posts, key: str) -> Response:
    with transaction() as session:
        tokens.revoke(session, visit.me, "key", key)
    return go("/keys?done=removed")
