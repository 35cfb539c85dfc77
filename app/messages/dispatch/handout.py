"""Hand-out: what a phone is given when it pulls.

The pace is kept here, in the database, under the lock of the phone's state row, by the database's clock: however often
a phone asks and however many processes answer, a slot is given once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Integer, text
from sqlalchemy.orm import Session

from app.core import metrics, outbound, trace_notes
from app.core.arrays import arrays_of, unnest
from app.core.batching import Later
from app.core.database import columns_of
from app.core.errors import Unauthenticated
from app.core.lanes import Lane
from app.core.task_names import TaskName
from app.devices import versions
from app.devices.auth import devices_by_token
from app.devices.models import DeviceState, PhoneRow
from app.messages.dispatch import limits, offers, pace, waking
from app.messages.dispatch.marks import AHEAD, AT_A_PHONE, in_queue
from app.messages.dispatch.offers import PLACE, Phone, places_of
from app.messages.models import QueueEntry
from app.messages.states import Stage
from app.optouts import consent


@dataclass(slots=True)
class Pull:
    """A phone asks for messages: the SHA-256 of its device token, and the app's version from its user agent."""

    token: bytes
    app_version: str | None = None


@dataclass(slots=True)
class Released:
    """A message in an answer to a pull."""

    message_id: Any
    attempt: int
    text: str
    recipient_number: str
    lane: int
    sim_slot: int
    valid_until: datetime
    created_at: datetime
    cancelling: bool
    new: bool


_LOCK = text(f"""
    SELECT {columns_of(DeviceState, "s")},
           d.token_hash, d.user_id, d.is_active AND NOT EXISTS (
               SELECT FROM users u WHERE u.id = d.user_id AND u.blocked_at IS NOT NULL) AS is_active,
           d.send_delay_seconds, d.send_delay_spread_seconds, d.default_sim_slot,
           d.app_version, d.limits, d.sim_selection,
           CASE d.sim_selection WHEN 'alternate' THEN d.sim_cards END AS sim_cards
    FROM device_state s JOIN devices d ON d.id = s.device_id
    WHERE d.token_hash = ANY(:tokens) AND d.removed_at IS NULL
    ORDER BY s.device_id FOR NO KEY UPDATE OF s SKIP LOCKED
""")  # noqa: S608 - constants

_PHONE = ("p.user_id", "p.device_id")
_STANDING = text(f"""
    WITH shared AS MATERIALIZED ({consent.SHARE.format(users=unnest(QueueEntry.user_id))})
    SELECT p.device_id, clock_timestamp() AS now, f.in_flight, f.singles_in_flight, f.youngest_unreported, f.recalled
    FROM {unnest(*PLACE, alias="p")},
    LATERAL (
        SELECT count(*) FILTER (WHERE {pace.AHEAD}) AS in_flight,
               count(*) FILTER (WHERE {pace.AHEAD} AND q.lane = {Lane.SINGLE}) AS singles_in_flight,
               max(q.released_at) FILTER (WHERE q.stage = {Stage.RELEASED}) AS youngest_unreported,
               COALESCE(bool_or(q.cancelling), false) AS recalled
        FROM {in_queue(*_PHONE, AT_A_PHONE, columns="stage, lane, released_at, cancelling")}
    ) f
    WHERE (SELECT count(*) FROM shared) > 0
""")  # noqa: S608 - constants

# The last look: after the lock that `_STANDING` has taken, so that it sees every opt-out committed before.
_TEXTS = text(f"""
    SELECT m.id, m.message_id, m.attempt, m.message, m.recipient_number, m.created_at,
           NOT m.ignores_opt_out AND {consent.is_opted_out("m.user_id", "m.recipient_number")} AS opted_out
    FROM messages m WHERE m.id = ANY(:ids)
""")  # noqa: S608 - constants

