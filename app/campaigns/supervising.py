"""Looking after the campaigns of one account: what is due is started, fed, paused, settled or finished.

The work of the task `dispatch.feed`. Campaigns that somebody else holds at this moment are passed over.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import RowMapping, func, or_, select, text, true
from sqlalchemy.orm import Session

from app.campaigns import feeding, life, notices, progress, rules, spreading
from app.campaigns.models import Campaign
from app.campaigns.rules import Verdict
from app.campaigns.schemas import Counts
from app.campaigns.states import CampaignStatus, PausedBy
from app.core import outbound
from app.core.envelope import timestamp
from app.core.settings import get_settings
from app.core.task_names import TaskName

MAX_CAMPAIGNS = 500

_OWNER = text("""
    SELECT COALESCE(premium_expires_at > clock_timestamp(), false) AS is_premium, withdraw_before, deleted_at
    FROM users WHERE id = :id
""")


def look(session: Session, user_id: int) -> list[notices.Mail]:
    """One batch for each of the account's campaigns, and the mails to send of it once this is committed."""
    owner = session.execute(_OWNER, {"id": user_id}).mappings().one_or_none()
    campaigns = _lock(session, user_id)
    if owner is None or not campaigns:
        return []
    now = life.clock(session)
    unsettled = [one for one in campaigns if life.settle(session, one)]
    if unsettled:
        outbound.nudge(session, TaskName.FEED, user_id)
    for one in campaigns:
        if one.status == CampaignStatus.SCHEDULED:
            life.begin(session, one, now)
    running = [one for one in campaigns if one.status == CampaignStatus.RUNNING]
    progress.fold(session, running)
    session.flush()
    counts = progress.counts(session, [one.id for one in running])
    mails = [mail for one in running if (mail := _stop(session, one, counts[one.id], owner, now))]
    for one in running:
        if one.status == CampaignStatus.RUNNING and life.finish(session, one, now):
            notices.write_event(session, one)
    fed = [one for one in running if one.status == CampaignStatus.RUNNING]
    if fed:
        spreading.spread(session, user_id, fed)
        feeding.feed(session, user_id, fed, counts, now)
    return mails


def _lock(session: Session, user_id: int) -> Sequence[Campaign]:
    """Those that are due, and those that run as fast as phones can: a rate waits for its turn, whoever runs low."""
    now = func.clock_timestamp()
    unhurried = Campaign.rate_per_minute.is_(None) | func.coalesce(Campaign.next_slot_at <= now, true())
    query = (
        select(Campaign)
        .where(
            Campaign.user_id == user_id,
            or_(Campaign.next_look_at <= now, (Campaign.status == CampaignStatus.RUNNING) & unhurried),
        )
        .order_by(Campaign.next_look_at, Campaign.id)
        .limit(MAX_CAMPAIGNS)
    )
    return session.scalars(query.with_for_update(key_share=True, skip_locked=True)).all()


def _stop(
    session: Session, campaign: Campaign, counts: Counts, owner: RowMapping, now: datetime
) -> notices.Mail | None:
    """Stop a running campaign where something says so."""
    handed_over = owner["withdraw_before"] is not None and campaign.created_at < owner["withdraw_before"]
    if handed_over or owner["deleted_at"] is not None:
        # It is not the present owner's.
        life.cancel(session, campaign)
        return None
    verdict = _verdict(session, campaign, counts, now, has_plan=owner["is_premium"])
    if verdict is None:
        return None
    life.pause(session, campaign, verdict.by, verdict.code, verdict.figures)
    return notices.paused(session, campaign)


def _verdict(session: Session, campaign: Campaign, counts: Counts, now: datetime, *, has_plan: bool) -> Verdict | None:
    if not has_plan and "bulk" not in get_settings().free_features:
        return Verdict(PausedBy.PLAN, "plan_ended", {})
    if campaign.end_at is not None and campaign.end_at <= now and life.has_unsent(session, campaign):
        return Verdict(PausedBy.END_AT, "end_reached", {"at": timestamp(campaign.end_at)})
    return rules.stopped(campaign) or rules.tried(session, campaign, counts, now)


_DUE = text("""
    SELECT DISTINCT user_id FROM (
        SELECT user_id FROM campaigns WHERE next_look_at <= clock_timestamp() ORDER BY next_look_at LIMIT :most) AS due
""")


def remind(session: Session) -> None:
    """Nudge for every account that has a campaign to be looked after: by its time, or because a nudge was lost."""
    for user in session.scalars(_DUE, {"most": MAX_CAMPAIGNS}):
        outbound.nudge(session, TaskName.FEED, user)
