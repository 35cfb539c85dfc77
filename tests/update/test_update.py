"""`make update-test`, with little load."""

import pytest

from tests.update.run import Options, run


@pytest.mark.needs_haproxy
@pytest.mark.needs_history
@pytest.mark.timeout(300)
def test_an_update_from_the_version_before_loses_nothing_and_sends_nothing_twice() -> None:
    result = run(Options(seconds=1.0), print)
    assert result.schema[0] < result.schema[1]
    assert result.is_good, result
