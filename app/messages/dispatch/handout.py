"""Hand-out: what a phone is given when it pulls.

The pace is kept here, in the database, under the lock of the phone's state row, by the database's clock: however often
a phone asks and however many processes answer, a slot is given once.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.batching import Later
from app.core.database import columns_of
from app.core.errors import Unauthenticated
from app.core.settings import get_settings
from app.core.task_names import TaskName
from app.devices import versions
from app.devices.auth import devices_by_token
from app.devices.models import DeviceState
from app.messages.dispatch import limits, waking, window
from app.messages.dispatch.routing import AHEAD, lookahead

MOST_IN_AN_ANSWER = 100
REPEAT_AFTER = timedelta(seconds=30)
UNREPORTED_HOLDS_FOR = timedelta(seconds=60)


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


@dataclass(slots=True)
class _Phone:
    """A locked phone during one hand-out."""

    state: dict[str, Any]
    now: datetime
    in_flight: int = 0
    youngest_unreported: datetime | None = None
    recalled: bool = False
    held_until: datetime | None = None
    room: int = 0
    released: int = 0

    @property
    def idle(self) -> bool:
        return not self.state["is_active"]


_LOCK = text(f"""
    SELECT {columns_of(DeviceState, "s")},
           d.user_id, d.is_active, d.send_delay_seconds, d.send_delay_spread_seconds, d.default_sim_slot,
           d.app_version, d.limits, d.sim_selection,
           CASE d.sim_selection WHEN 'alternate' THEN d.sim_cards END AS sim_cards
    FROM device_state s JOIN devices d ON d.id = s.device_id
    WHERE s.device_id = ANY(:ids) ORDER BY s.device_id FOR NO KEY UPDATE OF s SKIP LOCKED
""")  # noqa: S608 - constants

_STANDING = text(f"""
    SELECT p.device_id, clock_timestamp() AS now, f.in_flight, f.youngest_unreported, f.recalled
    FROM unnest(CAST(:users AS bigint[]), CAST(:devices AS bigint[])) AS p(user_id, device_id),
    LATERAL (
        SELECT count(*) FILTER (WHERE {AHEAD}) AS in_flight,
               max(q.released_at) FILTER (WHERE q.stage = 1) AS youngest_unreported,
               COALESCE(bool_or(q.cancelling), false) AS recalled
        FROM message_queue q WHERE q.user_id = p.user_id AND q.device_id = p.device_id AND q.stage IN (1, 2)
    ) f
""")  # noqa: S608 - a constant

_CLAIM = text("""
    WITH claimed AS MATERIALIZED (
        SELECT q.message_id, p.sim_slot, p.now
        FROM unnest(CAST(:users AS bigint[]), CAST(:devices AS bigint[]), CAST(:rooms AS integer[]),
                    CAST(:sims AS smallint[]), CAST(:nows AS timestamptz[]))
             AS p(user_id, device_id, room, sim_slot, now),
        LATERAL (
            SELECT message_id FROM message_queue
            WHERE user_id = p.user_id AND device_id = p.device_id AND stage = 0
              AND COALESCE(valid_until > clock_timestamp(), true)
            ORDER BY lane, message_id LIMIT p.room FOR NO KEY UPDATE SKIP LOCKED
        ) q
    )
    UPDATE message_queue q
    SET stage = 1, released_at = claimed.now, offered_at = claimed.now,
        valid_until = COALESCE(q.valid_until, claimed.now + CAST(:validity AS interval)),
        sim_slot = COALESCE(q.sim_slot, claimed.sim_slot)
    FROM claimed WHERE q.message_id = claimed.message_id
    RETURNING q.message_id, q.device_id, q.lane, q.sim_slot, q.valid_until, q.cancelling, true AS new
""")

_CLAIM_CHOSEN = text("""
    UPDATE message_queue q
    SET stage = 1, released_at = :now, offered_at = :now, sim_slot = u.sim_slot,
        valid_until = COALESCE(q.valid_until, CAST(:now AS timestamptz) + CAST(:validity AS interval))
    FROM unnest(CAST(:messages AS bigint[]), CAST(:slots AS smallint[])) AS u(message_id, sim_slot)
    WHERE q.message_id = u.message_id
    RETURNING q.message_id, q.device_id, q.lane, q.sim_slot, q.valid_until, q.cancelling, true AS new
