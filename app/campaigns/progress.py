"""Counts of campaigns, exact at any moment.

What has a result is counted by totals and by the deltas that are not folded into them yet; what waits or is at a phone
by the campaign's few rows in the queue; no message was made for the rest. One statement reads all of it, so that it
is of one moment, and its cost is that of the queue's rows, however many recipients there are.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import BigInteger, select, text
from sqlalchemy.orm import Session

from app.accounts.principals import (
    IN_FORCE,
    NOT_BLOCKED,
    PRINCIPAL,
    Principal,
    TokenCredentials,
    read_principal,
)
from app.campaigns import capacity, rules
from app.campaigns.models import Campaign
from app.campaigns.schemas import CampaignFailure, CampaignPhone, CampaignProgress, Counts
from app.campaigns.sentences import sentence
from app.campaigns.states import CampaignStatus
from app.core.arrays import array
from app.core.database import in_place, interval, step_by_index
from app.devices.failures import REASONS
from app.messages.life.results import NOT_TAKEN
from app.messages.states import Stage

MAX_FOLDED = 5000
MAX_CAMPAIGNS = 500
# Where a message can stand; an uncertain one has failed.
MADE = ("waiting", "held", "given", "sent", "delivered", "failed", "cancelled")

_IDS = array(BigInteger(), "ids")
_COUNTS = text(f"""
    WITH results AS (
        SELECT campaign_id, result, sum(n) AS n FROM (
            SELECT campaign_id, result, n FROM campaign_totals WHERE campaign_id = ANY({_IDS})
            UNION ALL
            SELECT campaign_id, result, n FROM campaign_deltas WHERE campaign_id = ANY({_IDS})) AS parts
        GROUP BY campaign_id, result
    ), queued AS (
        SELECT campaign_id, stage, count(*) AS n FROM message_queue WHERE campaign_id = ANY({_IDS})
        GROUP BY campaign_id, stage
    )
    SELECT c.id, c.recipients, c.left_out,
           (SELECT jsonb_object_agg(r.result, r.n) FROM results r WHERE r.campaign_id = c.id) AS results,
           (SELECT jsonb_object_agg(q.stage, q.n) FROM queued q WHERE q.campaign_id = c.id) AS stages
    FROM campaigns c WHERE c.id = ANY({_IDS})
""")  # noqa: S608 - a constant


def counts(session: Session, campaign_ids: Collection[int]) -> dict[int, Counts]:
    """The counts of each campaign."""
    rows = session.execute(_COUNTS, {"ids": sorted(campaign_ids)})
    return {row.id: _counts(row.recipients, row.left_out, _standing(row.stages, row.results)) for row in rows}


_STAGES = {
    str(Stage.WAITING.value): "waiting",
    str(Stage.HELD.value): "held",
    str(Stage.RELEASED.value): "given",
    str(Stage.ACCEPTED.value): "given",
}


def _standing(stages: Mapping[str, int] | None, results: Mapping[str, int] | None) -> Counter[str]:
    """How many messages stand where, by the names of `Counts`."""
    found: Counter[str] = Counter(results)
    for stage, n in (stages or {}).items():
        found[_STAGES[stage]] += n
    found["failed"] += found["uncertain"]
    return found


def _counts(recipients: int, left_out: Mapping[str, int], standing: Counter[str]) -> Counts:
    found = {name: standing[name] for name in MADE}
    not_made = recipients - sum(found.values())
    return Counts(
        recipients=recipients,
        left_out=sum(left_out.values()),
        not_made=not_made,
        uncertain=standing["uncertain"],
        **found,
    )


# The newest minutes, by which a rate is told.
_LATELY = timedelta(minutes=5)
_DETAIL = text(f"""
    WITH parts AS (
        SELECT device_id, result, reason, n FROM campaign_totals WHERE campaign_id = :id
        UNION ALL
        SELECT device_id, result, reason, n FROM campaign_deltas WHERE campaign_id = :id
    ), results AS (
        SELECT device_id, result, reason, sum(n) AS n FROM parts GROUP BY device_id, result, reason
    ), stages AS (
        SELECT device_id, stage, count(*) AS n FROM message_queue WHERE campaign_id = :id GROUP BY device_id, stage
    ), minutes AS (
        SELECT minute, result, n FROM campaign_minutes WHERE campaign_id = :id
        UNION ALL
        SELECT minute, result, n FROM campaign_deltas WHERE campaign_id = :id
    ), left_phones AS (
        SELECT sum(n) AS n, min(minute) AS since FROM minutes
        WHERE result IN ('sent', 'delivered') AND minute > clock_timestamp() - {interval(_LATELY)}
    )
    SELECT c.status, c.recipients, c.left_out, c.started_at, clock_timestamp() AS now, l.n AS lately, l.since,
           (SELECT jsonb_agg(jsonb_build_array(r.device_id, r.result, r.reason, r.n)) FROM results r) AS results,
           (SELECT jsonb_agg(jsonb_build_array(s.device_id, s.stage, s.n)) FROM stages s) AS stages
    FROM campaigns c, left_phones l WHERE c.id = :id
