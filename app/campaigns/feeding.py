"""Feeding: recipients of running campaigns become messages when these are about to be needed.

A small stock of messages waits for an account's phones; the campaigns that use them have equal parts of it. One batch
is one transaction that writes the messages and marks their recipients, so a process that dies leaves each of them with
a message or without one, and no recipient gets two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import chain, zip_longest
from typing import NamedTuple

from sqlalchemy import Integer, text
from sqlalchemy.orm import Session

from app.campaigns import eligibility, fleet, rate, rules
from app.campaigns.eligibility import Candidate
from app.campaigns.fleet import Choice, Phone
from app.campaigns.models import Campaign, CampaignLeftOut, CampaignRecipient
from app.campaigns.schemas import Counts
from app.campaigns.sources import NAME_FIELD
from app.campaigns.states import RecipientState
from app.campaigns.texts import Template
from app.contacts import book
from app.core.arrays import transposed, unnest
from app.core.ids import uuid7
from app.messages import storing
from app.messages.accepting.device_choice import account_rate
from app.messages.dispatch import placing, routing, waking
from app.messages.life import transitions
from app.messages.life.transitions import Change
from app.messages.schemas import MESSAGE_LENGTH
from app.messages.segments import segments
from app.messages.states import Event

# How soon a running campaign is looked at again by itself; phones that run low see to it earlier.
LOOK_EVERY = timedelta(seconds=2)
# One with a rate is looked at by each tick, which come once a second: it is due a little before.
RATED_EVERY = timedelta(seconds=0.5)
WAITS_FOR_PHONES = timedelta(seconds=10)
MAX_RETRIED = 500
MAX_LISTED = 10_000

NO_TEXT, TOO_LONG = "no_text", "too_long"


@dataclass(slots=True)
class Fed:
    """A running campaign during one feed: how much of it waits, and how many messages it may have at most."""

    campaign: Campaign
    choice: Choice
    waiting: int
    wanted: int
    zones: Sequence[str] | None
    closings: Mapping[str, datetime | None]
    taken: list[Candidate] = field(default_factory=list)


class _New(NamedTuple):
    candidate: Candidate
    text: str


def feed(
    session: Session, user_id: int, campaigns: Sequence[Campaign], counts: Mapping[int, Counts], now: datetime
) -> int:
    """Make messages for the locked running campaigns of one user, as many as their phones need; how many."""
    phones = fleet.enabled(session, user_id)
    fed = [_asked(session, campaign, counts[campaign.id], now) for campaign in campaigns]
    rooms: dict[int, int] = {}
    for choice in {one.choice for one in fed}:
        rooms |= _rooms([one for one in fed if one.choice == choice], fleet.among(phones, choice), now)
    _take(session, fed, rooms)
    candidates = [one for one in chain(*zip_longest(*(one.taken for one in fed))) if one is not None]
    by_id = {one.campaign.id: one.campaign for one in fed}
    new = _eligible(session, user_id, by_id, candidates)
    closings = {one.campaign.id: one.closings for one in fed}
    made = _make(session, user_id, by_id, [one for one in new if one.candidate.message_id is None], phones, closings)
    retried = _retry(session, by_id, candidates, new, closings)
    _note(session, fed, now)
    return made + retried


def _asked(session: Session, campaign: Campaign, counts: Counts, now: datetime) -> Fed:
    opening = eligibility.opening(session, campaign, now)
    wanted = fleet.MAX_STOCK
    if campaign.rate_per_minute is not None:
        wanted = min(wanted, rate.allowed(campaign, campaign.rate_per_minute, counts.waiting, now))
    most = rules.first(campaign)
    if most is not None:
        wanted = min(wanted, max(0, most - (counts.recipients - counts.not_made)))
    if opening.zones is not None and not opening.zones:
        wanted = 0
    campaign.reason_code, campaign.reason = opening.code, opening.parameters and dict(opening.parameters)
    closed = wanted == 0 and opening.until is not None and opening.until > now + WAITS_FOR_PHONES
    campaign.next_look_at = now + (WAITS_FOR_PHONES if closed else LOOK_EVERY)
    return Fed(campaign, fleet.choice_of(campaign), counts.waiting, wanted, opening.zones, opening.closings)


def _rooms(fed: Sequence[Fed], phones: Sequence[Phone], now: datetime) -> dict[int, int]:
    """The parts that campaigns of the same phones have of their stock's room."""
    if not phones:
        for one in fed:
            one.campaign.reason_code, one.campaign.reason = "no_phone_enabled", None
            one.campaign.next_look_at = now + WAITS_FOR_PHONES
        return {}
    room = fleet.stock(phones) - sum(one.waiting for one in fed)
    waiting = {one.campaign.id: one.waiting for one in fed}
    return fleet.shares(room, waiting, {one.campaign.id: one.wanted for one in fed})


