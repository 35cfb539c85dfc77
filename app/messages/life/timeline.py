"""The life of one message as its owner is shown it, and why it is not sent yet."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import hours
from app.contacts import book
from app.core.database import columns_of
from app.core.envelope import Timestamp, timestamp
from app.core.zones import Source
from app.devices.failures import reason_of
from app.devices.health import FAILING, RESTING
from app.devices.presence import LAST_SEEN, ONLINE, SILENT, SUSPECT, WATCHED
from app.messages import steps
from app.messages.dispatch import pace, routing
from app.messages.life import forecast
from app.messages.life.forecast import FleetPhone, Standing
from app.messages.life.sentences import Reason, limit_code
from app.messages.models import QueueEntry
from app.messages.states import Stage, Status
from app.webhooks import history
from app.webhooks.history import DeliveryOut

MAX_WEBHOOKS = 100


class StageOut(BaseModel):
    """A stage of the message, with phone and attempt, and the reason if it failed."""

    stage: str = Field(examples=["delivered"])
    at: Timestamp
    device_id: int | None = Field(examples=[5])
    device_name: str | None = Field(examples=["Pixel 7"])
    attempt: int = Field(examples=[1])
    error_message: str | None = Field(default=None, description="The error as reported by the phone", examples=[None])
    reason_code: str | None = Field(default=None, examples=[None])
    reason: str | None = Field(default=None, examples=[None])


class Waiting(BaseModel):
    """Why the message is not sent yet: a sentence, its code and parameters."""

    reason_code: str = Field(examples=["in_line"])
    reason: str = Field(examples=["In line on Pixel 7; messages ahead: 3."])
    parameters: dict[str, str | int | float] = Field(examples=[{"device": "Pixel 7", "ahead": 3}])
    expected_at: Timestamp | None = Field(description="When the message is expected to be sent; null if unknown")


class Timeline(BaseModel):
    """All stages of all attempts: the first, failovers to other phones, and your retries."""

    id: int = Field(examples=[101])
    status: Status = Field(examples=["delivered"])
    attempt: int = Field(examples=[1])
    stages: list[StageOut]
    waiting: Waiting | None = Field(examples=[None])
    webhooks: list[DeliveryOut]


_STANDING = text(f"""
    SELECT {columns_of(QueueEntry, "q")},
           clock_timestamp() AS now, d.device_name, d.is_active, d.send_delay_seconds, d.send_delay_spread_seconds,
           d.limits, d.default_sim_slot, d.sim_selection,
           s.send_window, s.next_slot_at, s.last_release_at, s.held_until, s.held_by, {LAST_SEEN} AS last_seen_at,
           s.quiet_since, {ONLINE} AS online, {SILENT} OR {SUSPECT} AS silent, {WATCHED} AS watched,
           (SELECT count(*) FROM (
               SELECT FROM message_queue o
               WHERE o.user_id = q.user_id AND o.device_id = q.device_id AND o.stage = {Stage.WAITING}
                 AND (o.lane, o.message_id) < (q.lane, q.message_id) LIMIT :most) AS before) AS ahead,
           (SELECT count(*) FROM (
               SELECT FROM message_queue q
               WHERE q.user_id = d.user_id AND q.device_id = d.id AND {pace.IN_FLIGHT}
               LIMIT s.send_window) AS given) AS in_flight
    FROM message_queue q
    LEFT JOIN devices d ON d.id = q.device_id LEFT JOIN device_state s ON s.device_id = q.device_id
    WHERE q.message_id = :id
""")  # noqa: S608 - constants

_FLEET = text(f"""
    SELECT d.id, d.id AS device_id, d.send_delay_seconds, d.send_delay_spread_seconds, d.limits, d.default_sim_slot,
           d.sim_selection, s.send_window, s.last_release_at, s.held_until, a.ahead, {ONLINE} AS online,
           {FAILING} AS failing, {RESTING} AS resting, COALESCE(s.held_until > clock_timestamp(), false) AS held,
           false AS held_partly
    FROM devices d JOIN device_state s ON s.device_id = d.id, {pace.COUNT_AHEAD}
    WHERE d.user_id = :user AND d.is_active AND d.removed_at IS NULL ORDER BY d.id
