"""Messages of a campaign that names several phones leave those of them that are away or removed, for the others of its
list.

Routing does not: to it each message was sent to a phone that the request named.
"""

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

from sqlalchemy import BigInteger, Row, select, text
from sqlalchemy.orm import Session

from app.campaigns import fleet
from app.campaigns.models import Campaign
from app.core.arrays import array, by_key, unnest
from app.messages import steps
from app.messages.dispatch import routing, waking
from app.messages.models import QueueEntry
from app.messages.states import Stage
from app.messages.steps import Past, Step

BATCH_SIZE = 500

_TAKE = text(f"""
    SELECT q.message_id, q.device_id, m.attempt, m.routed_at, clock_timestamp() AS now
    FROM message_queue q JOIN messages m ON m.id = q.message_id
    WHERE q.campaign_id = :campaign AND q.stage = {Stage.WAITING}
      AND q.device_id <> ALL ({array(BigInteger(), "fit")})
    ORDER BY q.message_id LIMIT :most FOR NO KEY UPDATE OF q SKIP LOCKED
""")  # noqa: S608 - constants
_TAKE_REMOVED = text(f"""
    SELECT q.message_id, q.device_id, q.campaign_id, m.attempt, m.routed_at, clock_timestamp() AS now
    FROM message_queue q JOIN messages m ON m.id = q.message_id
    WHERE q.message_id = ANY(:ids) AND q.stage IN ({Stage.WAITING}, {Stage.HELD})
    ORDER BY q.message_id FOR NO KEY UPDATE OF q SKIP LOCKED
""")  # noqa: S608 - constants
_KEPT = text("SELECT id, is_active FROM devices WHERE user_id = :user AND removed_at IS NULL ORDER BY id")
_MOVED = unnest(QueueEntry.message_id, QueueEntry.device_id)
_MOVE = text(f"""
    WITH moved AS (
        UPDATE message_queue q SET device_id = u.device_id, since = clock_timestamp()
        FROM {_MOVED} WHERE {by_key(QueueEntry.message_id)}
    )
    UPDATE messages m SET device_id = u.device_id, routed_at = clock_timestamp()
    FROM {_MOVED} WHERE m.id = u.message_id
""")  # noqa: S608 - names of columns


def spread(session: Session, user_id: int, campaigns: Sequence[Campaign]) -> None:
    """Move what waits for phones that are away, a batch of each locked campaign."""
    listed = [campaign for campaign in campaigns if isinstance(campaign.devices, list)]
    phones = fleet.enabled(session, user_id) if listed else []
    for campaign in listed:
        usable = [phone for phone in fleet.among(phones, fleet.choice_of(campaign)) if phone["online"]]
        if usable:
            _spread(session, user_id, campaign, usable)


def _spread(session: Session, user_id: int, campaign: Campaign, phones: Sequence[fleet.Phone]) -> None:
    rooms = routing.room_of(phones)
    most = min(BATCH_SIZE, sum(rooms.values()))
    values = {"campaign": campaign.id, "fit": [phone["id"] for phone in phones], "most": most}
    taken = session.execute(_TAKE, values).all()
    _move(session, user_id, taken, routing.take_turns(rooms, 0, len(taken)))


def take_over(session: Session, user_id: int, stranded: Sequence[Row[Any]]) -> set[int]:
    """Move messages of removed phones to others that their campaigns name, whether these are there or not. Those that
    have another, also where somebody holds them at this moment.
    """
    numbers = {row.campaign_id for row in stranded if row.campaign_id is not None}
    campaigns = session.execute(select(Campaign.id, Campaign.devices).where(Campaign.id.in_(numbers))).all()
    kept = {row.id: row.is_active for row in session.execute(_KEPT, {"user": user_id})}
    turns: dict[int, Iterator[int]] = {}
    for campaign, devices in campaigns:
        left = [device for device in devices if device in kept] if isinstance(devices, list) else []
        if left:
            turns[campaign] = cycle([device for device in left if kept[device]] or left)
    movable = {row.message_id for row in stranded if row.campaign_id in turns}
    taken = session.execute(_TAKE_REMOVED, {"ids": sorted(movable)}).all() if movable else []
    _move(session, user_id, taken, [next(turns[row.campaign_id]) for row in taken])
    return movable


def _move(session: Session, user_id: int, taken: Sequence[Row[Any]], devices: Sequence[int]) -> None:
    if not taken:
        return
    past: list[Past] = []
    for row in taken:
        past.append(Past(row.message_id, row.attempt, Step.ROUTED, row.routed_at or row.now, row.device_id))
        past.append(Past(row.message_id, row.attempt, Step.MOVED, row.now, row.device_id))
    steps.write(session, past)
    session.execute(_MOVE, {"message_id": [row.message_id for row in taken], "device_id": devices})
    waking.wake_or_route(session, {(user_id, device) for device in devices})
