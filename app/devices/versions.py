"""What an app can do, by its version, which it tells in the user agent of its calls and hooks but not of its stream."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import unnest
from app.devices.models import Device

_AGENT = "me.capcom.smsgateway/"
_MAX_LENGTH = 32

SIGNS_HOOKS = (1, 33)
CANCELS = (1, 67)

# The version that first knew an event; where a list has one that the app does not know, it takes none of the list.
_HOOK_EVENTS: dict[str, tuple[int, ...]] = {
    "sms:received": (),
    "sms:data-received": (),
    "mms:received": (),
    "system:ping": (),
    "mms:downloaded": (1, 56),
    "app:started": (1, 66),
    "sms:batch:received": (1, 71),
    "sms:batch:data-received": (1, 71),
    "mms:batch:received": (1, 71),
    "mms:batch:downloaded": (1, 71),
}


def from_user_agent(user_agent: str | None) -> str | None:
    """The app's version from a request's user agent, None where that is another program's."""
    agent = user_agent or ""
    return agent.removeprefix(_AGENT).split(" ")[0][:_MAX_LENGTH] or None if agent.startswith(_AGENT) else None


def parse(version: str | None) -> tuple[int, ...]:
    """`1.68.0` as numbers that compare; empty, so less than any, where it is unknown. A suffix counts for nothing."""
    parts: list[int] = []
    for part in (version or "").partition("-")[0].split("."):
        if not (part.isascii() and part.isdigit()) or len(part) > 6:  # noqa: PLR2004 - no version part is that long
            break
        parts.append(int(part))
    return tuple(parts)


def can_cancel(version: str | None) -> bool:
    """Whether the app understands that it is to give a message back. One that does not would send it instead."""
    return parse(version) >= CANCELS


def hook_events(version: str | None) -> list[str]:
    """The events that an app of this version may be asked for: those it knows, and none where it cannot sign them."""
    known = parse(version)
    if known and known < SIGNS_HOOKS:
        return []
    return [event for event, since in _HOOK_EVENTS.items() if known >= since]


_LEARN = text(f"""
    UPDATE devices d SET app_version = u.app_version FROM {unnest(Device.id, Device.app_version)}
    WHERE d.id = u.id AND d.app_version IS DISTINCT FROM u.app_version
""")  # noqa: S608 - names of columns


def learn(session: Session, told: Mapping[int, str]) -> None:
    """Keep the versions that phones told, by device; for those whose version is not known to be the same already."""
    if told:
        ids = sorted(told)
        session.execute(_LEARN, {"id": ids, "app_version": [told[number] for number in ids]})
