"""What phones say of their messages, translated to changes of state.

Reports come late, twice and out of order, each with the history of states as the phone knows it. What happened is taken
from the whole report, so a late "Sent" that carries "Delivered" in its history tells both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.bodies import mended
from app.core.errors import Unauthenticated
from app.devices import presence
from app.devices.auth import devices_by_token
from app.messages import transitions
from app.messages.states import Event
from app.messages.transitions import Change

_EVENTS: dict[str, tuple[Event, ...]] = {
    "Pending": (Event.ACCEPTED,),
    "Cancelling": (Event.ACCEPTED,),
    "Processed": (Event.ACCEPTED,),
    "Sent": (Event.ACCEPTED, Event.SENT),
    "Delivered": (Event.ACCEPTED, Event.DELIVERED),
    "Failed": (Event.ACCEPTED, Event.FAILED),
    "Cancelled": (Event.CANCELLED,),
}
LONGEST_NAME = 36
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


def parse_report(item: Mapping[str, Any]) -> Report | None:
    """A report from an item of the phone's JSON array; `ValueError` names what is wrong with it.

    None where its state is one that only a newer app has: it says nothing that we could keep. With one recipient a
    message, the recipient's state is the more exact one: a mix reads "Sent" in the aggregate.
    """
    name, state, recipients = item.get("id"), item.get("state"), item.get("recipients") or []
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
        raise ValueError(f"id must be a string of 1 to {LONGEST_NAME} characters")
    if not isinstance(recipients, list) or not all(isinstance(recipient, dict) for recipient in recipients):
        raise ValueError("recipients must be a list of objects")
    error = None
    if len(recipients) == 1:
        state = recipients[0].get("state", state)
        error = recipients[0].get("error")
    if not isinstance(state, str):
        raise ValueError("state must be a string")  # noqa: TRY004 - as for the others
    if state not in _EVENTS:
        return None
    history = item.get("states")
    times = _times(history) if isinstance(history, dict) else {}
    return Report(name, state, mended(error)[:1000] if isinstance(error, str) else None, times)


def _times(history: Mapping[str, Any]) -> dict[str, datetime]:
    times = {}
    for state, value in history.items():
        if state in _EVENTS and isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
                times[state] = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
            except (ValueError, OverflowError):
                continue
    return times


def record(session: Session, items: list[Reported]) -> Sequence[Exception | None]:
    """Apply the reports of several requests; the outcome of one is None, or `Unauthenticated`."""
    devices = devices_by_token(session, {item.token for item in items})
    presence.saw(session, {device["id"] for device in devices.values()})
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
