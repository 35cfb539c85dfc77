"""Limits of phones and of their SIM cards, and which SIM card sends: the careful way of choosing what a phone is given.

Segments are counted in windows that slide with the clock, from a ledger of what was given out, so nothing can burst at
a window's edge. The ledger is written only for phones that have limits, and begins when they are set. All of this
happens under the lock of the phone's state row. A phone without limits that does not alternate its SIM cards has
nothing to do with this module.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.core.arrays import transposed, unnest
from app.devices import sims
from app.devices.models import PhoneRow
from app.messages.dispatch.pace import IN_HOURS, NOT_PAUSED, TRIAL
from app.messages.models import DeviceRelease
from app.messages.states import Stage
from app.optouts import consent

PERIODS = {
    "per_minute": timedelta(minutes=1),
    "per_hour": timedelta(hours=1),
    "per_day": timedelta(days=1),
    "per_month": timedelta(days=30),
}
RECIPIENTS = "recipients_per_month"
OF_A_SIM = "sim."
# A limit of recipients, or of one SIM card, lets some messages pass; `device_state` is `s`.
HELD_PARTLY = f"(s.held_by LIKE '{OF_A_SIM}%' OR s.held_by = '{RECIPIENTS}')"
_PAGE, _MAX_CANDIDATES = 100, 2000


@dataclass(frozen=True, slots=True)
class Hold:
    """When a limit lets go, and its name; with `sim.` before it where it is one of the SIM card."""

    until: datetime
    by: str


@dataclass(slots=True)
class Chosen:
    """Messages to give out with their SIM slots. `until`: when the first of those held back may go.

    `hold` is what holds back any usual message from now on: one of one segment, to a new recipient, that names no SIM.
    """

    messages: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    until: datetime | None = None
    hold: Hold | None = None


def needs_care(state: PhoneRow) -> bool:
    """Whether what this phone is given cannot be chosen by order alone."""
    return bool(state["limits"]) or state["sim_selection"] == "alternate"


_CANDIDATES = text(f"""
    SELECT q.message_id, q.lane, q.sim_slot, COALESCE(m.segments, 1) AS segments, m.recipient_number,
           NOT m.ignores_opt_out AND {consent.is_opted_out("m.user_id", "m.recipient_number")} AS opted_out
    FROM (
        SELECT q.message_id, q.lane, q.sim_slot FROM message_queue q
        WHERE q.user_id = :user AND q.device_id = :device AND q.stage = {Stage.WAITING}
          AND (q.lane, q.message_id) > (CAST(:lane AS smallint), CAST(:after AS bigint))
          AND COALESCE(q.valid_until > clock_timestamp(), true) AND {NOT_PAUSED} AND {IN_HOURS}
        ORDER BY q.lane, q.message_id LIMIT :most FOR NO KEY UPDATE SKIP LOCKED
    ) q JOIN messages m ON m.id = q.message_id
    ORDER BY q.lane, q.message_id
