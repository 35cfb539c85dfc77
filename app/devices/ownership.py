"""Phones as their owner sees and changes them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, select, text, update
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.models import User
from app.core import outbound
from app.core.database import columns_of
from app.core.errors import Invalid, NotFound
from app.core.numbers import normalize_number
from app.core.task_names import PHONES, TaskName
from app.core.validation import row_id
from app.devices import condition, figures, health
from app.devices.figures import DeviceToday
from app.devices.models import Device
from app.devices.presence import LAST_SEEN, ONLINE
from app.devices.schemas import DeviceChange, DeviceOut

MODEL = "Device"
_NO_NUMBER = {"phone_number": ["The phone number field must be a valid phone number, with + and the country code."]}

_SHOWN = f"""
    SELECT {columns_of(Device, "d")},
           {ONLINE} AS online, {LAST_SEEN} AS last_seen_at, s.quiet_since, f.failing_slot, f.failing_since,
           f.failing_until, f.failing_reason, d.id = COALESCE(u.default_device_id, 0) AS is_default
    FROM devices d JOIN device_state s ON s.device_id = d.id JOIN users u ON u.id = d.user_id
    LEFT JOIN LATERAL (
        SELECT h.sim_slot AS failing_slot, h.failing_since, h.rests_until AS failing_until, h.reason AS failing_reason
        FROM device_health h WHERE h.device_id = d.id AND h.failing_since IS NOT NULL ORDER BY h.sim_slot LIMIT 1
    ) f ON true
"""  # noqa: S608 - constants
_OF_USER = text(f"{_SHOWN} WHERE d.user_id = :user AND d.removed_at IS NULL ORDER BY d.id")
_ONE = text(f"{_SHOWN} WHERE d.id = :id")


def shown(session: Session, user_id: int) -> list[DeviceOut]:
    """The user's phones."""
    rows = session.execute(_OF_USER, {"user": user_id}).mappings().all()
    today = figures.today(session, [row["id"] for row in rows])
    return [_out(row, today[row["id"]]) for row in rows]


# In which order an owner wants to see them: first those that need somebody.
_WORKING = frozenset({"online", "disabled"})


def first_shown(session: Session, user_id: int, most: int) -> tuple[list[DeviceOut], int]:
    """At most so many of the user's phones, those that do not work before the others, and how many there are."""
    rows = session.execute(_OF_USER, {"user": user_id}).mappings().all()
    first = sorted(rows, key=lambda row: condition.of(dict(row))[0] in _WORKING)[:most]
    today = figures.today(session, [row["id"] for row in first])
    return [_out(row, today[row["id"]]) for row in first], len(rows)


class PhoneName(NamedTuple):
    """A phone as one chooses it from a list."""

    id: int
    device_name: str


def names(session: Session, user_id: int, *, active: bool = False) -> list[PhoneName]:
    """The user's phones by their names; `active`: only those that may send."""
    query = select(Device.id, Device.device_name).where(Device.user_id == user_id, Device.removed_at.is_(None))
    if active:
        query = query.where(Device.is_active)
    return [PhoneName(*row) for row in session.execute(query.order_by(Device.id))]


def show(session: Session, device_id: int) -> DeviceOut:
    """One phone, a removed one too."""
    row: RowMapping = session.execute(_ONE, {"id": device_id}).mappings().one()
    return _out(row, figures.today(session, [device_id])[device_id])


def _out(row: RowMapping, today: DeviceToday) -> DeviceOut:
    state, hint = condition.of(dict(row))
    return DeviceOut(**row, state=state, hint=hint, today=today)


_FIND = text("""
    SELECT id FROM devices WHERE user_id = :user AND removed_at IS NULL AND (id = :id OR device_id = :name)
    ORDER BY id = :id DESC NULLS LAST LIMIT 1
""")


def find(session: Session, user_id: int, reference: int | str) -> int:
    """The number of the user's phone that is named by its number or by its own id. Raises `NotFound`."""
    names = {"user": user_id, "id": row_id(str(reference)), "name": str(reference)}
    found: int | None = session.scalar(_FIND, names)
    if found is None:
        raise NotFound(MODEL)
    return found


def columns(wanted: DeviceChange, region: str | None) -> dict[str, Any]:
    """What `change` takes, of a request. Raises `Invalid`."""
    values = wanted.given()
    if "limits" in values:
        values["limits"] = wanted.limits.stored() if wanted.limits else {}
    if values.get("phone_number") is not None:
        number = normalize_number(values["phone_number"], region)
        if number is None:
            raise Invalid(_NO_NUMBER)
        values["phone_number"] = number
    return values


# Taken before the phone's row of `devices`, as hand-out does, which notes a new version of the app under it.
_LOCK_STATE = text("SELECT FROM device_state WHERE device_id = :id FOR NO KEY UPDATE")


