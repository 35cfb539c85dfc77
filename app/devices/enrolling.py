"""Enrolling: a phone becomes one of a user's devices, or the one it was."""

from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.accounts.models import User
from app.accounts.principals import Principal, hold
from app.core import outbound, throttling
from app.core.errors import Refused, Unauthenticated
from app.core.refusals import ENROLLING_TOO_FAST, TOO_MANY_PHONES
from app.core.security import digest, random_text
from app.core.settings import get_settings
from app.core.task_names import PHONES
from app.devices import sims
from app.devices.models import Device, DeviceState
from app.devices.presence import SILENT

# As long as the app's own server makes them.
NAME_LENGTH = 21
_SECRET_LENGTH = 43
_SIGNING_KEY_LENGTH = 32

# The state row is locked, and whether it is silent is judged again after waiting for it: of two phones that enroll at
# once as the same one, the first is that one and the second is new.
_SAME = text(f"""
    SELECT d.id, d.sim_cards FROM devices d JOIN device_state s ON s.device_id = d.id
    WHERE d.user_id = :user AND d.registered_name = :name AND d.removed_at IS NULL
      AND d.sim_cards <> '[]' AND {SILENT}
    ORDER BY d.id FOR NO KEY UPDATE OF s
""")  # noqa: S608 - a constant


def admit(principal: Principal) -> None:
    """Count a phone that is enrolled with this token. Raises `TooManyAttempts`."""
    most = get_settings().max_enrollments_per_minute
    throttling.hit("enroll", str(principal.token_id), most, ENROLLING_TOO_FAST)


def enroll(
    session: Session, principal: Principal, name: str, sim_cards: list[sims.Card], push_token: str | None
) -> tuple[Device, str]:
    """Make a device of the phone and return it with its token, which is shown this once.

    A phone of the same name and with the same SIM cards as a silent one of the user's is that one again: it keeps its
    row and gets a new token, and the old token ends with its streams. Its hooks keep their address, because the app may
    still hold incoming messages for it.

    Where the account wants to be asked, a phone waits for its owner, unless it comes back with the private token that
    enrolled it before. Raises `Unauthenticated` for a private token of a phone that was removed, `Refused` where the
    account has as many phones as it may.
    """
    # In this order, as whoever takes the account over (`accounts.ownership`).
    user = session.get_one(User, principal.user_id, with_for_update={"key_share": True})
    if not hold(session, principal):
        raise Unauthenticated
    token = random_text(_SECRET_LENGTH)
    device = _same_phone(session, user.id, name, sim_cards) or _new_phone(session, user, name)
    if user.approve_new_phones and device.enrolled_by != principal.token_id:
        device.is_active, device.awaits_approval = False, True
    device.enrolled_by = principal.token_id
    device.token_hash = digest(token)
    device.push_token = push_token
    device.default_sim_slot = sims.first_choice(device.sim_cards, sim_cards, device.default_sim_slot)
    device.sim_cards = sims.merged(device.sim_cards, sim_cards)
    session.flush()
    session.execute(
        text("UPDATE device_state SET seen_at = clock_timestamp(), woken_at = NULL WHERE device_id = :id"),
        {"id": device.id},
    )
    outbound.announce(session, [user.id], PHONES)
    audit.record(session, Action.PHONE_ENROLLED, user.id, device.id, awaits_approval=device.awaits_approval)
    return device, token


def _same_phone(session: Session, user_id: int, name: str, cards: list[sims.Card]) -> Device | None:
    if not cards:
        return None
    told = sims.masked(cards)
    found = session.execute(_SAME, {"user": user_id, "name": name})
    same = next((row.id for row in found if sims.masked(row.sim_cards) == told), None)
    if same is None:
        return None
    outbound.signal(session, same, "end")
    return session.get_one(Device, same, populate_existing=True)


_COUNT = text("SELECT count(*) FROM devices WHERE user_id = :user AND removed_at IS NULL")


def _new_phone(session: Session, user: User, name: str) -> Device:
    most = get_settings().max_devices
    if (session.scalar(_COUNT, {"user": user.id}) or 0) >= most:
        raise Refused(TOO_MANY_PHONES, limit=most)
    device = Device(
        user_id=user.id,
        device_id=random_text(NAME_LENGTH),
        device_name=name,
        registered_name=name,
        sms_rate=get_settings().sms_rate,
        send_delay_seconds=user.default_send_delay_seconds,
        hook_secret=random_text(_SECRET_LENGTH),
        signing_key=random_text(_SIGNING_KEY_LENGTH),
        default_sim_slot=0,
        sim_cards=[],
    )
    session.add(device)
    session.flush()
    session.add(DeviceState(device_id=device.id))
    return device


def device_by_token(session: Session, token: str) -> Device:
    """The device that a token belongs to. Raises `Unauthenticated`, also for a removed one."""
    device = session.scalar(select(Device).where(Device.token_hash == digest(token), Device.removed_at.is_(None)))
    if device is None:
        raise Unauthenticated
    return device


def renew(session: Session, device: Device, sim_cards: list[sims.Card] | None, push_token: str | None) -> None:
    """What the app tells at each start."""
    values: dict[str, Any] = {"push_token": push_token}
    if sim_cards:  # none are told of while the app may not ask Android for them
        values["sim_cards"] = sims.merged(device.sim_cards, sim_cards)
        values["default_sim_slot"] = sims.first_choice(device.sim_cards, sim_cards, device.default_sim_slot)
    session.execute(update(Device).where(Device.id == device.id).values(values))
