"""Releasing: what was held until its time comes to wait for a phone like anything else, and bulk leaves the line again
when the allowed hours end.

Phones are given it at their own pace then, so that however much was due while the gateway was down goes as a bulk
would. Of two workers that look at a row one judges it; what a cancel or a change holds is looked at by the next tick.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Row, text
from sqlalchemy.orm import Session

from app.accounts import hours
from app.core import outbound
from app.core.allowed_hours import Keeper, common_window
from app.core.arrays import by_key, transposed, unnest
from app.core.database import among, interval
from app.core.lanes import Lane
from app.core.task_names import TaskName
from app.messages.dispatch import waking
from app.messages.dispatch.pace import STRAGGLING
from app.messages.models import QueueEntry
from app.messages.states import Stage

BATCH_SIZE = 1000

# The hours of campaigns, by campaign; whoever runs this knows them.
OfCampaigns = Callable[[Session, Collection[int]], Mapping[int, Keeper]]

_LOOK = f"""
    WITH looked AS MATERIALIZED (
        SELECT message_id, user_id, device_id, stage, lane, campaign_id, due_at FROM message_queue
        WHERE {{which}} LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT q.*, clock_timestamp() AS now, m.recipient_number, c.time_zone
    FROM looked q LEFT JOIN messages m ON m.id = q.message_id AND q.lane = {Lane.BULK}
    LEFT JOIN contacts c ON c.user_id = q.user_id AND c.phone_number = m.recipient_number
"""  # noqa: S608 - constants
# The clock is read once a statement: an index cannot be asked by one that moves. `IS TRUE` keeps a planner without
# statistics from reading all that is held by the claim index.
_NOW = "(SELECT clock_timestamp())"
_DUE = text(_LOOK.format(which=f"due_at <= {_NOW} AND (stage = {Stage.HELD}) IS TRUE ORDER BY due_at, message_id"))
_CLOSED = text(_LOOK.format(which=f"closes_at <= {_NOW} AND stage = {Stage.WAITING} ORDER BY closes_at"))

# Locked as in `storing`.
_PAUSED = text("""
    SELECT campaign_id FROM held_campaigns WHERE campaign_id = ANY(:campaigns) ORDER BY campaign_id FOR KEY SHARE
""")

# The validity of `valid_until` is counted from when the message may go, and moves with it.
_SETTLED = (QueueEntry.message_id, QueueEntry.stage, QueueEntry.due_at, QueueEntry.closes_at)
_SETTLE = text(f"""
    WITH settled AS (
        UPDATE message_queue q
        SET stage = u.stage, due_at = u.due_at, closes_at = u.closes_at,
            since = CASE WHEN q.stage = u.stage THEN q.since ELSE clock_timestamp() END,
            valid_until = q.valid_until + (COALESCE(u.due_at, u.now) - COALESCE(q.due_at, u.now))
        FROM {unnest(*_SETTLED, now=DateTime(timezone=True))}
        WHERE {by_key(QueueEntry.message_id)}
        RETURNING q.message_id, q.valid_until
    )
    UPDATE messages m SET valid_until = settled.valid_until
    FROM settled WHERE m.id = settled.message_id AND settled.valid_until IS NOT NULL
""")  # noqa: S608 - names of columns


def release(session: Session, of_campaigns: OfCampaigns) -> int:
    """One batch of what is due, the longest due first, and one of what waits although its hours are over; how many."""
    looked = [session.execute(which, {"most": BATCH_SIZE}).all() for which in (_CLOSED, _DUE)]
    _settle(session, [row for rows in looked for row in rows], of_campaigns)
    if max(map(len, looked)) == BATCH_SIZE:
        outbound.nudge(session, TaskName.RELEASE)
    return sum(map(len, looked))


def _settle(session: Session, rows: Sequence[Row[Any]], of_campaigns: OfCampaigns) -> None:
    if not rows:
        return
    bulk = [row for row in rows if row.lane == Lane.BULK]
    of_users = hours.keepers(session, {row.user_id for row in bulk})
    numbers = {row.campaign_id for row in rows if row.campaign_id is not None}
    campaigns = of_campaigns(session, numbers)
    paused = set(session.scalars(_PAUSED, {"campaigns": list(numbers)})) if numbers else set()
    settled: list[tuple[int, Stage, datetime | None, datetime | None, datetime]] = []
    now = max(row.now for row in rows)
    for row in rows:
        if row.campaign_id in paused:
            # It stays held for its campaign's sake alone, and its hours are judged when that goes on.
            settled.append((row.message_id, Stage.HELD, None, now, now))
            continue
        keepers = [keeper for keeper in (of_users.get(row.user_id), campaigns.get(row.campaign_id)) if keeper]
        settled.append((row.message_id, *_evaluate(row, keepers if row.lane == Lane.BULK else [], now), now))
    session.execute(_SETTLE, transposed(settled, *(column.key for column in _SETTLED), "now"))
    waiting = {number for number, stage, *_ in settled if stage is Stage.WAITING}
    waking.wake_or_route(session, {(row.user_id, row.device_id) for row in rows if row.message_id in waiting})


def _evaluate(
    row: Row[Any], keepers: Sequence[Keeper], now: datetime
) -> tuple[Stage, datetime | None, datetime | None]:
    """Stage, due time and end of the hours."""
    if not keepers:
        return Stage.WAITING, None, None
    window = common_window(keepers, row.recipient_number, row.time_zone, now)
    if window.opening > now:
        return Stage.HELD, window.opening, now
    return Stage.WAITING, None, window.closing


# Twice: at once, and when whatever was being written by the hours before has ended. `hours_judged_to` is null between
# the two, and `hours_set_at` is long ago while the second is under way.
_CHANGED = text(f"""
    SELECT id, COALESCE(hours_judged_to, 0) AS judged_to, hours_judged_to IS NULL AS again FROM users
    WHERE hours_set_at IS NOT NULL
      AND (hours_judged_to IS NOT NULL OR hours_set_at < clock_timestamp() - {interval(STRAGGLING)})
    ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
""")  # noqa: S608 - a constant
_JUDGED_ANEW = """
    closes_at = clock_timestamp(), due_at = CASE WHEN due_at IS NOT NULL THEN clock_timestamp() END
"""
# What its sender scheduled is judged when it is due.
_IS_OF_HOURS = f"(stage = {Stage.WAITING} OR (stage = {Stage.HELD} AND (closes_at IS NOT NULL OR due_at IS NULL)))"
# What a hand-out holds at this moment goes to its phone.
_REEVALUATE = text(f"""
    WITH known AS MATERIALIZED (
        SELECT message_id FROM message_queue
        WHERE user_id = :user AND lane = {Lane.BULK} AND message_id > :after AND {_IS_OF_HOURS}
        ORDER BY message_id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    ), marked AS (
        UPDATE message_queue SET {_JUDGED_ANEW} WHERE {among("message_id", "known")}
        RETURNING message_id
    )
    SELECT count(*) AS n, max(message_id) AS last FROM marked
""")  # noqa: S608 - constants
_REEVALUATED = text("""
    UPDATE users SET hours_judged_to = :last,
        hours_set_at = CASE WHEN NOT (:again OR hours_set_at = to_timestamp(0)) THEN hours_set_at
                            WHEN :more THEN to_timestamp(0) END
    WHERE id = :user
""")
_REEVALUATE_CAMPAIGN = text(f"""
    WITH known AS MATERIALIZED (
        SELECT message_id FROM message_queue
        WHERE campaign_id = :campaign AND stage IN ({Stage.WAITING}, {Stage.HELD}) AND {_IS_OF_HOURS}
        ORDER BY message_id FOR NO KEY UPDATE
    )
    UPDATE message_queue SET {_JUDGED_ANEW} WHERE {among("message_id", "known")}
""")  # noqa: S608 - constants


def reevaluate_hours(session: Session) -> bool:
    """Have what waits of one account that changed its hours judged again by the next ticks, one batch of it; whether
    there was any such account.
    """
    changed = session.execute(_CHANGED).one_or_none()
    if changed is None:
        return False
    values = {"user": changed.id, "after": changed.judged_to, "most": BATCH_SIZE}
    marked = session.execute(_REEVALUATE, values).one()
    more = marked.n == BATCH_SIZE
    values = {"user": changed.id, "last": marked.last if more else None, "more": more, "again": changed.again}
    session.execute(_REEVALUATED, values)
    outbound.nudge(session, TaskName.RELEASE)
    return True


def reevaluate_campaign(session: Session, campaign_id: int) -> None:
    """Have what waits of a campaign whose hours were changed judged again by the next tick, and given out only then."""
    session.execute(_REEVALUATE_CAMPAIGN, {"campaign": campaign_id})
    outbound.nudge(session, TaskName.RELEASE)
