"""Times, windows and delays of dispatch stand in `dispatch/pace.py`, in Python and in SQL; nowhere a second time."""

import ast
import re
from pathlib import Path

import pytest

from app import messages

FOLDER = Path(messages.__path__[0])
PACE = FOLDER / "dispatch" / "pace.py"
# Lengths of time that are nobody's pace, each at its one place.
OTHERS = {
    "MAX_AHEAD": "how far ahead a message may be scheduled",
    "LATE": "how far back that may be",
    "PERIODS": "what an owner's limits count over",
    "GRACE": "how long a phone may stay silent after a message's validity",
    "SILENT_FOR": "what Android's own limit looks like",
    "SAME_WITHIN": "how far apart two reports of one inbound SMS may put it",
    "NOTICED_WITHIN": "how far apart the times of an MMS and of its notice may be",
    "KEYS_HOLD_FOR": "the promise about idempotency keys",
    "LEASE": "how long a bulk send may be written",
    "REMOVED_FOR": "how long a removed phone may still have something waiting",
    "DELETED_KEPT": "how long deleted messages stay",
    "EVENTS_KEPT": "how long repeated events are known",
    "RELEASES_KEPT": "a day more than limits count",
    "KEYS_KEPT": "an hour more than keys hold",
    "HOURS_KEPT": "how long figures by the hour are drawn",
    "FIGURES_KEPT": "how long figures of phones by the day are shown",
}
MODULES = sorted(path for path in FOLDER.rglob("*.py") if path != PACE)


def lengths(module: ast.Module) -> set[str]:
    """Names at the top of a module whose values are made with a number of seconds, minutes, hours or days."""
    found = set()
    for statement in ast.walk(module):
        for call in ast.walk(statement) if isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr) else ():
            if (
                isinstance(call, ast.Call)
                and getattr(call.func, "id", None) == "timedelta"
                and any(isinstance(word.value, ast.Constant) and word.value.value for word in call.keywords)
                and not any(word.arg == "microseconds" for word in call.keywords)
            ):
                target = statement.targets[0] if isinstance(statement, ast.Assign) else statement
                found.add(getattr(target, "id", ast.unparse(statement)))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_length_of_time_stands_beside_its_home(path):
    source = path.read_text()
    assert lengths(ast.parse(source)) <= OTHERS.keys()
    assert re.findall(r"interval '[^{']*[1-9][^{']*'", source) == [], "use `interval` of a constant"
    assert re.findall(r"make_interval\(\s*\w+\s*=>\s*[\d.]+", source) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_delays_are_reckoned_with_in_pace_only(path):
    reckoning = r"""send_delay_spread_seconds["']?\]?\s*[-+/*><]|[-+/*><]\s*(?:\w+\.)?send_delay|or \w+\["send_delay"""
    assert re.findall(reckoning, path.read_text()) == []


def test_the_test_sees_what_it_looks_for():
    assert {"REPEAT_AFTER", "IN_FLIGHT_FOR", "MEASURED_OVER"} <= lengths(ast.parse(PACE.read_text()))
    assert lengths(ast.parse("def f():\n    wait = timedelta(seconds=30)")) == {"wait"}