""")

_AGAIN = """
    WITH again AS MATERIALIZED (
        SELECT q.message_id
        FROM unnest(CAST(:users AS bigint[]), CAST(:devices AS bigint[]), CAST(:rooms AS integer[]),
                    CAST(:all AS boolean[])) AS p(user_id, device_id, room, everything),
        LATERAL (
            SELECT message_id FROM message_queue
            WHERE user_id = p.user_id AND device_id = p.device_id AND {which}
              AND (p.everything OR COALESCE(offered_at <= clock_timestamp() - CAST(:rhythm AS interval), true))
            ORDER BY lane, message_id LIMIT p.room FOR NO KEY UPDATE SKIP LOCKED
        ) q
    )
    UPDATE message_queue q SET offered_at = clock_timestamp()
    FROM again WHERE q.message_id = again.message_id
    RETURNING q.message_id, q.device_id, q.lane, q.sim_slot, q.valid_until, q.cancelling, false AS new
"""
_REPEAT = text(_AGAIN.format(which="stage = 1 AND NOT cancelling"))
# Also what the phone accepted; and never to an app that would not see the difference.
_RECALL = text(_AGAIN.format(which="stage IN (1, 2) AND cancelling"))

_TEXTS = text("""
    SELECT id, message_id, attempt, message, recipient_number, created_at FROM messages WHERE id = ANY(:ids)
""")

_LEFT = text(f"""
    SELECT p.device_id,
           EXISTS (SELECT FROM message_queue q
                   WHERE q.user_id = p.user_id AND q.device_id = p.device_id AND q.stage = 0) AS waiting,
           (SELECT count(*) FROM (
               SELECT FROM message_queue q
               WHERE q.user_id = p.user_id AND q.device_id = p.device_id AND {AHEAD} LIMIT p.enough) AS ahead
           ) < p.enough
           AND EXISTS (SELECT FROM message_queue q
                       WHERE q.user_id = p.user_id AND q.device_id = 0 AND q.stage = 0) AS hungry
    FROM unnest(CAST(:users AS bigint[]), CAST(:devices AS bigint[]), CAST(:enough AS integer[]))
         AS p(user_id, device_id, enough)
""")  # noqa: S608 - a constant

_SAVE = text("""
    UPDATE device_state s
    SET pulled_at = clock_timestamp(), seen_at = clock_timestamp(), woken_at = NULL,
        last_release_at = u.last_release_at, next_slot_at = u.next_slot_at, send_window = u.send_window,
        measured_since = u.measured_since, measured_in_flight = u.measured_in_flight,
        measured_released = u.measured_released, next_sim_slot = u.next_sim_slot,
        held_until = u.held_until, held_by = u.held_by
    FROM unnest(CAST(:device_id AS bigint[]), CAST(:last_release_at AS timestamptz[]),
                CAST(:next_slot_at AS timestamptz[]), CAST(:send_window AS smallint[]),
                CAST(:measured_since AS timestamptz[]), CAST(:measured_in_flight AS bigint[]),
                CAST(:measured_released AS bigint[]), CAST(:next_sim_slot AS smallint[]),
                CAST(:held_until AS timestamptz[]), CAST(:held_by AS text[]))
         AS u(device_id, last_release_at, next_slot_at, send_window, measured_since, measured_in_flight,
              measured_released, next_sim_slot, held_until, held_by)
    WHERE s.device_id = u.device_id