""")  # noqa: S608 - names of columns and of states


def choose(session: Session, state: PhoneRow, now: datetime, room: int) -> Chosen:
    """Choose at most `room` of the messages that wait for the phone, and note them in its ledger.

    Messages do not overtake each other for being shorter; only those to a new recipient are passed by when it is
    recipients that are limited, and those of one SIM card by those of another.
    """
    budget = _Budget(session, state, now) if state["limits"] else None
    chosen = Chosen()
    for candidate in _candidates(session, state, room if budget is None else _PAGE):
        if len(chosen.messages) == room or (budget and budget.is_spent):
            break
        slots = _slots(state, candidate.sim_slot, now)
        if candidate.opted_out:  # it is claimed to be cancelled, and spends nothing
            chosen.messages.append(candidate.message_id)
            chosen.slots.append(slots[0])
            continue
        slot = slots[0] if budget is None else budget.take(candidate, slots)
        if slot is None:
            continue
        chosen.messages.append(candidate.message_id)
        chosen.slots.append(slot)
        if candidate.sim_slot is None:
            state["next_sim_slot"] = slot + 1
            _note_trial(session, state, slot, now)
    if budget is not None:
        budget.write(session)
        chosen.hold = budget.hold(_slots(state, None, now))
        chosen.until = budget.first_release()
    return chosen


def _candidates(session: Session, state: PhoneRow, page: int) -> Iterator[Row[Any]]:
    """What waits for the phone, in order, page by page, so that what is held back does not hide what is not."""
    place = {"user": state["user_id"], "device": state["device_id"], "lane": -1, "after": 0, "most": page}
    for _ in range(0, _MAX_CANDIDATES, page):
        rows = session.execute(_CANDIDATES, place).all()
        yield from rows
        if len(rows) < page:
            return
        place |= {"lane": rows[-1].lane, "after": rows[-1].message_id}


def _slots(state: PhoneRow, wanted: int | None, now: datetime) -> list[int]:
    """Slots that may send, the best first: the message's own, the phone's default, or all of its cards in turn.

    A card that rests because it fails is passed over while the phone has another.
    """
    if wanted is not None:
        return [wanted]
    cards = sims.slots(state["sim_cards"] or ())
    if not cards:
        return [state["default_sim_slot"]]
    rests = state["sim_rests"] or {}
    cards = [slot for slot in cards if rests.get(str(slot), 0) <= now.timestamp()] or cards
    later = [slot for slot in cards if slot >= state["next_sim_slot"]]
    return later + [slot for slot in cards if slot not in later]


_NOTE_TRIAL = text("UPDATE device_state SET sim_rests = CAST(:rests AS jsonb) WHERE device_id = :device")


def _note_trial(session: Session, state: PhoneRow, slot: int, now: datetime) -> None:
    """A failing card whose rest is over was given its one message: no other before its result can be known."""
    rests = state["sim_rests"] or {}
    if str(slot) in rests:
        state["sim_rests"] = {**rests, str(slot): (now + TRIAL).timestamp()}
        session.execute(_NOTE_TRIAL, {"rests": json.dumps(state["sim_rests"]), "device": state["device_id"]})


_USED = text("""
    SELECT sim_slot,
           COALESCE(sum(segments) FILTER (WHERE released_at > :per_minute), 0) AS per_minute,
           COALESCE(sum(segments) FILTER (WHERE released_at > :per_hour), 0) AS per_hour,
           COALESCE(sum(segments) FILTER (WHERE released_at > :per_day), 0) AS per_day,
           COALESCE(sum(segments), 0) AS per_month
    FROM device_releases WHERE device_id = :device AND released_at > :since GROUP BY sim_slot
""")
_RECIPIENTS = text("""
    SELECT DISTINCT sim_slot, recipient FROM device_releases WHERE device_id = :device AND released_at > :since
""")
# The newest releases that fill the window up to what must be free: the oldest of them has to leave it.
_FREE_AT = text("""
    SELECT released_at FROM (
        SELECT released_at, sum(segments) OVER (ORDER BY released_at DESC, id DESC) AS running
        FROM device_releases
        WHERE device_id = :device AND released_at > :since AND (CAST(:slot AS smallint) IS NULL OR sim_slot = :slot)
    ) r WHERE running > :kept ORDER BY released_at DESC LIMIT 1
""")
_RECIPIENT_FREE_AT = text("""
    SELECT min(last) FROM (
        SELECT max(released_at) AS last FROM device_releases
        WHERE device_id = :device AND released_at > :since AND (CAST(:slot AS smallint) IS NULL OR sim_slot = :slot)
        GROUP BY recipient) r
""")
_WRITE = text(f"""
    INSERT INTO device_releases (device_id, released_at, sim_slot, segments, recipient)
    SELECT :device, :now, * FROM {unnest(DeviceRelease.sim_slot, DeviceRelease.segments, DeviceRelease.recipient)}
