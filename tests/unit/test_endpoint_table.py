"""The table of endpoints names every route, its code, and tests that are there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.devices.askers import account_of
from app.devices.streams import Streams
from app.main import create_api
from app.messages.accepting.sending import Sending
from app.messages.dispatch import waking
from app.mobile.calls import PhoneCalls

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"\| `(?P<endpoint>[A-Z]+ /\S*)` \| \[(?P<code>\S+)\]\(\.\./\S+\) `(?P<function>\w+)` \| (?P<tests>.+) \|"
)
LINK = re.compile(r"\[(\S+)\]\(\.\./(\S+)\)")


def table() -> dict[str, re.Match[str]]:
    lines = (ROOT / "docs" / "endpoints.md").read_text().splitlines()
    rows = [ROW.fullmatch(line) for line in lines if line.startswith("| `")]
    assert all(rows), "a row of the table is not in its form"
    return {row["endpoint"]: row for row in rows if row}


def routes(found: Any) -> Iterator[Any]:
    for route in found:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router.routes)
        else:
            yield route


def plain() -> dict[str, str]:
    """Endpoints of the plain routes, and the functions that answer them."""
    return {
        f"{method} {route.path}": route.endpoint.__name__
        for route in routes(create_api().routes)
        for method in route.methods - {"HEAD"}
    }


def direct() -> dict[str, str]:
    """Endpoints answered in front of the framework, and the methods that answer them."""
    calls = [*Sending(account_of).calls, *PhoneCalls(Streams(waking.due), account_of).calls]
    return {f"{call.method} {call.path}": call.handler.__name__ for call in calls}


def test_every_endpoint_is_in_the_table_and_no_other():
    named, known = set(table()), plain().keys() | direct()
    assert sorted(known - named) == []
    assert sorted(named - known) == []


def test_the_code_is_where_the_table_says():
    functions = plain() | direct()
    for endpoint, row in table().items():
        source = (ROOT / row["code"]).read_text()
        assert re.search(rf"def {row['function']}\(", source), endpoint
        assert row["function"] == functions[endpoint]


def test_every_test_that_is_named_exists():
    for endpoint, row in table().items():
        named = LINK.findall(row["tests"])
        assert named, endpoint
        for shown, target in named:
            assert shown == target
            assert re.search(r"^(async )?def test_", (ROOT / target).read_text(), re.MULTILINE), (endpoint, target)