def limits(session: Session, device_id: int) -> dict[str, Any]:
    """The phone's limits, which nobody else changes before this transaction is over."""
    session.execute(_LOCK_STATE, {"id": device_id})
    return session.scalar(select(Device.limits).where(Device.id == device_id)) or {}


# What the app is told of, and what a change of it makes of the next slot and of a limit that holds messages back.
_PUSHED = {"send_delay_seconds", "send_delay_spread_seconds", "limits"}
# Which card sends: results of another one say nothing of it.
_SENDS_BY = {"default_sim_slot", "sim_selection"}
_NEW_PACE = text("""
    UPDATE device_state s
    SET next_slot_at = s.last_release_at + make_interval(secs => d.send_delay_seconds),
        held_until = NULL, held_by = NULL
    FROM devices d WHERE d.id = s.device_id AND s.device_id = :id
""")


def change(session: Session, user_id: int, device_id: int, values: Mapping[str, Any]) -> None:
    """Set columns of `devices`, and let the phone, routing and moving know of what it means to them."""
    if not values:
        return
    if values.get("is_active") or _SENDS_BY & values.keys():
        health.forget(session, device_id)
    session.execute(_LOCK_STATE, {"id": device_id})
    if values.get("is_active"):
        _approve(session, user_id, device_id)
    audit.record(session, Action.PHONE_CHANGED, user_id, device_id, names=sorted(values))
    session.execute(update(Device).where(Device.id == device_id).values(**values))
    if _PUSHED & values.keys():
        session.execute(_NEW_PACE, {"id": device_id})
        outbound.signal(session, device_id, "SettingsUpdated")
    outbound.announce(session, [user_id], PHONES)
    outbound.signal(session, device_id, "wake", after=0)
    outbound.nudge(session, TaskName.ROUTE, user_id)
    if values.get("is_active") is False:
        outbound.nudge(session, TaskName.MOVE)


_APPROVE = text("UPDATE devices SET awaits_approval = false WHERE id = :id AND awaits_approval RETURNING id")


def _approve(session: Session, user_id: int, device_id: int) -> None:
    """A phone that its owner switches on waits for them no longer, and learns where to post what it receives."""
    if session.execute(_APPROVE, {"id": device_id}).first():
        outbound.signal(session, device_id, "WebhooksUpdated")
        audit.record(session, Action.PHONE_APPROVED, user_id, device_id)


def make_default(session: Session, user_id: int, device_id: int) -> str:
    """Let sends that name no phone begin with this one. Answers its name."""
    session.execute(update(User).where(User.id == user_id).values(default_device_id=device_id))
    return session.get_one(Device, device_id).device_name


_END_KEY = text("""
    DELETE FROM tokens t USING devices d
    WHERE d.id = :id AND t.id = d.enrolled_by AND t.kind = 'key' AND t.abilities = '{phone:enroll}'
""")
# A token that can do more goes on doing it.
_END_ENROLLING = text("""
    UPDATE tokens t SET enrolls = false FROM devices d WHERE d.id = :id AND t.id = d.enrolled_by AND t.enrolls
""")
_REMOVE = text("""
    UPDATE devices SET removed_at = clock_timestamp() WHERE id = :id AND removed_at IS NULL RETURNING device_name
""")
_NO_DEFAULT = text("UPDATE users SET default_device_id = NULL WHERE id = :user AND default_device_id = :id")


def remove(session: Session, user_id: int, device_id: int) -> None:
    """End the phone's token and its streams, and the private token that it may have kept; what waits for it moves.
    What it sent it may still report.
    """
    # The private token first, which an enrollment under way holds; a phone that it makes is another one then.
    session.execute(_END_KEY, {"id": device_id})
    session.execute(_END_ENROLLING, {"id": device_id})
    if (name := session.scalar(_REMOVE, {"id": device_id})) is not None:
        audit.record(session, Action.PHONE_REMOVED, user_id, device_id, name=name)
    session.execute(_NO_DEFAULT, {"user": user_id, "id": device_id})
    outbound.announce(session, [user_id], PHONES)
    outbound.signal(session, device_id, "end")
    outbound.nudge(session, TaskName.MOVE)


def remove_enrolled(session: Session, names: Sequence[str]) -> int:
    """Remove phones of any user by the ids that they were given when they enrolled; how many there were."""
    found = session.execute(
        select(Device.id, Device.user_id)
        .where(Device.device_id.in_(names), Device.removed_at.is_(None))
        .order_by(Device.user_id, Device.id)
    ).all()
    for device_id, user_id in found:
        remove(session, user_id, device_id)
    return len(found)


_DISARM = text("""
    UPDATE devices SET removed_at = clock_timestamp() WHERE user_id = :user AND removed_at IS NULL RETURNING id
""")


def disarm(session: Session, user_id: int) -> None:
    """No phone of the account's sends or reports any more."""
    for device in session.scalars(_DISARM, {"user": user_id}).all():
        outbound.signal(session, device, "end")
