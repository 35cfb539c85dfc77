"""What waits for a moment of the database's clock after that was set back: until it came again, hours could pass.

A machine may start with a wrong clock, which is set right when its network is there. Everything here changes only what
cannot have been written by the clock as it goes now.
"""

from sqlalchemy import Float, text
from sqlalchemy.orm import Session

from app.campaigns import rate
from app.campaigns.states import CampaignStatus
from app.core.arrays import array
from app.core.database import interval
from app.webhooks.claims import LEASE
from app.webhooks.records import MAX_PAUSE, SCHEDULE, SPREAD

# Phones are noted all the time. Two seconds are waited for.
_IS_SET_BACK = text("""
    SELECT EXISTS (
        SELECT FROM device_state
        WHERE GREATEST(last_release_at, seen_at, pulled_at, stream_seen_at) > clock_timestamp() + interval '2 seconds')
""")

_WATCH = text("""
    UPDATE phone_watch SET seen_at = LEAST(seen_at, clock_timestamp()), back_at = LEAST(back_at, clock_timestamp())
""")
_CAMPAIGNS = text(f"""
    UPDATE campaigns
    SET next_look_at = LEAST(next_look_at, clock_timestamp()),
        next_slot_at = LEAST(next_slot_at, clock_timestamp() + {interval(rate.AHEAD)}
                                           + {interval(rate.interval(1))} / rate_per_minute)
    WHERE id = ANY(ARRAY(
        SELECT id FROM campaigns WHERE status = '{CampaignStatus.RUNNING}' ORDER BY id FOR NO KEY UPDATE))
""")  # noqa: S608 - constants
# A receiver that asked to be left alone for longer has it by its target.
_DELIVERIES = text(f"""
    WITH late AS MATERIALIZED (
        SELECT q.delivery_id, w.wait
        FROM webhook_queue q, LATERAL (
            SELECT CASE WHEN q.lease_id IS NOT NULL THEN {interval(LEASE)}
                   ELSE COALESCE(({array(Float(), "schedule")})[q.attempt], 0) * interval '1 second' END AS wait) w
        WHERE q.next_attempt_at > clock_timestamp() + w.wait ORDER BY q.delivery_id FOR NO KEY UPDATE OF q
    )
    UPDATE webhook_queue q
    SET next_attempt_at = clock_timestamp() + l.wait,
        lease_until = CASE WHEN q.lease_id IS NOT NULL THEN clock_timestamp() + l.wait END
    FROM late l WHERE q.delivery_id = l.delivery_id
""").bindparams(schedule=[seconds * (1 + SPREAD) for seconds in SCHEDULE])  # noqa: S608 - constants
_RECEIVERS = text("""
    WITH late AS MATERIALIZED (
        SELECT t.user_id, t.origin, GREATEST(clock_timestamp() + :most * interval '1 second', t.asked_until) AS until
        FROM webhook_targets t WHERE t.next_try_at > clock_timestamp() + :most * interval '1 second'
        ORDER BY t.user_id, t.origin FOR NO KEY UPDATE
    )
    UPDATE webhook_targets t SET next_try_at = LEAST(t.next_try_at, l.until)
    FROM late l WHERE t.user_id = l.user_id AND t.origin = l.origin
""").bindparams(most=MAX_PAUSE * (1 + SPREAD))
# A phone's next slot stays as far from its last release as it was.
_PHONES = text("""
    UPDATE device_state s
    SET next_slot_at = CASE WHEN s.last_release_at > c.now THEN c.now + (s.next_slot_at - s.last_release_at)
                       ELSE s.next_slot_at END,
        last_release_at = LEAST(s.last_release_at, c.now), seen_at = LEAST(s.seen_at, c.now),
        pulled_at = LEAST(s.pulled_at, c.now), stream_seen_at = LEAST(s.stream_seen_at, c.now),
        woken_at = LEAST(s.woken_at, c.now)
    FROM (SELECT clock_timestamp() AS now) c
    WHERE s.device_id = ANY(ARRAY(SELECT device_id FROM device_state ORDER BY device_id FOR NO KEY UPDATE))
""")
# Each in a transaction of its own. Phones are the last: by them it is known that the clock was set back.
STATEMENTS = (_WATCH, _CAMPAIGNS, _DELIVERIES, _RECEIVERS, _PHONES)


def is_set_back(session: Session) -> bool:
    """Whether something was noted that is to come only."""
    return bool(session.scalar(_IS_SET_BACK))
