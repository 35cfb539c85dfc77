"""The life of one message as its owner is shown it, and why it is not sent yet."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.core.database import columns_of
from app.core.envelope import Timestamp, timestamp
from app.devices.presence import LAST_SEEN, ONLINE, SILENT, SUSPECT
from app.messages.limits import words_of
from app.messages.models import Queued
from app.messages.states import Stage, Status
from app.webhooks import history
from app.webhooks.history import DeliveryOut

MOST_WEBHOOKS = 100
MOST_COUNTED = 10_000
WINDOW_SECONDS = 30


class StageOut(BaseModel):
    """Something that happened to the message, and at which phone."""

    stage: str
    at: Timestamp
    device_id: int | None
    device_name: str | None


class Waiting(BaseModel):
    """Why the message is not sent yet, and when it is expected to go, where that can be said."""

    reason: str
    expected_at: Timestamp | None


class Timeline(BaseModel):
    """`attempt` counts the sendings that the owner asked for; the stages are those of the last one."""

    id: int
    status: Status
    attempt: int
    stages: list[StageOut]
    waiting: Waiting | None
    webhooks: list[DeliveryOut]


_STANDING = text(f"""
    SELECT {columns_of(Queued, "q")},
           clock_timestamp() AS now, d.device_name, d.is_active, d.send_delay_seconds, d.send_delay_spread_seconds,
           s.send_window, s.next_slot_at, s.held_until, s.held_by, {LAST_SEEN} AS last_seen_at,
           {ONLINE} AS online, {SILENT} OR {SUSPECT} AS silent,
           (SELECT count(*) FROM (
               SELECT FROM message_queue o
               WHERE o.user_id = q.user_id AND o.device_id = q.device_id AND o.stage = 0
                 AND (o.lane, o.message_id) < (q.lane, q.message_id) LIMIT :most) AS before) AS ahead
    FROM message_queue q
    LEFT JOIN devices d ON d.id = q.device_id LEFT JOIN device_state s ON s.device_id = q.device_id
    WHERE q.message_id = :id
""")  # noqa: S608 - constants

_FLEET = text(f"""
    SELECT count(*) AS active, count(*) FILTER (WHERE {ONLINE}) AS online,
           COALESCE(sum(CASE WHEN d.send_delay_seconds + d.send_delay_spread_seconds > 0
                    THEN 1.0 / (d.send_delay_seconds + d.send_delay_spread_seconds / 2.0)
                    ELSE s.send_window / {WINDOW_SECONDS}.0 END) FILTER (WHERE {ONLINE}), 0)::float8 AS rate,
           bool_and(COALESCE(s.held_until > clock_timestamp(), false)) AS held, min(s.held_until) AS held_until
    FROM devices d JOIN device_state s ON s.device_id = d.id
    WHERE d.user_id = :user AND d.is_active AND d.removed_at IS NULL
