"""Campaigns as their owner keeps them: found, listed, made, changed, deleted."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, delete, text
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.principals import Principal, hold, require
from app.campaigns import life, progress, rate
from app.campaigns.models import Campaign, CampaignLeftOut, CampaignMinute, CampaignRecipient, CampaignTotal
from app.campaigns.schemas import CampaignChange, CampaignDetail, CampaignDraft, CampaignFilter, CampaignOut
from app.campaigns.sentences import sentence
from app.campaigns.states import AT_REST, OPEN, CampaignStatus, RecipientState
from app.core.errors import Invalid, NotFound, Refused
from app.core.owned import find_owned, rows_of_page
from app.core.pages import Page, Paging
from app.core.refusals import ONLY_AT_REST
from app.core.validation import row_id
from app.messages import templates
from app.messages.dispatch import releasing

MODEL = "Campaign"
ACTIVE = "active"

# What may be changed once it has started, also of one that is finished and may run again, and when it is cancelled.
_ONCE_STARTED = frozenset({"name", "rate_per_minute", "hours", "end_at"})
_WHEN_CANCELLED = frozenset({"name"})
_NEVER_NULL = frozenset({"name", "message"})


def find(session: Session, user_id: int, campaign: str, *, lock: bool = False) -> Campaign:
    """The user's campaign, locked where it is to be changed. Raises `NotFound`."""
    return find_owned(session, Campaign, MODEL, user_id, campaign, lock=lock)


def page(session: Session, user_id: int, wanted: CampaignFilter, paging: Paging) -> Page[CampaignOut]:
    """A page of the user's campaigns, newest first."""
    conditions = [Campaign.user_id == user_id]
    if wanted.status is not None:
        conditions.append(Campaign.status == wanted.status)
    found, total = rows_of_page(session, Campaign, conditions, Campaign.id.desc(), paging)
    return Page(**paging.fields(shown(session, found), total))


def shown(session: Session, found: Sequence[Campaign]) -> list[CampaignOut]:
    """Campaigns as they are shown."""
    session.flush()
    counts = progress.counts(session, [campaign.id for campaign in found])
    return [CampaignOut(**fields_of(campaign), counts=counts[campaign.id]) for campaign in found]


def detail(session: Session, campaign: Campaign) -> CampaignDetail:
    """A campaign with its progress."""
    found = progress.detail(session, campaign)
    if found is None:
        raise NotFound(MODEL)
    return CampaignDetail(**{**fields_of(campaign), **dict(found)})


def fields_of(campaign: Campaign) -> dict[str, Any]:
    """What is shown of a campaign's row."""
    row = {column.key: getattr(campaign, column.key) for column in Campaign.__table__.columns}
    reason = sentence(campaign.reason_code, campaign.reason)
    row |= {"device_id": campaign.devices, "reasons": campaign.left_out, "reason": reason, "figures": campaign.reason}
    return {name: value for name, value in row.items() if name in CampaignOut.model_fields}


def create(session: Session, user: Principal, draft: CampaignDraft) -> Campaign:
    """A new draft of the user's. Raises `Invalid` for phones that the user has not."""
    _refuse_callback(user, draft)
    hold(session, user)
    campaign = Campaign(user_id=user.user_id, **_columns(session, user.user_id, draft, set(CampaignDraft.model_fields)))
    session.add(campaign)
    session.flush()
    return campaign


def change(session: Session, user: Principal, campaign: Campaign, wanted: CampaignChange) -> None:
    """Change the locked campaign. Raises `Invalid` for what its status no longer allows to be changed."""
    given = wanted.model_fields_set & CampaignChange.model_fields.keys()
    if campaign.status not in OPEN:
        is_cancelled = campaign.status == CampaignStatus.CANCELLED
        fixed = given - (_WHEN_CANCELLED if is_cancelled else _ONCE_STARTED)
        when = "when the campaign is over" if is_cancelled else "once the campaign has started"
        if fixed:
            raise Invalid(
                {name: [f"The {name.replace('_', ' ')} field cannot be changed {when}."] for name in sorted(fixed)}
            )
    _refuse_callback(user, wanted)
    now = life.clock(session)
    columns = _columns(session, user.user_id, wanted, given)
    if "rate_per_minute" in columns:
        rate.change(campaign, columns.pop("rate_per_minute"), now)
    for name, value in columns.items():
        setattr(campaign, name, value)
    if campaign.status == CampaignStatus.SCHEDULED:
        life.reschedule(session, campaign)
    if "hours" in given and campaign.status not in OPEN:
        releasing.reevaluate_campaign(session, campaign.id)
    campaign.updated_at = now
    session.flush()


