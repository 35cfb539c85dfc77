"""Pace: how fast phones are given messages, and how long what they were given counts against them.

Every time, window and delay of hand-out, routing, waking, moving, failover, forecasts and timelines stands here once:
as a constant or a function, and as a fragment of SQL made of the same constant. In the fragments `q` is a row of
`message_queue`, `d` of `devices` and `s` of `device_state`. What a phone that is offline or fails has to wait is in
`devices`, and what its own limits allow in `limits`.
"""

import random
from datetime import datetime, timedelta
from typing import TypedDict

from app.core.database import interval
from app.core.lanes import Lane
from app.devices.models import PhoneRow, PhoneState
from app.messages.dispatch import marks
from app.messages.dispatch.marks import in_queue
from app.messages.states import Stage

# Of a pull: new messages and repeats together.
MAX_ANSWER = 100
# A phone that was offered a message and has not reported it is offered it again after this time.
REPEAT_AFTER = timedelta(seconds=30)
# A phone with a delay gets no new message while it has not reported the last one, for this long.
UNREPORTED_HOLDS_FOR = timedelta(minutes=1)
# A message that its phone accepted and never spoke of again stops to count after this time: the app is known to drop
# some of its "sent" broadcasts, and they would close the phone's window for a day.
IN_FLIGHT_FOR = timedelta(minutes=10)
# How far a phone is filled ahead, and how many messages that may be.
LOOKAHEAD = timedelta(minutes=1)
MIN_LOOKAHEAD, MAX_LOOKAHEAD = 20, 200
# How many messages a phone without a delay may have and not have sent, by what it was seen to send in this time.
MEASURED_OVER = timedelta(seconds=30)
MIN_WINDOW, MAX_WINDOW = 5, 100
# A failing SIM card whose rest is over is given one message, and no other within this time.
TRIAL = timedelta(minutes=1)
# What waits for longer than this was forgotten by a nudge, and the sweep nudges again.
OVERDUE = timedelta(seconds=2)
# Routing takes milliseconds, and where its nudge was lost a sweep. What waits for longer although a phone has room
# waits for a worker.
ROUTED_WITHIN = timedelta(seconds=10)
# An expectation that was not met by then is over.
EXPECTED_WITHIN = timedelta(seconds=15)
# Longer than any transaction that writes messages may take: what it wrote by what held before is looked for after it.
STRAGGLING = timedelta(seconds=90)
# Nothing is foretold beyond it.
FORESEEN = timedelta(days=366)

PACED = "(d.send_delay_seconds + d.send_delay_spread_seconds > 0)"
SLOT_IS_FREE = "COALESCE(s.next_slot_at <= clock_timestamp(), true)"
REPEAT_IS_DUE = f"COALESCE(q.offered_at <= clock_timestamp() - {interval(REPEAT_AFTER)}, true)"
UNREPORTED = f"q.stage = {Stage.RELEASED} AND q.released_at > clock_timestamp() - {interval(UNREPORTED_HOLDS_FOR)}"
_RECENT = f"q.released_at > clock_timestamp() - {interval(IN_FLIGHT_FOR)}"
# What the phone was given and has not sent.
IN_FLIGHT = f"q.stage IN ({Stage.RELEASED}, {Stage.ACCEPTED}) AND {_RECENT}"
# That, and what waits for it.
AHEAD = f"q.stage < {Stage.HELD} AND (q.stage = {Stage.WAITING} OR {_RECENT})"
# Of what waits: its campaign may have been paused since it began to. Read once a statement, so that a claim keeps to
# the order of its index.
NOT_PAUSED = "(q.campaign_id IS NULL OR q.campaign_id <> ALL (ARRAY(SELECT h.campaign_id FROM held_campaigns h)))"
# For the same: the allowed hours that it was judged by are not over.
IN_HOURS = "COALESCE(closes_at > clock_timestamp(), true)"
# To be joined to `d`: as `a.ahead`, how many messages the phone has ahead of it, up to `:most`.
COUNT_AHEAD = f"""
    LATERAL (SELECT count(*) AS ahead FROM (
        SELECT FROM {in_queue("d.user_id", "d.id", marks.AHEAD, where=AHEAD, most=":most")} LIMIT :most) AS rows) a
"""  # noqa: S608 - constants
_SINGLE_AHEAD = f"k.lane = {Lane.SINGLE} AND {AHEAD}"
# The same, as `b.singles_ahead`, of single sends: they have a lane of their own, and no bulk takes its room.
COUNT_SINGLES_AHEAD = f"""
    LATERAL (SELECT count(*) AS singles_ahead FROM (
        SELECT FROM {in_queue("d.user_id", "d.id", marks.AHEAD, where=_SINGLE_AHEAD, most=":most")}
        LIMIT :most) AS rows) b
"""  # noqa: S608 - constants
# Its limits hold the phone back for longer than it is filled ahead.
HELD = f"COALESCE(s.held_until > clock_timestamp() + {interval(LOOKAHEAD)}, false)"


