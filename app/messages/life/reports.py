"""What phones say of their messages, translated to changes of state.

Reports come late, twice and out of order, each with the history of states as the phone knows it. What happened is taken
from the whole report, so a late "Sent" that carries "Delivered" in its history tells both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.errors import Unauthenticated
from app.devices import presence
from app.devices.auth import devices_by_token
from app.messages.life import transitions
from app.messages.life.transitions import Change
from app.messages.states import Event

_EVENTS: dict[str, tuple[Event, ...]] = {
    "Pending": (Event.ACCEPTED,),
    "Cancelling": (Event.ACCEPTED,),
    "Processed": (Event.ACCEPTED,),
    "Sent": (Event.ACCEPTED, Event.SENT),
    "Delivered": (Event.ACCEPTED, Event.DELIVERED),
    "Failed": (Event.ACCEPTED, Event.FAILED),
    "Cancelled": (Event.CANCELLED,),
}
STATES = _EVENTS.keys()
_TOLD_BY_HISTORY = {"Sent": Event.SENT, "Delivered": Event.DELIVERED}


@dataclass(slots=True)
class Report:
    """One item of `PATCH /message`: the message as the phone names it, its state, error and history."""

    name: str
    state: str
    error: str | None = None
    times: dict[str, datetime] = field(default_factory=dict)


@dataclass(slots=True)
class Reported:
    """The reports of one request, and the SHA-256 of the device token it came with."""

    token: bytes
    reports: list[Report]


def wire_name(message_id: UUID, attempt: int) -> str:
    """How a message is named to phones. A repeated sending has a name of its own, since phones know a name for ever."""
    return str(message_id) if attempt == 1 else f"{message_id.hex}.{attempt}"


def parse_wire_name(name: str) -> tuple[UUID, int] | None:
    """Message and attempt, None for a name that is not ours."""
    base, _, attempt = name.partition(".")
    try:
        return UUID(base), int(attempt or 1)
    except ValueError:
        return None


def record(session: Session, items: list[Reported]) -> Sequence[Exception | None]:
    """Apply the reports of several requests; the outcome of one is None, or `Unauthenticated`."""
    devices = devices_by_token(session, {item.token for item in items})
    presence.mark_seen(session, {device["id"] for device in devices.values()})
    named: dict[tuple[UUID, int], list[tuple[Report, int]]] = {}
    for item in items:
        device = devices.get(item.token)
        for report in item.reports if device else ():
            parsed = parse_wire_name(report.name)
            if parsed and device:
                named.setdefault((parsed[0], device["user_id"]), []).append((report, parsed[1]))
    changes = _changes(session, named)
    if changes:
        transitions.apply(session, changes)
    return [None if item.token in devices else Unauthenticated() for item in items]


def _changes(session: Session, named: Mapping[tuple[UUID, int], list[tuple[Report, int]]]) -> list[Change]:
    """A phone may report on any message of its owner: after a new enrollment it speaks under another device."""
    if not named:
        return []
    rows = session.execute(
        text("SELECT id, message_id, user_id FROM messages WHERE message_id = ANY(:ids)"),
        {"ids": list({message_id for message_id, _ in named})},
    )
    return [
        Change(row.id, event, report.times.get(event.capitalize()), _error(event, report), attempt)
        for row in rows
        for report, attempt in named.get((row.message_id, row.user_id), ())
        for event in _events(report)
    ]


def _events(report: Report) -> set[Event]:
    told = {event for state, event in _TOLD_BY_HISTORY.items() if state in report.times}
    return told.union(_EVENTS[report.state])


def _error(event: Event, report: Report) -> str | None:
    return report.error if event in {Event.FAILED, Event.DELIVERED, Event.SENT} else None
