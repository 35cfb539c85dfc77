"""Why a message is not sent yet, as a code with parameters, and the sentence of each code.

One table, and in it whole sentences, so that each can be translated as one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.messages.dispatch.limits import OF_A_SIM, PERIODS, RECIPIENTS

SENTENCES: dict[str, str] = {
    "scheduled": "The message is scheduled for {at}.",
    "outside_hours": "It is outside the allowed hours in {zone}; the message waits until {until}.",
    "outside_hours_guessed": "It is outside the allowed hours in {zone}, which is a guess from the number; the message"
    " waits until {until}.",
    "outside_hours_of_campaign": "It is outside the hours of its campaign; the message waits until {until}.",
    "campaign_paused": "The campaign of this message is paused; it goes out when the campaign is resumed.",
    "recalled": "{device} has been asked to give the message back and has not answered yet.",
    "given_before_reinstall": "The message was given to {device} before the phone was reinstalled; nobody knows yet"
    " whether it was sent.",
    "accepted": "{device} has accepted the message and has not reported yet that it was sent.",
    "quiet": "{device} has accepted the message and has sent nothing since {since}; it may have reached Android's limit"
    " of about 30 SMS parts in 30 minutes and be asking its owner on its screen.",
    "released": "The message was given to {device}, which has not confirmed it yet.",
    "no_phone_enabled": "No phone is enabled; the message goes out when one is enabled.",
    "no_phone_online": "No phone is online; the message goes out when one is back.",
    "all_phones_at_limit": "Every phone has reached its limit; the first is free again at {until}.",
    "not_routed": "A phone is free, but no worker has assigned the message to it since {since}; the workers may have"
    " stopped or be behind.",
    "gateway_was_away": "The gateway was away until a moment ago, and phones are just coming back to it; the message"
    " follows them.",
    "queued_next": "Waiting for a free phone; this message is next.",
    "queued": "Waiting for a free phone; messages ahead: {ahead}.",
    "chosen_phone_disabled": "{device}, the phone you chose, is disabled; the message waits until it is enabled.",
    "phone_disabled": "{device} is disabled; the message moves to another phone.",
    "chosen_phone_offline": "{device}, the phone you chose, has been offline since {last_seen}; the message waits until"
    " it is back.",
    "phone_offline": "{device} has been offline since {last_seen}; the message moves as soon as another phone is"
    " online.",
    "chosen_phone_never_seen": "{device}, the phone you chose, has not been online yet; the message waits until it is.",
    "phone_never_seen": "{device} has not been online yet; the message moves as soon as another phone is online.",
    "limit_per_minute": "{device} has reached its limit per minute; the message waits until {until}.",
    "limit_per_hour": "{device} has reached its limit per hour; the message waits until {until}.",
    "limit_per_day": "{device} has reached its limit per day; the message waits until {until}.",
    "limit_per_month": "{device} has reached its limit for 30 days; the message waits until {until}.",
    "limit_recipients_per_month": "{device} has reached its limit of recipients for 30 days; the message waits until"
    " {until}.",
    "sim_limit_per_minute": "The SIM card of {device} has reached its limit per minute; the message waits until"
    " {until}.",
    "sim_limit_per_hour": "The SIM card of {device} has reached its limit per hour; the message waits until {until}.",
    "sim_limit_per_day": "The SIM card of {device} has reached its limit per day; the message waits until {until}.",
    "sim_limit_per_month": "The SIM card of {device} has reached its limit for 30 days; the message waits until"
    " {until}.",
    "sim_limit_recipients_per_month": "The SIM card of {device} has reached its limit of recipients for 30 days; the"
    " message waits until {until}.",
    "phone_busy": "{device} has not reported yet what became of the messages it was given, and gets no others until"
    " then; messages ahead: {ahead}.",
    "phone_late": "{device} is online but has not fetched the message, which was expected at {expected}; messages"
    " ahead: {ahead}.",
    "paced_next": "{device} sends one message every {delay} seconds; this message is next.",
    "paced": "{device} sends one message every {delay} seconds; messages ahead: {ahead}.",
    "in_line_next": "Next in line on {device}.",
    "in_line": "In line on {device}; messages ahead: {ahead}.",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A code of `SENTENCES`, and what its sentence speaks of."""

    code: str
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return SENTENCES[self.code].format(**self.parameters)


def limit_code(held_by: str) -> str:
    """The code of the limit by its name in `device_state`."""
    of_sim = "sim_" if held_by.startswith(OF_A_SIM) else ""
    return f"{of_sim}limit_{held_by.removeprefix(OF_A_SIM)}"


LIMIT_CODES = {limit_code(prefix + name) for prefix in ("", OF_A_SIM) for name in (*PERIODS, RECIPIENTS)}
