"""The soak, in small: two API processes, two dispatch workers, and phones that misbehave."""

import pytest

from benchmarks import soak


@pytest.mark.timeout(240)
def test_no_message_is_lost_or_sent_twice_by_phones_that_misbehave():
    figures = {figure.name: figure.value for figure in soak.run(smoke=True)}
    assert (figures["lost"], figures["twice"], figures["before their slot"]) == (0, 0, 0)
    assert figures["on air"] > 300
    assert figures["phones that died"] == 3
    assert figures["with phones that died or were removed"] > 0
    assert figures["cancelled"] > 0
