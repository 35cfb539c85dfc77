"""How many messages a phone may have at once follows what it was seen to send."""

from datetime import UTC, datetime, timedelta

import pytest

from app.messages.dispatch import pace

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "released", "in_flight", "expected"),
    [
        pytest.param(900, 20, 0, 20, id="a full burst and then nothing to do says nothing of its speed"),
        pytest.param(60, 200, 0, 100, id="nothing is left and it was fast"),
        pytest.param(60, 20, 4, 8, id="slow: 16 in a minute, and some are still there"),
        pytest.param(900, 20, 20, 5, id="it sends nothing, and never gets less than five"),
        pytest.param(900, 10, 3, 20, id="it never had its fill"),
        pytest.param(10, 50, 10, 40, id="fast, seen before the period is over"),
        pytest.param(10, 20, 15, 20, id="slow, but the period is not over"),
    ],
)
def test_the_window_follows_what_was_sent(seconds, released, in_flight, expected):
    state = {"send_window": 20, "measured_since": NOW, "measured_in_flight": 0, "measured_released": released}
    pace.measure(state, NOW + timedelta(seconds=seconds), in_flight)
    assert state["send_window"] == expected


def test_a_period_begins_with_the_first_pull_and_again_when_it_is_over():
    state = {"send_window": 20, "measured_since": None, "measured_in_flight": 0, "measured_released": 0}
    for seconds, since in ((0, 0), (29, 0), (30, 30)):
        pace.measure(state, NOW + timedelta(seconds=seconds), 3)
        assert state["measured_since"] == NOW + timedelta(seconds=since)
    assert (state["send_window"], state["measured_in_flight"]) == (20, 3)
