"""Why a campaign stands still, as a code with parameters, and the sentence of each code.

One table, and in it whole sentences, so that each can be translated as one.
"""

from collections.abc import Mapping
from typing import Any

SENTENCES: dict[str, str] = {
    "paused_by_owner": "You paused the campaign.",
    "outside_hours": "It is outside the allowed hours of every recipient that is left; the next opening is at {until}.",
    "end_reached": "The campaign's end at {at} came before all messages were sent.",
    "plan_ended": "Your plan no longer includes campaigns.",
    "no_phone_enabled": "None of the phones that the campaign may use is enabled.",
    "restored": "The gateway was restored from a backup of {at}. Recipients who are left may have been served since"
    " then: go on only if they may get the message twice.",
    "stopped_by_failures": "Of the last {of_last} messages {failed} failed; the stop rule allows less than"
    " {failed_share:.0%}.",
    "canary_not_delivered": "Of the first {first} messages {delivered} were delivered; the canary asks for"
    " {share:.0%} within {within_minutes} minutes.",
    "canary_not_sent": "Of the first {first} messages {sent} were sent; the canary asks for {share:.0%} within"
    " {within_minutes} minutes.",
    "canary_without_reports": "{sent} of the first {first} messages were sent, but the phones give no delivery reports,"
    " so nobody can know how many were delivered; ask the canary for sent_share, or resume.",
}


def sentence(code: str | None, parameters: Mapping[str, Any] | None) -> str | None:
    """The sentence of a code, none where there is no code."""
    return None if code is None else SENTENCES[code].format(**(parameters or {}))
