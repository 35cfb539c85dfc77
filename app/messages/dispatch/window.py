"""A phone's window: how many messages it may have that it was given and has not sent, by what it was seen to send."""

from datetime import datetime, timedelta
from typing import Any

SMALLEST, LARGEST = 5, 100
MEASURED_OVER = timedelta(seconds=30)


def measure(state: dict[str, Any], now: datetime, in_flight: int) -> None:
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
        state["send_window"] = min(max(seen if was_busy else max(seen, window), SMALLEST), LARGEST)
    if over:
        state["measured_since"] = now
        state["measured_in_flight"] = in_flight
        state["measured_released"] = 0