_SAVED = (
    DeviceState.last_release_at,
    DeviceState.next_slot_at,
    DeviceState.send_window,
    DeviceState.measured_since,
    DeviceState.measured_in_flight,
    DeviceState.measured_released,
    DeviceState.next_sim_slot,
    DeviceState.held_until,
    DeviceState.held_by,
)
# The phone's row is written, and what is left behind is looked for: what it was given waits no more.
_SAVE = text(f"""
    WITH saved AS (
        UPDATE device_state s
        SET pulled_at = clock_timestamp(), seen_at = clock_timestamp(), woken_at = NULL,
            {", ".join(f"{column.key} = u.{column.key}" for column in _SAVED)}
        FROM {unnest(DeviceState.device_id, *_SAVED)} WHERE s.device_id = u.device_id
    )
    SELECT p.device_id,
           EXISTS (SELECT FROM {in_queue(*_PHONE, most="1")}) AS waiting,
           (SELECT count(*) FROM (
               SELECT FROM {in_queue(*_PHONE, AHEAD, where=pace.AHEAD, most="p.enough")} LIMIT p.enough) AS ahead
           ) < p.enough AS needs_refill,
           EXISTS (SELECT FROM {in_queue("p.user_id", "0", most="1")}) AS queued
    FROM {unnest(*PLACE, alias="p", enough=Integer())}
""")  # noqa: S608 - constants


# Cancels messages of people who have opted out; what it takes for that lies above dispatch.
Cancel = Callable[[Session, list[int]], None]


def hand_out(session: Session, pulls: list[Pull], cancel: Cancel) -> Sequence[tuple[int, list[Released]] | Exception]:
    """Answer the pulls of several phones: new messages within each phone's room and pace, then repeats.

    The outcome of one pull is the phone and its messages, `Unauthenticated`, or `Later` where another process is
    answering the same phone at this moment.
    """
    tokens = {pull.token for pull in pulls}
    phones = _lock(session, tokens)
    device_of = {phone.state["token_hash"]: device_id for device_id, phone in phones.items()}
    _learn_versions(session, pulls, device_of, phones)
    answers = _release(session, phones, cancel)
    locked_elsewhere = _still_enrolled(session, tokens - device_of.keys())
    outcomes: list[tuple[int, list[Released]] | Exception] = []
    for pull in pulls:
        if (device_id := device_of.get(pull.token)) is not None:
            outcomes.append((device_id, answers[device_id]))
        else:
            outcomes.append(Later() if pull.token in locked_elsewhere else Unauthenticated())
    return outcomes


def _still_enrolled(session: Session, tokens: Collection[bytes]) -> set[bytes]:
    if not tokens:
        return set()
    return {token for token, device in devices_by_token(session, tokens).items() if not device["removed"]}


def _learn_versions(
    session: Session, pulls: list[Pull], device_of: Mapping[bytes, int], phones: Mapping[int, Phone]
) -> None:
    told: dict[int, str] = {}
    for pull in pulls:
        device_id = device_of.get(pull.token)
        if device_id and pull.app_version and pull.app_version != phones[device_id].state["app_version"]:
            phones[device_id].state["app_version"] = told[device_id] = pull.app_version
    versions.learn(session, told)


def _lock(session: Session, tokens: Collection[bytes]) -> dict[int, Phone]:
    rows = session.execute(_LOCK, {"tokens": list(tokens)}).mappings()
    states = {row["device_id"]: cast("PhoneRow", dict(row)) for row in rows}
    if not states:
        return {}
    standing = session.execute(
        _STANDING, {"user_id": [state["user_id"] for state in states.values()], "device_id": list(states)}
    )
    return {
        row.device_id: Phone(
            states[row.device_id],
            row.now,
            row.in_flight,
            row.singles_in_flight,
            row.youngest_unreported,
            row.recalled,
        )
        for row in standing
    }


def _release(session: Session, phones: dict[int, Phone], cancel: Cancel) -> dict[int, list[Released]]:
    for phone in phones.values():
        pace.measure(phone.state, phone.now, phone.in_flight)
        if not phone.idle:
            phone.room = pace.room(phone.state, phone.now, phone.in_flight, phone.youngest_unreported)
            if not phone.room and not limits.needs_care(phone.state):
                phone.lane, phone.room = Lane.SINGLE, pace.room_for_singles(phone.state, phone.singles_in_flight)
    answers = _answers(session, phones, cancel)
    for device_id, phone in phones.items():
        new = sum(message.new for message in answers[device_id])
        metrics.count(session, "released", new)
        _take_slot(phone, new)
    if phones:
        _save(session, phones)
    return answers


