"""Offers: which messages a phone is given when it pulls, new ones and those that it was given before.

The statements here set the stage and the times of queue rows, under the lock of the phone's state row.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Integer, Row, text
from sqlalchemy.orm import Session

from app.core.arrays import by_key, unnest
from app.core.database import among
from app.core.lanes import Lane
from app.core.settings import get_settings
from app.devices import versions
from app.devices.models import PhoneRow
from app.messages.dispatch import limits
from app.messages.dispatch.marks import AT_A_PHONE, taken
from app.messages.dispatch.pace import IN_HOURS, MAX_ANSWER, NOT_PAUSED, REPEAT_IS_DUE
from app.messages.models import QueueEntry
from app.messages.states import Stage


@dataclass(slots=True)
class Phone:
    """A locked phone during one hand-out."""

    state: PhoneRow
    now: datetime
    in_flight: int = 0
    singles_in_flight: int = 0
    youngest_unreported: datetime | None = None
    recalled: bool = False
    held_until: datetime | None = None
    room: int = 0
    lane: Lane = Lane.BULK  # the last of those that have the room
    released: int = 0
    of_campaign: bool = False

    @property
    def idle(self) -> bool:
        return not self.state["is_active"]

    @property
    def kept(self) -> int:
        """How much of the answer repeats leave to what is new."""
        return self.room if self.lane is Lane.BULK else 0


# Phones, by what leads to their rows in the queue.
PLACE = (QueueEntry.user_id, QueueEntry.device_id)


def places_of(phones: Mapping[int, Phone]) -> dict[str, list[int]]:
    """The parameters for `PLACE`."""
    return {"user_id": [phone.state["user_id"] for phone in phones.values()], "device_id": list(phones)}


_MAY_GO = f"k.lane <= p.lane AND COALESCE(q.valid_until > clock_timestamp(), true) AND {NOT_PAUSED} AND {IN_HOURS}"
_HAVING = (QueueEntry.lane, QueueEntry.sim_slot)
_CLAIM = text(f"""
    WITH phone AS MATERIALIZED (
        SELECT * FROM {unnest(*PLACE, *_HAVING, room=Integer(), now=QueueEntry.released_at)}
    ), claimed AS MATERIALIZED (
        SELECT q.message_id FROM phone p, LATERAL (
            {taken("p.user_id", "p.device_id", where=_MAY_GO, most="p.room")}
        ) q
    )
    UPDATE message_queue q
    SET stage = {Stage.RELEASED}, released_at = p.now, offered_at = p.now,
        valid_until = COALESCE(q.valid_until, p.now + CAST(:validity AS interval)),
        sim_slot = COALESCE(q.sim_slot, p.sim_slot)
    FROM phone p WHERE {among("q.message_id", "claimed")} AND q.device_id = p.device_id
    RETURNING q.message_id, q.campaign_id, q.device_id, q.lane, q.sim_slot, q.valid_until, q.cancelling, true AS new
""")  # noqa: S608 - constants

_CLAIM_CHOSEN = text(f"""
    UPDATE message_queue q
    SET stage = {Stage.RELEASED}, released_at = :now, offered_at = :now, sim_slot = u.sim_slot,
        valid_until = COALESCE(q.valid_until, CAST(:now AS timestamptz) + CAST(:validity AS interval))
    FROM {unnest(QueueEntry.message_id, QueueEntry.sim_slot)}
    WHERE {by_key(QueueEntry.message_id)}
    RETURNING q.message_id, q.campaign_id, q.device_id, q.lane, q.sim_slot, q.valid_until, q.cancelling, true AS new
""")  # noqa: S608 - constants

_AGAIN = f"""
    WITH again AS MATERIALIZED (
        SELECT q.message_id
        FROM {unnest(*PLACE, alias="p", room=Integer(), everything=Boolean())},
        LATERAL (
            {{taken}}
        ) q
    )
    UPDATE message_queue q SET offered_at = clock_timestamp()
    WHERE {among("q.message_id", "again")}
    RETURNING q.message_id, q.campaign_id, q.device_id, q.lane, q.sim_slot, q.valid_until, q.cancelling, false AS new
"""  # noqa: S608 - constants


def _again_in(stages: Collection[Stage], which: str) -> str:
    due = f"{which} AND (p.everything OR {REPEAT_IS_DUE})"
    return taken("p.user_id", "p.device_id", stages, where=due, most="p.room")


_REPEAT = text(_AGAIN.format(taken=_again_in([Stage.RELEASED], "NOT q.cancelling")))
# Also what the phone accepted; and never to an app that would not see the difference, nor to one that was set up anew
# since and has not spoken of it: that calls cancelled what it does not know, and the one before may have sent it.
_IS_KNOWN = f"(q.stage = {Stage.RELEASED} OR q.accepted_at IS NOT NULL)"
_RECALL = text(_AGAIN.format(taken=_again_in(AT_A_PHONE, f"q.cancelling AND {_IS_KNOWN}")))


def claim(session: Session, phones: Mapping[int, Phone]) -> list[Row[Any]]:
    """Rows to hand out, as many as fit into the answers: one that is left out would count as offered.

    Repeats are looked for first, so that none of the new ones is among them.
    """
    claims: list[Row[Any]] = []
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
        taken = Counter(claim.device_id for claim in claims)
        claims += session.execute(
            _CLAIM,
            {
                **places_of(able),
                "room": [min(phone.room, MAX_ANSWER - taken[device_id]) for device_id, phone in able.items()],
                "lane": [phone.lane for phone in able.values()],
                "sim_slot": [phone.state["default_sim_slot"] for phone in able.values()],
                # The slot was judged at this moment, and the next one counts from it.
                "now": [phone.now for phone in able.values()],
                "validity": get_settings().message_validity,
            },
        ).all()
    return claims


_TAKE_BACK = text(f"""
    UPDATE message_queue q
    SET stage = {Stage.WAITING}, released_at = NULL, offered_at = NULL, valid_until = m.valid_until,
        sim_slot = m.sim_slot
    FROM messages m WHERE q.message_id = ANY(:ids) AND m.id = q.message_id
""")  # noqa: S608 - constants


def take_back(session: Session, message_ids: list[int]) -> None:
    """Undo the claim of messages that no phone is to be given, in the transaction that claimed them."""
    session.execute(_TAKE_BACK, {"ids": message_ids})


def _claim_with_care(session: Session, phone: Phone) -> Sequence[Row[Any]]:
    chosen = limits.choose(session, phone.state, phone.now, phone.room)
    phone.held_until = chosen.until
    hold = chosen.hold
    phone.state["held_until"], phone.state["held_by"] = (hold.until, hold.by) if hold else (None, None)
    if not chosen.messages:
        return []
    values = {"message_id": chosen.messages, "sim_slot": chosen.slots, "now": phone.now}
    return session.execute(_CLAIM_CHOSEN, {**values, "validity": get_settings().message_validity}).all()


def _again(phones: Mapping[int, Phone], taken: Counter[int]) -> dict[str, Any]:
    return {
        **places_of(phones),
        "room": [MAX_ANSWER - phone.kept - taken[device_id] for device_id, phone in phones.items()],
        "everything": [_first_pull_of_a_stream(phone) for phone in phones.values()],
    }


def _first_pull_of_a_stream(phone: Phone) -> bool:
    opened, pulled = phone.state["stream_opened_at"], phone.state["pulled_at"]
    return opened is not None and (pulled is None or pulled < opened)
