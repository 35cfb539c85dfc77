"""Counts of campaigns, exact at any moment.

What has a result is counted by totals and by the deltas that are not folded into them yet; what waits or is at a phone
by the campaign's few rows in the queue; no message was made for the rest. One statement reads all of it, so that it
is of one moment, and its cost is that of the queue's rows, however many recipients there are.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import BigInteger, select, text
from sqlalchemy.orm import Session

from app.campaigns import rules
from app.campaigns.models import Campaign
from app.campaigns.schemas import Counts
from app.core.arrays import array
from app.core.database import step_by_index
from app.messages.states import Stage

MAX_FOLDED = 5000
MAX_CAMPAIGNS = 500

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
    return {row.id: _counts(row.recipients, row.left_out, row.results or {}, row.stages or {}) for row in rows}


def _counts(
    recipients: int, left_out: Mapping[str, int], results: Mapping[str, int], stages: Mapping[str, int]
) -> Counts:
    def at(*where: Stage) -> int:
        return sum(stages.get(str(stage.value), 0) for stage in where)

    def ended(result: str) -> int:
        return results.get(result, 0)

    failed = ended("failed") + ended("uncertain")
    made = sum(stages.values()) + sum(results.values())
    return Counts(
        recipients=recipients,
        left_out=sum(left_out.values()),
        not_made=recipients - made,
        waiting=at(Stage.WAITING),
        held=at(Stage.HELD),
        given=at(Stage.RELEASED, Stage.ACCEPTED),
        sent=ended("sent"),
        delivered=ended("delivered"),
        failed=failed,
        uncertain=ended("uncertain"),
        cancelled=ended("cancelled"),
    )


# One folds a campaign at a time: who has its row locked.
_FOLD = text(f"""
    WITH taken AS (
        DELETE FROM campaign_deltas
        WHERE id IN (SELECT id FROM campaign_deltas WHERE campaign_id = ANY({_IDS}) ORDER BY id LIMIT :most)
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
