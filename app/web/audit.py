"""The audit log: an account's for its owner, the installation's for operators."""

from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action, Entry
from app.accounts.schemas import AuditFilter
from app.core.database import transaction
from app.core.errors import Invalid
from app.core.validation import read
from app.web.lists import moments
from app.web.pages import PageRoute, page
from app.web.visits import Operator, SignedIn, Visit
from app.web.words import marked

router = APIRouter(include_in_schema=False, route_class=PageRoute)

ACTIONS = {
    Action.REGISTERED: marked("registered"),
    Action.SIGNED_IN: marked("signed in"),
    Action.SIGNED_OUT: marked("signed out"),
    Action.SESSION_ENDED: marked("signed a browser out"),
    Action.PASSWORD_CHANGED: marked("changed the password"),
    Action.PASSWORD_RESET: marked("set a new password"),
    Action.EMAIL_CONFIRMED: marked("confirmed the e-mail address"),
    Action.SECOND_FACTOR_ON: marked("turned the second factor on"),
    Action.SECOND_FACTOR_OFF: marked("turned the second factor off"),
    Action.KEY_CREATED: marked("made an API key"),
    Action.KEY_REVOKED: marked("revoked an API key"),
    Action.SETTINGS_CHANGED: marked("changed settings"),
    Action.WEBHOOKS_CHANGED: marked("changed webhook addresses"),
    Action.WEBHOOK_SECRET_ROTATED: marked("made a new webhook secret"),
    Action.PHONE_ENROLLED: marked("paired a phone"),
    Action.PHONE_APPROVED: marked("approved a phone"),
    Action.PHONE_CHANGED: marked("changed a phone"),
    Action.PHONE_REMOVED: marked("removed a phone"),
    Action.CAMPAIGN_STARTED: marked("started a campaign"),
    Action.CAMPAIGN_PAUSED: marked("paused a campaign"),
    Action.CAMPAIGN_RESUMED: marked("resumed a campaign"),
    Action.CAMPAIGN_CANCELLED: marked("cancelled a campaign"),
    Action.CAMPAIGN_RETRIED: marked("sent the failed of a campaign again"),
    Action.CAMPAIGN_DELETED: marked("deleted a campaign"),
    Action.EXPORTED: marked("exported data"),
    Action.PROMO_REDEEMED: marked("used a promo code"),
    Action.PREMIUM_GIVEN: marked("gave premium"),
    Action.ACCOUNT_CREATED: marked("made the account"),
    Action.ACCOUNT_DELETED: marked("deleted an account"),
    Action.USER_BLOCKED: marked("blocked the account"),
    Action.USER_UNBLOCKED: marked("unblocked the account"),
    Action.OPERATOR_MADE: marked("made the account one of an operator"),
    Action.OPERATOR_UNMADE: marked("ended the rights of an operator"),
    Action.FLOWER_USED: marked("did something to workers or tasks in Flower"),
    Action.PROMO_CREATED: marked("made a promo code"),
    Action.RELEASE_PUBLISHED: marked("published a version of the app"),
    Action.RELEASE_WITHDRAWN: marked("withdrew a version of the app"),
    Action.BACKUP_MADE: marked("made a backup"),
    Action.RESTORED: marked("restored a backup"),
}
BY = {
    "session": marked("a browser or app that was signed in"),
    "key": marked("an API key"),
    "visitor": marked("a visitor"),
    "operator": marked("an operator"),
    "command": marked("a command at the terminal of the server"),
    "gateway": marked("the gateway by itself"),
}


@router.get("/audit")
def own(visit: SignedIn) -> Response:
    return _log(visit, visit.me.user_id)


@router.get("/operators/audit")
def everything(visit: Operator) -> Response:
    return _log(visit, None)


def _log(visit: Visit, account: int | None) -> Response:
    error, wanted = None, AuditFilter()
    try:
        wanted = _wanted(visit)
    except Invalid as refused:
        error = refused
    visit.form = {**visit.request.query_params}
    with transaction() as session:
        found, cursor = audit.entries(
            session,
            account,
            most=wanted.per_page,
            before=wanted.cursor,
            action=wanted.action,
            since=wanted.since,
            until=wanted.until,
        )
        return page(
            visit,
            "audit.html",
            error=error,
            entries=found if account is None else [audit.as_its_owner_sees(entry, account) for entry in found],
            emails=_emails(session, found) if account is None else None,
            next=cursor and visit.request.url.include_query_params(cursor=cursor).query,
            actions=ACTIONS,
            by=BY,
        )


def _wanted(visit: Visit) -> AuditFilter:
    values = {name: visit.query(name) for name in ("action", "cursor")} | moments(visit)
    return read(AuditFilter, {name: value for name, value in values.items() if value.strip()})


_EMAILS = text("SELECT id, email FROM users WHERE id = ANY(:ids) AND deleted_at IS NULL")


def _emails(session: Session, entries: list[Entry]) -> dict[int, Any]:
    """The addresses of the accounts that the entries speak of, by their numbers; of those that are there still."""
    ids = {number for entry in entries for number in (entry.user_id, entry.actor_id) if number is not None}
    return {row.id: row.email for row in session.execute(_EMAILS, {"ids": sorted(ids)})}