""")  # noqa: S608 - names of columns and of states

# None is the phone as a whole.
_Scope = int | None


class _Budget:
    """What is left of a phone's limits, during one hand-out."""

    def __init__(self, session: Session, state: PhoneRow, now: datetime) -> None:
        limits: dict[str, Any] = state["limits"]
        self._session, self._device, self._now = session, state["device_id"], now
        self._limits: dict[_Scope, Mapping[str, int]] = {None: limits}
        self._limits |= {int(slot): of_sim for slot, of_sim in limits.get("sims", {}).items()}
        self._used: dict[tuple[_Scope, str], int] = defaultdict(int)
        self._recipients: dict[_Scope, set[int]] = defaultdict(set)
        self._taken: list[tuple[int, int, int]] = []
        self._blocked: dict[tuple[_Scope, str], datetime] = {}
        self._load()

    def _load(self) -> None:
        bounds = {name: self._now - period for name, period in PERIODS.items() if name != "per_month"}
        named = {name for limits in self._limits.values() for name in limits}
        longest = max((period for name, period in PERIODS.items() if name in named), default=None)
        if longest is not None:
            for row in self._session.execute(_USED, {**bounds, "device": self._device, "since": self._now - longest}):
                for name in PERIODS:
                    self._used[None, name] += getattr(row, name)
                    self._used[row.sim_slot, name] += getattr(row, name)
        if RECIPIENTS in named:
            since = self._now - PERIODS["per_month"]
            for slot, recipient in self._session.execute(_RECIPIENTS, {"device": self._device, "since": since}):
                self._recipients[None].add(recipient)
                self._recipients[slot].add(recipient)

    @property
    def is_spent(self) -> bool:
        """Whether the phone as a whole may send no more segments now."""
        return any((None, name) in self._blocked for name in PERIODS)

    def take(self, candidate: Row[Any], slots: Sequence[int]) -> int | None:
        """The first of the slots whose limits, and the phone's, the message keeps; none where it has to wait."""
        recipient = _recipient(candidate.recipient_number)
        if self._holds(None, candidate.segments, recipient):
            return None
        slot = next((slot for slot in slots if not self._holds(slot, candidate.segments, recipient)), None)
        if slot is None:
            return None
        for scope in (None, slot):
            self._recipients[scope].add(recipient)
            for name in PERIODS:
                self._used[scope, name] += candidate.segments
        self._taken.append((slot, candidate.segments, recipient))
        return slot

    def hold(self, slots: Sequence[int]) -> Hold | None:
        """What holds back a message of one segment, to a new recipient, by any of the slots; none where it may go."""
        if of_phone := self._holds(None, 1, None):
            return Hold(self._blocked[None, of_phone], of_phone)
        holds = [(slot, self._holds(slot, 1, None)) for slot in slots]
        until = {self._blocked[slot, name]: name for slot, name in holds if name}
        if len([name for _, name in holds if name]) < len(slots):
            return None
        return Hold(min(until), OF_A_SIM + until[min(until)])

    def _holds(self, scope: _Scope, segments: int, recipient: int | None) -> str | None:
        """The limit of the scope that holds the message; None as a recipient is a new one.

        One that no window could ever take goes when it is empty.
        """
        limits = self._limits.get(scope, {})
        for name, period in PERIODS.items():
            limit = limits.get(name)
            if limit is None:
                continue
            if (scope, name) in self._blocked:
                return name
            needed = min(segments, limit)
            if self._used[scope, name] + needed > limit:
                self._block(scope, name, period, limit - needed)
                return name
        most = limits.get(RECIPIENTS)
        known = self._recipients[scope]
        if most is not None and recipient not in known and len(known) >= most:
            self._block(scope, RECIPIENTS, PERIODS["per_month"], 0)
            return RECIPIENTS
        return None

    def _block(self, scope: _Scope, name: str, period: timedelta, kept: int) -> None:
        if (scope, name) in self._blocked:
            return
        self.write(self._session)
        statement = _RECIPIENT_FREE_AT if name == RECIPIENTS else _FREE_AT
        values = {"device": self._device, "since": self._now - period, "slot": scope, "kept": kept}
        oldest: datetime | None = self._session.scalar(statement, values)
        self._blocked[scope, name] = (oldest or self._now) + period

    def write(self, session: Session) -> None:
        """Note in the ledger what was taken since it was last written."""
        if self._taken:
            taken = transposed(self._taken, "sim_slot", "segments", "recipient")
            session.execute(_WRITE, {**taken, "device": self._device, "now": self._now})
            self._taken.clear()

    def first_release(self) -> datetime | None:
        """When the first of the limits that hold something lets go."""
        return min(self._blocked.values(), default=None)


# `_recipient`, of a message `m`.
RECIPIENT_HASH = (
    "CAST(CAST('x' || left(encode(sha256(convert_to(COALESCE(m.recipient_number, ''), 'UTF8')), 'hex'), 16)"
    " AS bit(64)) AS bigint)"
)


def _recipient(number: str | None) -> int:
    return int.from_bytes(hashlib.sha256((number or "").encode()).digest()[:8], signed=True)