""")  # noqa: S608 - a constant
_NAMES = text("SELECT id, device_name FROM devices WHERE id = ANY(:ids)")


def detail(session: Session, campaign: Campaign) -> CampaignProgress | None:
    """How far the campaign is, counted in one statement; None where it is no longer there."""
    row = session.execute(_DETAIL, {"id": campaign.id}).one_or_none()
    if row is None:
        return None
    by_phone: dict[int, Counter[str]] = defaultdict(Counter)
    failures: Counter[str] = Counter()
    for device, result, reason, n in row.results or ():
        by_phone[device][result] += n
        if reason:
            failures[reason] += n
    for device, stage, n in row.stages or ():
        by_phone[device][_STAGES[str(stage)]] += n
    for standing in by_phone.values():
        standing["failed"] += standing["uncertain"]
    counts = _counts(row.recipients, row.left_out, sum(by_phone.values(), Counter()))
    rate = _rate(int(row.lately or 0), row.since, row.started_at, row.now)
    left = counts.not_made + counts.waiting + counts.held
    return CampaignProgress(
        status=row.status,
        counts=counts,
        rate=round(rate, 1),
        ends_at=_ends_at(session, campaign, left, rate, row.now) if row.status == CampaignStatus.RUNNING else None,
        devices=_phones(session, by_phone),
        failures=[
            CampaignFailure(reason_code=code, reason=_REASONS[code], count=n) for code, n in failures.most_common() if n
        ],
    )


def _ends_at(session: Session, campaign: Campaign, left: int, rate: float, now: datetime) -> datetime | None:
    """When the last message would leave: at the rate that was seen, and no earlier than hours and limits allow."""
    if not left:
        return now
    seen = now + timedelta(minutes=left / rate) if rate else None
    if seen and not campaign.hours and not capacity.is_limited(session, campaign.user_id):
        return seen
    _, phones = capacity.phones_of(session, campaign.user_id, campaign)
    allowed = capacity.ends_at(session, campaign, phones, left, left, now) if phones else None
    return max(allowed, seen) if allowed and seen else allowed


class Moving(NamedTuple):
    """What changes on the page of a campaign that runs; `ran` is since it was started."""

    id: int
    status: str
    reason: str | None
    counts: Counts
    rate: float
    ran: timedelta


_MOVING = text(f"""
    SELECT {PRINCIPAL}, u.language, c.id AS campaign_id, c.status, c.reason_code, c.reason, c.recipients, c.left_out,
           c.started_at, clock_timestamp() AS now, l.lately, l.since,
           (SELECT jsonb_object_agg(result, n) FROM (
                SELECT result, sum(n) AS n FROM (
                    SELECT result, n FROM campaign_totals WHERE campaign_id = c.id
                    UNION ALL
                    SELECT result, n FROM campaign_deltas WHERE campaign_id = c.id) AS parts
                GROUP BY result) AS sums) AS results,
           (SELECT jsonb_object_agg(stage, n) FROM (
                SELECT stage, count(*) AS n FROM message_queue WHERE campaign_id = c.id GROUP BY stage) AS sums
           ) AS stages
    FROM tokens t JOIN users u ON u.id = t.user_id AND {NOT_BLOCKED}
    LEFT JOIN campaigns c ON c.user_id = u.id AND c.id = :campaign
    LEFT JOIN LATERAL (
        SELECT sum(n) AS lately, min(minute) AS since FROM (
            SELECT minute, result, n FROM campaign_minutes WHERE campaign_id = c.id
            UNION ALL
            SELECT minute, result, n FROM campaign_deltas WHERE campaign_id = c.id) AS minutes
        WHERE result IN ('sent', 'delivered') AND minute > clock_timestamp() - {interval(_LATELY)}
    ) AS l ON true
    WHERE t.id = :token AND {IN_FORCE}