def _refuse_callback(user: Principal, draft: CampaignDraft) -> None:
    if draft.callback_url is not None:
        require(user, "campaigns", "webhooks")


def _columns(session: Session, user_id: int, draft: CampaignDraft, names: set[str]) -> dict[str, Any]:
    columns = {name: getattr(draft, name) for name in names - {"template_id"}}
    if draft.template_id is not None:
        columns["message"] = templates.text_of(session, user_id, draft.template_id)
    missing = [name for name in _NEVER_NULL & columns.keys() if not columns[name]]
    if missing:
        raise Invalid({name: [f"The {name} field is required."] for name in missing})
    for name in {"hours", "canary", "stop_rule"} & names:
        columns[name] = columns[name] and columns[name].model_dump(mode="json", by_alias=True)
    if "device_id" in names:
        columns["devices"] = _devices(session, user_id, columns.pop("device_id"))
    return columns


_DEVICE = text("""
    SELECT id FROM devices WHERE user_id = :user AND removed_at IS NULL AND (id = :id OR device_id = :name)
    ORDER BY id = :id DESC NULLS LAST LIMIT 1
""")


def _devices(session: Session, user_id: int, asked: Any) -> Any:
    """The phones by their numbers. Raises `Invalid` for those that the user has not."""
    if asked is None or asked == ACTIVE:
        return asked
    several = isinstance(asked, list)
    found: dict[int, None] = {}
    for place, reference in enumerate(asked if several else [asked]):
        device = session.scalar(_DEVICE, {"user": user_id, "id": row_id(str(reference)), "name": str(reference)})
        if device is None:
            field = f"device_id.{place}" if several else "device_id"
            raise Invalid({field: [f"The selected {field.replace('_', ' ')} is invalid."]})
        found[device] = None
    return list(found) if several else next(iter(found))


# What a duplicate has of the campaign's row besides its name.
_COPIED = (
    "message",
    "columns",
    "devices",
    "sim_slot",
    "price",
    "my_id",
    "callback_url",
    "validity_period",
    "rate_per_minute",
    "hours",
    "canary",
    "stop_rule",
)
_UNHURRIED = text("SET LOCAL statement_timeout = '60s'")
# Not their zones, which their contacts may have got since.
_COPY = text(f"""
    INSERT INTO campaign_recipients (campaign_id, place, number, name, fields)
    SELECT :to, place, number, name, fields FROM campaign_recipients
    WHERE campaign_id = :id AND state <> {RecipientState.LEFT_OUT}
""")  # noqa: S608 - a constant


def duplicate(session: Session, campaign: Campaign) -> Campaign:
    """A new draft with the same text, settings and recipients. Its times are for its owner to choose."""
    made = Campaign(user_id=campaign.user_id, name=campaign.name)
    for name in _COPIED:
        setattr(made, name, getattr(campaign, name))
    session.add(made)
    session.flush()
    session.execute(_UNHURRIED)
    copied = cast("CursorResult[Any]", session.execute(_COPY, {"id": campaign.id, "to": made.id}))
    made.recipients = copied.rowcount
    session.flush()
    return made


def remove(session: Session, campaign: Campaign) -> None:
    """Delete the locked campaign; its messages stay. Raises `Refused` for one that is under way.

    What phones still have of a cancelled one is looked after by `life.withdraw_forgotten`.
    """
    if campaign.status not in AT_REST:
        raise Refused(ONLY_AT_REST)
    session.execute(_UNHURRIED)
    for table in (CampaignRecipient, CampaignLeftOut, CampaignTotal, CampaignMinute):
        session.execute(delete(table).where(table.campaign_id == campaign.id))
    session.execute(delete(Campaign).where(Campaign.id == campaign.id))
    audit.record(session, Action.CAMPAIGN_DELETED, campaign.user_id, campaign.id, recipients=campaign.recipients)