""")  # noqa: S608 - constants

_NAME = text("SELECT device_name FROM devices WHERE id = :id")


def of(session: Session, row: Mapping[str, Any]) -> Timeline:
    """The timeline of a message, from its row."""
    standing = session.execute(_STANDING, {"id": row["id"], "most": MOST_COUNTED}).mappings().one_or_none()
    name: str | None = session.scalar(_NAME, {"id": row["device_id"]}) if row["device_id"] else None
    return Timeline(
        id=row["id"],
        status=row["status"],
        attempt=row["attempt"],
        stages=_stages({**row, **_released(standing)}, name),
        waiting=_waiting(session, standing) if standing else None,
        webhooks=history.of_message(session, row["user_id"], row["id"], MOST_WEBHOOKS),
    )


def _released(standing: RowMapping | None) -> dict[str, Any]:
    return {key: standing[key] for key in ("released_at", "accepted_at")} if standing else {}


def _stages(row: Mapping[str, Any], name: str | None) -> list[StageOut]:
    if row["direction"] == "inbound":
        return [StageOut(stage="received", at=row["received_at"], device_id=row["device_id"], device_name=name)]
    passed = [(stage, row[f"{stage}_at"]) for stage in ("routed", "released", "accepted")]
    passed += [(stage, row[f"{stage}_at"]) for stage in ("cancelled", "failed", "sent", "delivered")]
    at_phone = [
        StageOut(stage=stage, at=at, device_id=row["device_id"], device_name=name) for stage, at in passed if at
    ]
    queued = StageOut(stage="queued", at=row["created_at"], device_id=None, device_name=None)
    return [queued, *sorted(at_phone, key=lambda stage: stage.at)]


def _waiting(session: Session, standing: RowMapping) -> Waiting:
    if standing["stage"] != Stage.WAITING:
        return Waiting(reason=_at_the_phone(standing), expected_at=None)
    if not standing["device_id"]:
        return _without_phone(session, standing)
    return _before_the_phone(standing)


def _at_the_phone(standing: RowMapping) -> str:
    name = standing["device_name"]
    if standing["cancelling"]:
        return f"{name} has been asked to give it back and has not answered yet."
    if standing["stage"] == Stage.ACCEPTED and standing["accepted_at"] is None:
        return f"It was given to {name} before that was set up anew, and nobody knows yet whether it was sent."
    if standing["stage"] == Stage.ACCEPTED:
        return f"{name} has taken it and has not said yet that it was sent."
    return f"It was given to {name}, which has not said yet that it got it."


def _without_phone(session: Session, standing: RowMapping) -> Waiting:
    fleet = session.execute(_FLEET, {"user": standing["user_id"]}).mappings().one()
    if not fleet["active"]:
        return Waiting(reason="No phone is active: it goes out when one is switched on.", expected_at=None)
    if fleet["held"]:
        until = fleet["held_until"]
        return Waiting(
            reason=f"Every phone has reached its limit, the first until {timestamp(until)}.", expected_at=until
        )
    if not fleet["online"]:
        return Waiting(reason="No phone is online: it goes out when one is back.", expected_at=None)
    expected = standing["now"] + timedelta(seconds=standing["ahead"] / fleet["rate"]) if fleet["rate"] else None
    return Waiting(reason=f"It waits for a phone with room, {_behind(standing)}.", expected_at=expected)


def _behind(standing: RowMapping) -> str:
    ahead = standing["ahead"]
    if not ahead:
        return "as the next one"
    count = f"{MOST_COUNTED:,} or more" if ahead >= MOST_COUNTED else f"{ahead:,}"
    return f"behind {count} other{'s' if ahead > 1 else ''}"


def _before_the_phone(standing: RowMapping) -> Waiting:
    name, stays = standing["device_name"], standing["named"]
    whose = f"{name}, which was named for it," if stays else name
    if not standing["is_active"]:
        fate = "it stays until that phone is switched on" if stays else "it moves to another phone"
        return Waiting(reason=f"{whose} is switched off: {fate}.", expected_at=None)
    if standing["silent"] or not standing["online"]:
        seen = standing["last_seen_at"]
        since = f" (last seen {timestamp(seen)})" if seen else ""
        fate = "it stays until that phone is back" if stays else "it moves as soon as another phone is online"
        return Waiting(reason=f"{whose} is offline{since}: {fate}.", expected_at=None)
    now: datetime = standing["now"]
    held = standing["held_until"]
    if held and held > now:
        limit = words_of(standing["held_by"])
        return Waiting(reason=f"{whose} has reached {limit}: it waits until {timestamp(held)}.", expected_at=held)
    return _in_turn(standing, whose, now)


def _in_turn(standing: RowMapping, whose: str, now: datetime) -> Waiting:
    delay = standing["send_delay_seconds"] + standing["send_delay_spread_seconds"] / 2
    if delay:
        first = max(standing["next_slot_at"] or now, now)
        reason = f"{whose} sends one message every {delay:g} seconds; this one goes {_behind(standing)}."
        return Waiting(reason=reason, expected_at=first + timedelta(seconds=delay * standing["ahead"]))
    expected = now + timedelta(seconds=standing["ahead"] * WINDOW_SECONDS / standing["send_window"])
    return Waiting(reason=f"{whose} is to fetch it, {_behind(standing)}.", expected_at=expected)
