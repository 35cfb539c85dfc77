"""The life of a message: statuses, events, and which event moves which status where.

    pending ──▶ sent ──▶ delivered
       │  ╲       ╲
       │   ╲───────╲──▶ failed
       ╰──▶ cancelled

Within `pending` the queue row's `Stage` tells queued or routed, released, and accepted. The phone is believed:
a failure that the gateway concluded or that the owner told while the phone had the message, and a cancellation, give
way to what the phone says happened.
"""

from enum import IntEnum, StrEnum


class Status(StrEnum):
    """The status of a message."""

    PENDING = "pending"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RECEIVED = "received"


class Stage(IntEnum):
    """Where a pending message stands, kept in its queue row."""

    WAITING = 0
    RELEASED = 1
    ACCEPTED = 2
    # No claim looks at it: its campaign is paused, or its time has not come. Last, so that one range has the others.
    HELD = 3


# No phone was given it: it can still be withdrawn.
BEFORE_A_PHONE = frozenset({Stage.WAITING, Stage.HELD})


class Event(StrEnum):
    """What may happen to a message, in the order in which events of one batch are applied."""

    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"
    OPTED_OUT = "opted_out"
    RECALLED = "recalled"
    EXPIRED = "expired"
    UNREPORTED = "unreported"
    RESTORED = "restored"
    STRANDED = "stranded"
    NOTED = "noted"
    RETRIED = "retried"
    DELETED = "deleted"


RANK = {event: rank for rank, event in enumerate(Event)}

# What a phone's report (or the owner's PUT) makes of each status; absent means that nothing changes.
REPORTED: dict[Status, dict[Event, Status]] = {
    Status.PENDING: {
        Event.SENT: Status.SENT,
        Event.DELIVERED: Status.DELIVERED,
        Event.FAILED: Status.FAILED,
        Event.CANCELLED: Status.CANCELLED,
    },
    Status.SENT: {Event.DELIVERED: Status.DELIVERED, Event.FAILED: Status.FAILED},
    Status.CANCELLED: {
        Event.SENT: Status.SENT,
        Event.DELIVERED: Status.DELIVERED,
        Event.FAILED: Status.FAILED,
    },
}

# A failure that no phone has told.
CONCLUDED_FAILURE: dict[Event, Status] = {
    Event.SENT: Status.SENT,
    Event.DELIVERED: Status.DELIVERED,
    Event.FAILED: Status.FAILED,
}
