"""The connection to the broker."""

import pytest

from app.core.queue import RECONNECT_SECONDS, celery_at


class EnoughError(Exception):
    """Ends a connection's patience, which has no end."""


def test_a_broker_that_is_away_is_asked_again_at_an_even_pace(free_port):
    """What waited for longer each time would find a broker that was away for minutes half a minute late."""
    pauses = []

    def away(error, pause):
        pauses.append(pause)
        if len(pauses) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        celery_at(f"redis://127.0.0.1:{free_port()}/0").connection_for_read().ensure_connection(away)
    assert pauses == [RECONNECT_SECONDS] * 3