_CANDIDATE = "r.campaign_id, r.place, r.number, r.name, r.fields, r.zone, r.message_id"
_NEXT = text(f"""
    SELECT {_CANDIDATE} FROM {unnest(CampaignRecipient.campaign_id, most=Integer())}, LATERAL (
        SELECT * FROM campaign_recipients r
        WHERE r.campaign_id = u.campaign_id AND r.state = {RecipientState.WAITING}
        ORDER BY r.zone, r.place LIMIT u.most) r
""")  # noqa: S608 - constants
_NEXT_IN_ZONES = text(f"""
    SELECT {_CANDIDATE} FROM {unnest(CampaignRecipient.zone)}, LATERAL (
        SELECT * FROM campaign_recipients r
        WHERE r.campaign_id = :campaign AND r.state = {RecipientState.WAITING} AND r.zone = u.zone
        ORDER BY r.place LIMIT :most) r
    ORDER BY r.place LIMIT :most
""")  # noqa: S608 - constants


def _take(session: Session, fed: Sequence[Fed], rooms: Mapping[int, int]) -> None:
    """The next recipients of each campaign. Nobody else touches them: their campaigns are locked."""
    with_room = [one for one in fed if rooms.get(one.campaign.id, 0) > 0]
    anywhere = {one.campaign.id: one for one in with_room if one.zones is None}
    asked = {"campaign_id": list(anywhere), "most": [rooms[campaign] for campaign in anywhere]}
    for row in session.execute(_NEXT, asked) if anywhere else ():
        anywhere[row.campaign_id].taken.append(Candidate(*row))
    for one in with_room:
        if one.zones is not None:
            values = {"campaign": one.campaign.id, "zone": list(one.zones), "most": rooms[one.campaign.id]}
            one.taken += [Candidate(*row) for row in session.execute(_NEXT_IN_ZONES, values)]


def _eligible(
    session: Session, user_id: int, campaigns: Mapping[int, Campaign], candidates: Sequence[Candidate]
) -> list[_New]:
    """The candidates who get a message, with their texts; the others are left out for good."""
    if not candidates:
        return []
    templates = {number: Template(campaign.message, campaign.columns) for number, campaign in campaigns.items()}
    nameless = [one.number for one in candidates if one.name is None and NAME_FIELD in templates[one.campaign_id].names]
    names = book.names_of(session, user_id, nameless) if nameless else {}
    reasons: dict[tuple[int, int], str] = {}
    new: list[_New] = []
    for one in candidates:
        body = templates[one.campaign_id].fill(one.name or names.get(one.number), one.fields)
        if one.message_id is None and (not body.strip() or len(body) > MESSAGE_LENGTH):
            reasons[one.campaign_id, one.place] = TOO_LONG if body.strip() else NO_TEXT
            continue
        new.append(_New(one, body))
    suppressed = eligibility.left_out(session, user_id, [one.candidate for one in new], [one.text for one in new])
    reasons |= suppressed
    new = [one for one in new if (one.candidate.campaign_id, one.candidate.place) not in suppressed]
    gone = [one for one in candidates if (one.campaign_id, one.place) in reasons and one.message_id is None]
    _leave_out(session, campaigns, [(one, reasons[one.campaign_id, one.place]) for one in gone])
    return new


_MARK = text(f"""
    UPDATE campaign_recipients r SET state = u.state, message_id = COALESCE(u.message_id, r.message_id)
    FROM {
    unnest(
        CampaignRecipient.campaign_id, CampaignRecipient.place, CampaignRecipient.state, CampaignRecipient.message_id
    )
} WHERE r.campaign_id = u.campaign_id AND r.place = u.place
""")  # noqa: S608 - names of columns
_MARKED = ("campaign_id", "place", "state", "message_id")
_LIST = text(f"""
    INSERT INTO campaign_left_out (campaign_id, value, reason)
    SELECT * FROM {unnest(CampaignLeftOut.campaign_id, CampaignLeftOut.value, CampaignLeftOut.reason)}
""")  # noqa: S608 - names of columns


def _leave_out(session: Session, campaigns: Mapping[int, Campaign], gone: Sequence[tuple[Candidate, str]]) -> None:
    if not gone:
        return
    listed: list[tuple[int, str, str]] = []
    for one, reason in gone:
        campaign = campaigns[one.campaign_id]
        if sum(campaign.left_out.values()) < MAX_LISTED:
            listed.append((one.campaign_id, one.number, reason))
        campaign.left_out = {**campaign.left_out, reason: campaign.left_out.get(reason, 0) + 1}
        campaign.recipients -= 1
    _mark(session, [(one.campaign_id, one.place, RecipientState.LEFT_OUT, None) for one, _ in gone])
    session.execute(_LIST, transposed(listed, "campaign_id", "value", "reason"))


def _mark(session: Session, rows: Sequence[tuple[int, int, int, int | None]]) -> None:
    if rows:
        session.execute(_MARK, transposed(rows, *_MARKED))