""")


def hand_out(session: Session, pulls: list[Pull]) -> Sequence[tuple[int, list[Released]] | Exception]:
    """Answer the pulls of several phones: new messages within each phone's room and pace, then repeats.

    The outcome of one pull is the phone and its messages, `Unauthenticated`, or `Later` where another process is
    answering the same phone at this moment.
    """
    devices = devices_by_token(session, {pull.token for pull in pulls})
    ids = sorted({device["id"] for device in devices.values() if not device["removed"]})
    phones = _lock(session, ids)
    _learn_versions(session, pulls, devices, phones)
    answers = _release(session, phones)
    return [_outcome(devices.get(pull.token), answers) for pull in pulls]


def _outcome(
    device: RowMapping | None, answers: Mapping[int, list[Released]]
) -> tuple[int, list[Released]] | Exception:
    if device is None or device["removed"]:
        return Unauthenticated()
    answer = answers.get(device["id"])
    return Later() if answer is None else (device["id"], answer)


def _learn_versions(
    session: Session, pulls: list[Pull], devices: Mapping[bytes, RowMapping], phones: Mapping[int, _Phone]
) -> None:
    told: dict[int, str] = {}
    for pull in pulls:
        device = devices.get(pull.token)
        phone = phones.get(device["id"]) if device else None
        if phone and pull.app_version and pull.app_version != phone.state["app_version"]:
            phone.state["app_version"] = told[phone.state["device_id"]] = pull.app_version
    versions.learn(session, told)


def _lock(session: Session, ids: list[int]) -> dict[int, _Phone]:
    rows = [dict(row) for row in session.execute(_LOCK, {"ids": ids}).mappings()]
    states = {row["device_id"]: row for row in rows}
    if not states:
        return {}
    standing = session.execute(
        _STANDING, {"users": [state["user_id"] for state in states.values()], "devices": list(states)}
    )
    return {
        row.device_id: _Phone(states[row.device_id], row.now, row.in_flight, row.youngest_unreported, row.recalled)
        for row in standing
    }


def _release(session: Session, phones: dict[int, _Phone]) -> dict[int, list[Released]]:
    for phone in phones.values():
        window.measure(phone.state, phone.now, phone.in_flight)
        phone.room = _room(phone)
    answers = _answers(session, phones)
    for device_id, phone in phones.items():
        _take_slot(phone, sum(message.new for message in answers[device_id]))
    if phones:
        _save(session, phones)
        _tell(session, phones)
    return answers


def _room(phone: _Phone) -> int:
    """How many new messages the phone may have now."""
    state = phone.state
    if phone.idle:
        return 0
    if not _paced(state):
        send_window: int = state["send_window"]
        return max(0, min(MOST_IN_AN_ANSWER, send_window - phone.in_flight))
    slot_is_free = state["next_slot_at"] is None or state["next_slot_at"] <= phone.now
    unreported = phone.youngest_unreported
    answered = unreported is None or phone.now - unreported >= UNREPORTED_HOLDS_FOR
    return 1 if slot_is_free and answered else 0


def _paced(state: Mapping[str, Any]) -> bool:
    return bool(state["send_delay_seconds"] or state["send_delay_spread_seconds"])


def _answers(session: Session, phones: Mapping[int, _Phone]) -> dict[int, list[Released]]:
    answers: dict[int, list[Released]] = {device_id: [] for device_id in phones}
    claims = _claims(session, phones)
    if not claims:
        return answers
    texts = {row.id: row for row in session.execute(_TEXTS, {"ids": [claim.message_id for claim in claims]})}
    for claim in sorted(claims, key=lambda claim: (not claim.new, claim.lane, claim.message_id)):
        content = texts[claim.message_id]
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


def _claims(session: Session, phones: Mapping[int, _Phone]) -> list[Any]:
    """Rows to hand out, as many as fit into the answers: one that is left out would count as offered.

    Repeats are looked for first, so that none of the new ones is among them.
    """
    claims: list[Any] = []
    awake = {device_id: phone for device_id, phone in phones.items() if not phone.idle}
    unreported = {device_id: phone for device_id, phone in awake.items() if phone.youngest_unreported}
    recalled = {
        device_id: phone
        for device_id, phone in awake.items()
        if phone.recalled and versions.can_cancel(phone.state["app_version"])
    }
    for statement, asked in ((_RECALL, recalled), (_REPEAT, unreported)):
        if asked:
            claims += session.execute(statement, _again(asked, Counter(claim.device_id for claim in claims))).all()
    for phone in awake.values():
        if phone.room and limits.needs_care(phone.state):
            claims += _claim_with_care(session, phone)
    able = {
        device_id: phone for device_id, phone in phones.items() if phone.room and not limits.needs_care(phone.state)
    }
    if able:
        claims += session.execute(
            _CLAIM,
            {
                "users": [phone.state["user_id"] for phone in able.values()],
                "devices": list(able),
                "rooms": [phone.room for phone in able.values()],
                "sims": [phone.state["default_sim_slot"] for phone in able.values()],
                # The slot was judged at this moment, and the next one counts from it.
                "nows": [phone.now for phone in able.values()],
                "validity": get_settings().message_validity,
            },
        ).all()
    return claims


def _claim_with_care(session: Session, phone: _Phone) -> Sequence[Any]:
    chosen = limits.choose(session, phone.state, phone.now, phone.room)
    phone.held_until = chosen.until
    hold = chosen.hold
    phone.state["held_until"], phone.state["held_by"] = (hold.until, hold.by) if hold else (None, None)
    if not chosen.messages:
        return []
    values = {"messages": chosen.messages, "slots": chosen.slots, "now": phone.now}
    return session.execute(_CLAIM_CHOSEN, {**values, "validity": get_settings().message_validity}).all()


def _again(phones: Mapping[int, _Phone], taken: Counter[int]) -> dict[str, Any]:
    return {
        "users": [phone.state["user_id"] for phone in phones.values()],
        "devices": list(phones),
        "rooms": [MOST_IN_AN_ANSWER - phone.room - taken[device_id] for device_id, phone in phones.items()],
        "all": [_first_pull_of_a_stream(phone) for phone in phones.values()],
        "rhythm": REPEAT_AFTER,
    }


def _first_pull_of_a_stream(phone: _Phone) -> bool:
    opened, pulled = phone.state["stream_opened_at"], phone.state["pulled_at"]
    return opened is not None and (pulled is None or pulled < opened)


def _take_slot(phone: _Phone, released: int) -> None:
    state = phone.state
    phone.released = released
    state["measured_released"] += released
    if released:
        state["last_release_at"] = phone.now
        state["next_slot_at"] = phone.now + _delay(state)


def _delay(state: Mapping[str, Any]) -> timedelta:
    spread = random.uniform(0, state["send_delay_spread_seconds"])  # noqa: S311 - no secret
    return timedelta(seconds=state["send_delay_seconds"] + spread)


def _save(session: Session, phones: Mapping[int, _Phone]) -> None:
    names = (
        "device_id",
        "last_release_at",
        "next_slot_at",
        "send_window",
        "measured_since",
        "measured_in_flight",
        "measured_released",
        "next_sim_slot",
        "held_until",
        "held_by",
    )
    session.execute(_SAVE, {name: [phone.state[name] for phone in phones.values()] for name in names})


def _tell(session: Session, phones: Mapping[int, _Phone]) -> None:
    """Wake a phone that leaves something behind when it may have it, and let routing fill one that runs low."""
    rows = session.execute(
        _LEFT,
        {
            "users": [phone.state["user_id"] for phone in phones.values()],
            "devices": list(phones),
            "enough": [max(1, lookahead(phone.state) // 2) for phone in phones.values()],
        },
    )
    for device_id, waiting, hungry in rows:
        phone = phones[device_id]
        if waiting and not phone.idle:
            _wake_again(session, device_id, phone)
        if hungry and not phone.idle:
            outbound.nudge(session, TaskName.ROUTE, phone.state["user_id"])


def _wake_again(session: Session, device_id: int, phone: _Phone) -> None:
    """At the next slot, or when a limit lets go; where it is neither, a report that frees room wakes by itself."""
    if not _paced(phone.state) and phone.held_until is None:
        return
    at = (phone.state["next_slot_at"] if _paced(phone.state) else None) or phone.now
    at = max(at, phone.held_until or at)
    if phone.youngest_unreported and not phone.released:
        at = max(at, phone.youngest_unreported + UNREPORTED_HOLDS_FOR)
    waking.wake(session, device_id, max(0.0, (at - phone.now).total_seconds()))


_NEVER_REPEAT = text("""
    UPDATE message_queue SET stage = 2 WHERE message_id IN (
        SELECT message_id FROM message_queue WHERE user_id = :user AND device_id = :device AND stage = 1
        ORDER BY message_id FOR NO KEY UPDATE)
""")


def never_repeat(session: Session, user_id: int, device_id: int) -> None:
    """For a phone that enrolls again: do not offer it once more what it was given before.

    An app that was set up anew does not know which of it has left. What the phone still knows it reports by itself; of
    the rest nobody can know, and it ends as uncertain.
    """
    session.execute(_NEVER_REPEAT, {"user": user_id, "device": device_id})