class Delay(TypedDict):
    """What the phone's owner wants between two messages."""

    send_delay_seconds: int
    send_delay_spread_seconds: int


class Pace(Delay):
    """How much a phone can send: by its delay, or by what it was seen to send."""

    send_window: int


def is_paced(phone: Delay) -> bool:
    """As `PACED`."""
    return bool(phone["send_delay_seconds"] or phone["send_delay_spread_seconds"])


def mean_delay(phone: Delay) -> float:
    """Seconds that the phone's owner wants between two messages, on average."""
    return phone["send_delay_seconds"] + phone["send_delay_spread_seconds"] / 2


def next_delay(phone: Delay) -> timedelta:
    """The time from the message that is released now to the next one."""
    spread = random.uniform(0, phone["send_delay_spread_seconds"])  # noqa: S311 - no secret
    return timedelta(seconds=phone["send_delay_seconds"] + spread)


def seconds_each(phone: Pace) -> float:
    """Seconds from one message of the phone to the next: its mean delay, or what it was seen to need."""
    return mean_delay(phone) or MEASURED_OVER.total_seconds() / phone["send_window"]


def lookahead(phone: Pace) -> int:
    """How many messages a phone may have ahead of it: what it can send in the next minute, and at least 20."""
    delay = mean_delay(phone)
    can_send = int(LOOKAHEAD.total_seconds() / delay) if delay else 2 * phone["send_window"]
    return min(max(MIN_LOOKAHEAD, can_send), MAX_LOOKAHEAD)


def room(state: PhoneRow, now: datetime, in_flight: int, youngest_unreported: datetime | None) -> int:
    """How many new messages the phone may have now."""
    if not is_paced(state):
        return max(0, min(MAX_ANSWER, state["send_window"] - in_flight))
    slot_is_free = state["next_slot_at"] is None or state["next_slot_at"] <= now
    is_reported = youngest_unreported is None or now - youngest_unreported >= UNREPORTED_HOLDS_FOR
    return 1 if slot_is_free and is_reported else 0


def room_for_singles(state: PhoneRow, singles_in_flight: int) -> int:
    """How many single sends it may have although it has no room: bulk that fills its window does not keep them."""
    return 0 if is_paced(state) else max(0, MIN_WINDOW - singles_in_flight)


def measure(state: PhoneState, now: datetime, in_flight: int) -> None:
    """Follow what the phone was seen to send in 30 seconds: up as soon as it is seen, down when a period has passed.

    `state` is its row of `device_state`, changed in place; `in_flight` is what it was given and has not sent.
    """
    since, window = state["measured_since"], state["send_window"]
    over = since is None or now - since >= MEASURED_OVER
    if since is not None:
        given = state["measured_in_flight"] + state["measured_released"]
        sent = given - in_flight
        seen = round(sent * (MEASURED_OVER / (now - since))) if over else sent
        # Only one that had its fill and still has some of it was busy all the time: how fast it is can be told.
        was_busy = over and given >= window and in_flight > 0
        state["send_window"] = min(max(seen if was_busy else max(seen, window), MIN_WINDOW), MAX_WINDOW)
    if over:
        state["measured_since"] = now
        state["measured_in_flight"] = in_flight
        state["measured_released"] = 0