def _make(
    session: Session,
    user_id: int,
    campaigns: Mapping[int, Campaign],
    new: Sequence[_New],
    phones: Sequence[Phone],
    closings: Mapping[int, Mapping[str, datetime | None]],
) -> int:
    """Write the messages and mark their recipients."""
    if not new:
        return 0
    named = _named(campaigns, new, phones)
    placed = placing.place_many(session, user_id, phones, named.count(None))
    prices = {phone["id"]: phone["sms_rate"] for phone in phones}
    price = account_rate(session, user_id) if None in named else Decimal()
    makers = {number: _maker(campaign) for number, campaign in campaigns.items()}
    turns = iter(placed)
    messages = [
        makers[one.candidate.campaign_id](
            one,
            device or next(turns, None),
            prices.get(device, price) if device else price,
            _closing(closings[one.candidate.campaign_id], one.candidate.zone),
            named=device is not None,
        )
        for one, device in zip(new, named, strict=True)
    ]
    ids = storing.copy_many(session, messages)
    placing.leave_off(session, user_id, placed)
    _mark(
        session,
        [
            (one.candidate.campaign_id, one.candidate.place, RecipientState.MADE, number)
            for one, number in zip(new, ids, strict=True)
        ],
    )
    waking.wake_or_route(session, {(user_id, message.device_id or 0) for message in messages})
    return len(ids)


def _named(campaigns: Mapping[int, Campaign], new: Sequence[_New], phones: Sequence[Phone]) -> list[int | None]:
    """The phone that each message's campaign names, None for any. Several that are named take turns, by their room."""
    turns: dict[Choice, list[int]] = {}
    wanted: dict[Choice, int] = {}
    choices = {number: fleet.choice_of(campaign) for number, campaign in campaigns.items()}
    for one in new:
        choice = choices[one.candidate.campaign_id]
        wanted[choice] = wanted.get(choice, 0) + 1
    for choice, n in wanted.items():
        if choice is not None:
            turns[choice] = _turns(fleet.among(phones, choice), n)
    return [None if (choice := choices[one.candidate.campaign_id]) is None else turns[choice].pop() for one in new]


def _turns(phones: Sequence[Phone], n: int) -> list[int]:
    """Phones for `n` messages: first where there is room, then all that may be used in turn."""
    rooms = routing.room_of(phones)
    taken = routing.take_turns(rooms, 0, min(n, sum(rooms.values()))) if rooms else []
    usable = [phone["id"] for phone in phones if phone["online"]] or [phone["id"] for phone in phones]
    more = [usable[place % len(usable)] for place in range(n - len(taken))]
    return list(reversed([*taken, *more]))


def _closing(closings: Mapping[str, datetime | None], zone: str) -> datetime | None:
    """When the hours end by which the recipient's message was made."""
    return closings[zone] if zone in closings else closings.get("")


def _maker(campaign: Campaign) -> Callable[..., storing.NewMessage]:
    """What makes messages of one campaign; to ask its row for each of them would take longer than all the rest."""
    user, number, price = campaign.user_id, campaign.id, campaign.price
    my_id, callback_url, sim_slot, validity = (
        campaign.my_id,
        campaign.callback_url,
        campaign.sim_slot,
        campaign.validity_period,
    )
    parts: dict[str, tuple[int, str]] = {}

    ignores_opt_out = False

    def make(
        new: _New, device: int | None, usual: Decimal, closes_at: datetime | None, *, named: bool
    ) -> storing.NewMessage:
        body = new.text
        if body not in parts:
            parts[body] = segments(body)
        length, encoding = parts[body]
        # By place, as the fields stand.
        return storing.NewMessage(
            uuid7(), user, device, named, new.candidate.number, body, usual if price is None else price, my_id,
            callback_url, sim_slot, length, encoding, number, ignores_opt_out, validity, None, None, closes_at,
        )  # fmt: skip

    return make


def _retry(
    session: Session,
    campaigns: Mapping[int, Campaign],
    candidates: Sequence[Candidate],
    new: Sequence[_New],
    closings: Mapping[int, Mapping[str, datetime | None]],
) -> int:
    """Send failed messages again; those whose recipients may have none any more stay failed."""
    failed = [one for one in candidates if one.message_id is not None]
    again = {
        one.candidate.message_id: _closing(closings[one.candidate.campaign_id], one.candidate.zone)
        for one in new
        if one.candidate.message_id is not None
    }
    applied = transitions.apply(session, [Change(number, Event.RETRIED) for number in again])
    # Not of what its owner sent again in this moment: its queue row is not locked here.
    retried = [number for number, message in applied.items() if message.changed]
    validity = {one.message_id: campaigns[one.campaign_id].validity_period for one in failed}
    storing.limit(session, {number: seconds for number in retried if (seconds := validity[number]) is not None})
    storing.close(session, {number: closes_at for number in retried if (closes_at := again[number]) is not None})
    _mark(session, [(one.campaign_id, one.place, RecipientState.MADE, None) for one in failed])
    return len(again)


def _note(session: Session, fed: Sequence[Fed], now: datetime) -> None:
    for one in fed:
        if one.campaign.rate_per_minute is None:
            continue
        if one.taken:
            rate.spend(one.campaign, one.campaign.rate_per_minute, len(one.taken), now)
        if one.campaign.next_look_at == now + LOOK_EVERY:
            one.campaign.next_look_at = now + RATED_EVERY
    session.flush()