def _answers(session: Session, phones: Mapping[int, Phone], cancel: Cancel) -> dict[int, list[Released]]:
    answers: dict[int, list[Released]] = {device_id: [] for device_id in phones}
    claims = offers.claim(session, phones)
    if not claims:
        return answers
    texts = {row.id: row for row in session.execute(_TEXTS, {"ids": [claim.message_id for claim in claims]})}
    if refused := [claim for claim in claims if texts[claim.message_id].opted_out and not claim.cancelling]:
        claims = [claim for claim in claims if claim not in refused]
        if never_given := [claim.message_id for claim in refused if claim.new]:
            offers.take_back(session, never_given)
            cancel(session, never_given)
    trace_notes.tell(session, (("handed to a phone", claim.message_id) for claim in claims if claim.new))
    for claim in sorted(claims, key=lambda claim: (not claim.new, claim.lane, claim.message_id)):
        content = texts[claim.message_id]
        phones[claim.device_id].of_campaign |= claim.campaign_id is not None
        answers[claim.device_id].append(
            Released(
                message_id=content.message_id,
                attempt=content.attempt,
                text=content.message,
                recipient_number=content.recipient_number,
                lane=claim.lane,
                sim_slot=claim.sim_slot,
                valid_until=claim.valid_until,
                created_at=content.created_at,
                cancelling=claim.cancelling,
                new=claim.new,
            )
        )
    return answers


def _take_slot(phone: Phone, released: int) -> None:
    state = phone.state
    phone.released = released
    state["measured_released"] += released
    if released:
        state["last_release_at"] = phone.now
        state["next_slot_at"] = phone.now + pace.next_delay(state)


def _save(session: Session, phones: Mapping[int, Phone]) -> None:
    """Write the phones' rows. One that leaves something behind is woken when it may have it; one that is low is filled
    by routing or by campaigns.
    """
    states = arrays_of((phone.state for phone in phones.values()), DeviceState.device_id, *_SAVED)
    enough = [max(1, pace.lookahead(phone.state) // 2) for phone in phones.values()]
    rows = session.execute(_SAVE, {**states, **places_of(phones), "enough": enough})
    for device_id, waiting, needs_refill, queued in rows:
        phone = phones[device_id]
        if waiting and not phone.idle:
            _wake_again(session, device_id, phone)
        if needs_refill and not phone.idle and (queued or phone.of_campaign):
            task = TaskName.ROUTE if queued else TaskName.FEED
            outbound.nudge(session, task, phone.state["user_id"])


def _wake_again(session: Session, device_id: int, phone: Phone) -> None:
    """At the next slot, or when a limit lets go; where it is neither, a report that frees room wakes by itself."""
    if not pace.is_paced(phone.state) and phone.held_until is None:
        return
    at = (phone.state["next_slot_at"] if pace.is_paced(phone.state) else None) or phone.now
    at = max(at, phone.held_until or at)
    if phone.youngest_unreported and not phone.released:
        at = max(at, phone.youngest_unreported + pace.UNREPORTED_HOLDS_FOR)
    waking.wake(session, device_id, max(0.0, (at - phone.now).total_seconds()))


_NEVER_REPEAT = text(f"""
    UPDATE message_queue SET stage = {Stage.ACCEPTED}, accepted_at = NULL WHERE message_id = ANY(ARRAY(
        SELECT message_id FROM message_queue
        WHERE user_id = :user AND device_id = :device AND stage IN ({Stage.RELEASED}, {Stage.ACCEPTED})
        ORDER BY message_id FOR NO KEY UPDATE))
""")  # noqa: S608 - constants


def never_repeat(session: Session, user_id: int, device_id: int) -> None:
    """For a phone that enrolls again: do not offer it once more what it was given before.

    An app that was set up anew does not know which of it has left. What the phone still knows it reports by itself, and
    has accepted then; of the rest nobody can know, and it ends as uncertain.
    """
    session.execute(_NEVER_REPEAT, {"user": user_id, "device": device_id})
