"""What the API refuses with: a code and a sentence each, the code only where the whole answer is not a fixed one."""

from pathlib import Path

import pytest

from app.core import refusals
from app.core.errors import Forbidden, NeedsPremium, Refused, TooManyAttempts

ROOT = Path(__file__).parents[3]
KNOWN = {name: each for name, each in vars(refusals).items() if isinstance(each, refusals.Refusal)}


def test_codes_and_sentences_are_their_own():
    assert len({each.code for each in KNOWN.values()}) == len({each.sentence for each in KNOWN.values()}) == len(KNOWN)
    assert all(each.code == name.lower() for name, each in KNOWN.items())


@pytest.mark.parametrize("name", KNOWN)
def test_each_is_raised_somewhere(name):
    sources = (file.read_text() for file in (ROOT / "app").rglob("*.py") if file.name != "refusals.py")
    assert any(name in source for source in sources)


def test_answers_that_clients_know_have_no_code_and_others_do():
    assert Refused(refusals.NO_ACTIVE_DEVICE).body() == {"success": False, "message": "No active device available"}
    assert Forbidden().body() == {"success": False, "message": "Invalid ability provided."}
    assert NeedsPremium().body()["upgrade"] is True
    assert Refused(refusals.TRIED_ENOUGH, limit=7).body() == {
        "success": False,
        "message": "A message can be sent at most 7 times",
        "reason_code": "tried_enough",
    }
    assert TooManyAttempts(3).body() == {"success": False, "message": "Too Many Attempts."}
    why = Refused(refusals.ONLY_PENDING, reason=refusals.NOT_PENDING, status="sent").body()
    assert (why["reason"], why["reason_code"]) == ("The message's status is sent.", "not_pending")