""")  # noqa: S608 - constants


def moving(
    session: Session, credentials: TokenCredentials, campaign: int | None
) -> tuple[Principal, str | None, Moving | None] | None:
    """Who asks, the language of their account, and what moves of the campaign, none where it is not theirs; in one
    statement, for pages that ask all the time. None where the token is no longer in force.
    """
    row = session.execute(_MOVING, {"token": credentials[0], "campaign": campaign}).one_or_none()
    principal = read_principal(row, credentials) if row else None
    if row is None or principal is None:
        return None
    if row.campaign_id is None:
        return principal, row.language, None
    found = Moving(
        row.campaign_id,
        row.status,
        sentence(row.reason_code, row.reason),
        _counts(row.recipients, row.left_out, _standing(row.stages, row.results)),
        round(_rate(int(row.lately or 0), row.since, row.started_at, row.now), 1),
        row.now - (row.started_at or row.now),
    )
    return principal, row.language, found


def _rate(lately: int, since: datetime | None, started_at: datetime | None, now: datetime) -> float:
    """Messages a minute, over the newest minutes or since the campaign started."""
    if lately <= 0 or since is None:
        return 0.0
    begin = max(since, now - _LATELY, started_at or since)
    return lately / max((now - begin).total_seconds() / 60, 1 / 60)


_REASONS = {code: reason.sentence for code, reason in REASONS.items()} | {
    NOT_TAKEN: "No phone had it in time, or the phone that it was for was removed."
}


def _phones(session: Session, by_phone: Mapping[int, Counter[str]]) -> list[CampaignPhone]:
    names = {row.id: row.device_name for row in session.execute(_NAMES, {"ids": sorted(by_phone)})}
    return [
        CampaignPhone(
            device_id=device or None,
            device_name=names.get(device),
            uncertain=standing["uncertain"],
            **{name: standing[name] for name in MADE},
        )
        for device, standing in sorted(by_phone.items())
        if any(standing.values())
    ]


# So many places a course has at most, and one more for the newest.
_PLACES = 60
_COURSE = text("""
    WITH changes AS (
        SELECT minute, result, n FROM campaign_minutes WHERE campaign_id = :id
        UNION ALL
        SELECT minute, result, n FROM campaign_deltas WHERE campaign_id = :id
    ), span AS (
        SELECT begins, GREATEST(60, CEIL(EXTRACT(epoch FROM ends - begins) / :places)) AS seconds
        FROM (SELECT min(minute) AS begins, max(minute) AS ends FROM changes) AS reached
    )
    SELECT begins, CAST(seconds AS int) AS seconds,
           CAST(EXTRACT(epoch FROM minute - begins) AS int) / CAST(seconds AS int) AS place,
           result, CAST(sum(n) AS bigint) AS n
    FROM changes, span GROUP BY begins, seconds, place, result ORDER BY place
