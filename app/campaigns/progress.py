"""Counts of campaigns, exact at any moment.

What has a result is counted by totals and by the deltas that are not folded into them yet; what waits or is at a phone
by the campaign's few rows in the queue; no message was made for the rest. One statement reads all of it, so that it
is of one moment, and its cost is that of the queue's rows, however many recipients there are.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import BigInteger, text
from sqlalchemy.orm import Session

from app.campaigns.schemas import Counts
from app.core.arrays import array
from app.messages.states import Stage

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
