"""The state of a phone in one word, and a hint for its owner where something is to be done."""

from collections.abc import Mapping
from typing import Any, Literal

from app.core.envelope import timestamp
from app.devices import android_limit
from app.devices.failures import LIMIT, OTHER, RATE_LIMIT, REASONS

State = Literal["online", "offline", "disabled", "failing", "quiet"]

FAILING = (
    "Most recent messages of SIM card {card} failed while other cards succeed. {reason} It is paused until {until},"
    " when one message is tried."
)
QUIET = (
    "The phone has accepted messages and sent nothing since {since},"
    " after about {parts} SMS parts in {minutes} minutes."
)

SENTENCES = (FAILING, f"{FAILING} {android_limit.ADVICE}", f"{QUIET} {android_limit.ADVICE}")


def of(row: Mapping[str, Any]) -> tuple[State, str | None]:
    """State and hint, from a row of `ownership`."""
    if not row["is_active"]:
        return "disabled", None
    if row["failing_since"]:
        return "failing", _failing(row)
    if not row["online"]:
        return "offline", None
    if row["quiet_since"]:
        since = timestamp(row["quiet_since"])
        quiet = QUIET.format(since=since, parts=android_limit.PARTS, minutes=android_limit.WINDOW_MINUTES)
        return "quiet", f"{quiet} {android_limit.ADVICE}"
    return "online", None


def _failing(row: Mapping[str, Any]) -> str:
    reason = REASONS.get(row["failing_reason"] or "", OTHER)
    card = row["failing_slot"] + 1
    hint = FAILING.format(card=card, reason=reason.sentence, until=timestamp(row["failing_until"]))
    return f"{hint} {android_limit.ADVICE}" if reason in {LIMIT, RATE_LIMIT} else hint
