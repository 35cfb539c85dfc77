"""A phone's window: how many messages it may have that it was given and has not sent, by what it was seen to send."""

from datetime import datetime, timedelta
from typing import Any

SMALLEST, LARGEST = 5, 100
MEASURED_OVER = timedelta(seconds=30)


def measure(state: dict[str, Any], now: datetime, in_flight: int) -> None:
    """Follow what the phone was seen to send in 30 seconds: up as soon as it is seen, down when a period has passed.

    `state` is its row of `device_state`, changed in place; `in_flight` is what it was given and has not sent.
    """
    since = state["measured_since"]
    sent = state["measured_in_flight"] + state["measured_released"] - in_flight
    over = since is None or now - since >= MEASURED_OVER
    if since is not None:
        was_full = state["measured_in_flight"] + state["measured_released"] >= state["send_window"]
        kept = max(sent, state["send_window"])
        seen = round(sent * (MEASURED_OVER / (now - since))) if over and was_full else kept
        state["send_window"] = min(max(seen, SMALLEST), LARGEST)
    if over:
        state["measured_since"] = now
        state["measured_in_flight"] = in_flight
        state["measured_released"] = 0
