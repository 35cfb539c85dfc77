"""The table of endpoints is the one that `make endpoints` writes."""

import pytest

from app.endpoints import PAGE, endpoints, page


def test_the_table_is_what_the_application_says():
    if PAGE.read_text() != page():
        pytest.fail(f"{PAGE.name} is out of date: run `make endpoints`")


def test_it_has_the_calls_that_are_answered_outside_of_the_framework_too():
    names = {endpoint: function.__name__ for endpoint, function in endpoints()}
    assert {"POST /api/sms", "POST /hooks/{secret}", "GET /api/mobile/v1/message", "GET /docs"} <= names.keys()
    assert names["POST /api/sms"] != "send", "the one that answers, not its twin for the documents"