""")


def course(session: Session, campaign_id: int) -> list[tuple[datetime, Counter[str]]]:
    """How many messages had which result as time went by, in a bounded number of steps of whole seconds."""
    standing: Counter[str] = Counter()
    steps: dict[int, tuple[datetime, Counter[str]]] = {}
    for row in session.execute(_COURSE, {"id": campaign_id, "places": _PLACES}):
        for place in range(max(steps, default=-1) + 1, row.place):  # where nothing happened
            steps[place] = (row.begins + timedelta(seconds=place * row.seconds), standing.copy())
        standing[row.result] += row.n
        steps[row.place] = (row.begins + timedelta(seconds=row.place * row.seconds), standing.copy())
    return [steps[place] for place in sorted(steps)]


# One folds a campaign at a time: who has its row locked.
_FOLD = text(f"""
    WITH taken AS (
        DELETE FROM campaign_deltas
        WHERE {in_place("campaign_deltas", f"WHERE campaign_id = ANY({_IDS}) ORDER BY id LIMIT :most")}
        RETURNING campaign_id, device_id, result, reason, minute, n
    ), added AS (
        INSERT INTO campaign_totals (campaign_id, device_id, result, reason, n)
        SELECT campaign_id, device_id, result, reason, sum(n) FROM taken
        GROUP BY campaign_id, device_id, result, reason
        ON CONFLICT (campaign_id, device_id, result, reason) DO UPDATE SET n = campaign_totals.n + excluded.n
    ), by_minute AS (
        INSERT INTO campaign_minutes (campaign_id, minute, result, n)
        SELECT campaign_id, minute, result, sum(n) FROM taken GROUP BY campaign_id, minute, result
        ON CONFLICT (campaign_id, minute, result) DO UPDATE SET n = campaign_minutes.n + excluded.n
    )
    SELECT campaign_id, count(*) AS deltas,
           COALESCE(sum(n) FILTER (WHERE result IN ('sent', 'delivered')), 0) AS good,
           COALESCE(sum(n) FILTER (WHERE result IN ('failed', 'uncertain')), 0) AS bad
    FROM taken GROUP BY campaign_id
""")  # noqa: S608 - a constant


def fold(session: Session, campaigns: Sequence[Campaign]) -> int:
    """Add deltas of these locked campaigns to their totals, at most `MAX_FOLDED`; how many it took."""
    by_id = {campaign.id: campaign for campaign in campaigns}
    rows = session.execute(_FOLD, {"ids": sorted(by_id), "most": MAX_FOLDED}).all() if by_id else []
    for row in rows:
        rules.remember(by_id[row.campaign_id], int(row.good), int(row.bad))
    return sum(row.deltas for row in rows)


_COUNTED = text("""
    WITH RECURSIVE counted AS (
        (SELECT campaign_id FROM campaign_deltas ORDER BY campaign_id LIMIT 1)
        UNION ALL
        SELECT next.campaign_id FROM counted c, LATERAL (
            SELECT d.campaign_id FROM campaign_deltas d WHERE d.campaign_id > c.campaign_id
            ORDER BY d.campaign_id LIMIT 1) next
    )
    SELECT campaign_id FROM counted LIMIT :most
""")
# What is still reported of a campaign that was deleted.
_FORGET = text("""
    DELETE FROM campaign_deltas d
    WHERE d.campaign_id = ANY(:ids) AND NOT EXISTS (SELECT FROM campaigns c WHERE c.id = d.campaign_id)
""")


def fold_all(session: Session) -> int:
    """Fold the deltas of whatever campaigns have some, those that are over too; how many it took.

    Safe in any number of workers at once: a campaign that another is working on is passed over.
    """
    step_by_index(session)
    ids = session.scalars(_COUNTED, {"most": MAX_CAMPAIGNS}).all()
    if not ids:
        return 0
    query = select(Campaign).where(Campaign.id.in_(ids)).order_by(Campaign.id)
    campaigns = session.scalars(query.with_for_update(key_share=True, skip_locked=True)).all()
    if len(campaigns) < len(ids):
        session.execute(_FORGET, {"ids": ids})
    return fold(session, campaigns)