""")  # noqa: S608 - constants

# What a phone cannot help while it had no gateway to speak to.
_OF_PHONES = {"no_phone_online", "phone_offline", "chosen_phone_offline", "phone_late", "phone_busy"}

_NAMES = text("SELECT id, device_name FROM devices WHERE id = ANY(:ids)")


def of(session: Session, row: Mapping[str, Any]) -> Timeline:
    """The timeline of a message, from its row."""
    found = session.execute(_STANDING, {"id": row["id"], "most": forecast.MAX_COUNTED}).mappings().one_or_none()
    standing = cast("Standing", {**found, "recipient_number": row["recipient_number"]}) if found else None
    return Timeline(
        id=row["id"],
        status=row["status"],
        attempt=row["attempt"],
        stages=_stages(session, {**row, **_released(standing)}),
        waiting=_waiting(session, standing) if standing else None,
        webhooks=history.of_message(session, row["user_id"], row["id"], MAX_WEBHOOKS),
    )


def _released(standing: Standing | None) -> dict[str, datetime | None]:
    return {key: standing[key] for key in ("released_at", "accepted_at")} if standing else {}


def _stages(session: Session, row: Mapping[str, Any]) -> list[StageOut]:
    past = steps.of_message(session, row["id"])
    devices = {row["device_id"], *(step.device_id for step in past)} - {None}
    names = {found.id: found.device_name for found in session.execute(_NAMES, {"ids": sorted(devices)})}

    def stage(name: str, at: datetime, device: int | None, attempt: int, error: str | None = None) -> StageOut:
        why = reason_of(error) if name == "failed" and error else None
        return StageOut(
            stage=name,
            at=at,
            device_id=device,
            device_name=names.get(device) if device else None,
            attempt=attempt,
            error_message=error,
            reason_code=why and why.code,
            reason=why and why.sentence,
        )

    device, attempt = row["device_id"], row["attempt"]
    if row["direction"] == "inbound":
        return [stage("received", row["received_at"], device, attempt)]
    explained = {"failed", row["status"]} & {"failed", "cancelled"}
    passed = [
        stage(name, at, device, attempt, row["error_message"] if name in explained else None)
        for name in ("routed", "released", "accepted", "cancelled", "failed", "sent", "delivered")
        if (at := row[f"{name}_at"])
    ]
    before = [stage(step.step, step.at, step.device_id, step.attempt, step.error) for step in past]
    queued = stage("queued", row["created_at"], None, 1)
    # Sorted within an attempt: what happened first in the phone's clock may be written later.
    return [queued, *before, *sorted(passed, key=lambda one: one.at)]


def _waiting(session: Session, standing: Standing) -> Waiting:
    if standing["stage"] == Stage.HELD:
        reason, expected = _held(session, standing), standing["due_at"]
    elif standing["stage"] != Stage.WAITING:
        reason, expected = _at_the_phone(standing), None
    elif not standing["device_id"]:
        reason, expected = _without_phone(session, standing)
    else:
        reason, expected = _before_the_phone(session, standing)
    if reason.code in _OF_PHONES and not standing["watched"]:
        reason, expected = Reason("gateway_was_away"), None
    return Waiting(
        reason_code=reason.code, reason=reason.sentence, parameters=dict(reason.parameters), expected_at=expected
    )


def _held(session: Session, standing: Standing) -> Reason:
    due = standing["due_at"]
    if due is None:
        return Reason("campaign_paused")
    if standing["closes_at"] is None:
        return Reason("scheduled", {"at": timestamp(due)})
    keeper = hours.keepers(session, [standing["user_id"]]).get(standing["user_id"])
    if keeper is None:
        return Reason("outside_hours_of_campaign", {"until": timestamp(due)})
    number = standing["recipient_number"]
    own = book.zones_of(session, standing["user_id"], [number]).get(number)
    zoning = keeper.zoning(number, own, standing["now"])
    code = "outside_hours_guessed" if zoning.source is Source.GUESS else "outside_hours"
    return Reason(code, {"zone": ", ".join(zoning.names), "until": timestamp(due)})


def _at_the_phone(standing: Standing) -> Reason:
    code = "released"
    if standing["cancelling"]:
        code = "recalled"
    elif standing["stage"] == Stage.ACCEPTED:
        code = "accepted" if standing["accepted_at"] else "given_before_reinstall"
        if code == "accepted" and standing["quiet_since"]:
            return Reason("quiet", {"device": standing["device_name"], "since": timestamp(standing["quiet_since"])})
    return Reason(code, {"device": standing["device_name"]})


_Answer = tuple[Reason, datetime | None]


def _without_phone(session: Session, standing: Standing) -> _Answer:
    values = {"user": standing["user_id"], "most": pace.MAX_LOOKAHEAD}
    phones = cast("list[FleetPhone]", session.execute(_FLEET, values).mappings().all())
    if not phones:
        return Reason("no_phone_enabled"), None
    online = any(phone["online"] for phone in phones)
    if all(phone["held"] for phone in phones):
        until = min(phone["held_until"] for phone in phones if phone["held_until"])
        expected = max(until, forecast.of_fleet(session, standing, phones)) if online else until
        return Reason("all_phones_at_limit", {"until": timestamp(until)}), expected
    if not online:
        return Reason("no_phone_online"), None
    room = sum(routing.room_of([phone for phone in phones if not phone["held"]]).values())
    if standing["ahead"] < room and standing["now"] - standing["since"] > pace.ROUTED_WITHIN:
        return Reason("not_routed", {"since": timestamp(standing["since"])}), None
    expected = forecast.of_fleet(session, standing, phones)
    return _in_line("queued", standing, {}), _unless_over(expected, standing)


def _before_the_phone(session: Session, standing: Standing) -> _Answer:
    if not standing["is_active"] or standing["silent"] or not standing["online"]:
        return _away(standing), None
    device = standing["device_name"]
    expected = forecast.on_phone(session, standing)
    held = standing["held_until"]
    if held and held > standing["now"]:
        return Reason(limit_code(standing["held_by"]), {"device": device, "until": timestamp(held)}), expected
    if _unless_over(expected, standing) is None:
        ahead = {"device": device, "ahead": _ahead(standing)}
        if standing["in_flight"] >= standing["send_window"]:
            return Reason("phone_busy", ahead), None
        return Reason("phone_late", {**ahead, "expected": timestamp(expected)}), None
    if delay := pace.mean_delay(standing):
        return _in_line("paced", standing, {"device": device, "delay": f"{delay:g}"}), expected
    return _in_line("in_line", standing, {"device": device}), expected


def _away(standing: Standing) -> Reason:
    chosen, seen = "chosen_" if standing["named"] else "", standing["last_seen_at"]
    parameters = {"device": standing["device_name"]}
    if not standing["is_active"]:
        return Reason(f"{chosen}phone_disabled", parameters)
    if seen is None:
        return Reason(f"{chosen}phone_never_seen", parameters)
    return Reason(f"{chosen}phone_offline", {**parameters, "last_seen": timestamp(seen)})


def _unless_over(expected: datetime, standing: Standing) -> datetime | None:
    return None if expected + pace.EXPECTED_WITHIN < standing["now"] else expected


def _in_line(code: str, standing: Standing, parameters: dict[str, str | int | float]) -> Reason:
    if not standing["ahead"]:
        return Reason(f"{code}_next", parameters)
    return Reason(code, {**parameters, "ahead": _ahead(standing)})


def _ahead(standing: Standing) -> int | str:
    ahead = standing["ahead"]
    return ahead if ahead < forecast.MAX_COUNTED else f"{forecast.MAX_COUNTED} or more"
