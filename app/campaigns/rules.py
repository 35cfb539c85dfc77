"""Canary and stop rule: when a campaign pauses by itself. Judged by what is counted, before more messages are made."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.campaigns.schemas import Counts
from app.campaigns.states import PausedBy

GOOD, BAD = "+", "-"
# Phones that sent so many in the last 30 days and reported none as delivered give no delivery reports.
_MIN_SENT = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the campaign is to be paused."""

    by: PausedBy
    code: str
    figures: dict[str, Any]


def remember(campaign: Campaign, good: int, bad: int) -> None:
    """Add results to the newest ones that the stop rule looks at; of one batch their order is not known."""
    if campaign.stop_rule is None:
        return
    good, bad = max(good, 0), max(bad, 0)
    total = good + bad
    mixed = "".join(BAD if (n + 1) * bad // total > n * bad // total else GOOD for n in range(total))
    campaign.newest_results = (campaign.newest_results + mixed)[-campaign.stop_rule["of_last"] :]


def stopped(campaign: Campaign) -> Verdict | None:
    """What the stop rule says."""
    rule = campaign.stop_rule
    if rule is None or len(campaign.newest_results) < rule["of_last"]:
        return None
    newest = campaign.newest_results[-rule["of_last"] :]
    failed = newest.count(BAD)
    if failed < rule["failed_share"] * len(newest):
        return None
    figures = {"failed": failed, "of_last": len(newest), "failed_share": rule["failed_share"]}
    return Verdict(PausedBy.STOP_RULE, "stopped_by_failures", figures)


def first(campaign: Campaign) -> int | None:
    """How many messages may be made in all while the canary has not passed; None for as many as there are."""
    if campaign.canary is None or campaign.canary_passed:
        return None
    return int(campaign.canary["first"])


def tried(session: Session, campaign: Campaign, counts: Counts, now: datetime) -> Verdict | None:
    """What the canary says; that it passed is noted."""
    most = first(campaign)
    made = counts.recipients - counts.not_made
    if campaign.canary is None or most is None or made < most:
        return None
    campaign.canary_made_at = campaign.canary_made_at or now
    asked = "delivered" if campaign.canary.get("delivered_share") else "sent"
    share = campaign.canary[f"{asked}_share"]
    reached = counts.delivered + (counts.sent if asked == "sent" else 0)
    pending = counts.waiting + counts.held + counts.given
    if reached >= share * made:
        campaign.canary_passed = True
        return None
    hopeless = reached + pending + (counts.sent if asked == "delivered" else 0) < share * made
    over = now >= campaign.canary_made_at + timedelta(minutes=campaign.canary["within_minutes"])
    mute = asked == "delivered" and not counts.delivered and counts.sent > 0
    if not (hopeless or over or (mute and not pending and _gives_no_reports(session, campaign))):
        return None
    code = "canary_without_reports" if mute and not hopeless else f"canary_not_{asked}"
    figures = {"first": made, asked: reached, "sent": counts.sent + counts.delivered, "failed": counts.failed}
    figures |= {"share": share, "within_minutes": campaign.canary["within_minutes"]}
    return Verdict(PausedBy.CANARY, code, figures)


_REPORTS = text(f"""
    SELECT COALESCE(sum(t.n) FILTER (WHERE t.kind = 'sent'), 0) >= {_MIN_SENT}
           AND COALESCE(sum(t.n) FILTER (WHERE t.kind = 'delivered'), 0) = 0
    FROM device_totals t WHERE t.device_id IN (SELECT device_id FROM campaign_totals WHERE campaign_id = :id)
""")  # noqa: S608 - a constant


def _gives_no_reports(session: Session, campaign: Campaign) -> bool:
    """Whether the phones that sent for the campaign are known to give no delivery reports."""
    return bool(session.scalar(_REPORTS, {"id": campaign.id}))
