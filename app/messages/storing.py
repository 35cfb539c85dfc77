"""Writes what `transitions` decided: the rows of messages, and the queue rows that they keep, lose, or get again."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.settings import get_settings
from app.devices import figures

_WRITTEN = {
    "status": "text",
    "device_id": "bigint",
    "attempt": "smallint",
    "left_attempt": "smallint",
    "sim_slot": "smallint",
    "error_message": "text",
    "uncertain": "boolean",
    "failed_by": "text",
    "counted_on": "date",
    "valid_until": "timestamptz",
    "routed_at": "timestamptz",
    "released_at": "timestamptz",
    "accepted_at": "timestamptz",
    "sent_at": "timestamptz",
    "delivered_at": "timestamptz",
    "failed_at": "timestamptz",
    "cancelled_at": "timestamptz",
    "updated_at": "timestamptz",
    "deleted_at": "timestamptz",
}
_UPDATE = text(
    f"WITH counted AS ({figures.INSERT}) "  # noqa: S608 - the names are the constants above
    "UPDATE messages m SET "
    + ", ".join(f"{name} = u.{name}" for name in _WRITTEN)
    + " FROM unnest(CAST(:id AS bigint[]), "
    + ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _WRITTEN.items())
    + ") AS u(id, "
    + ", ".join(_WRITTEN)
    + ") WHERE m.id = u.id"
)


def update(session: Session, rows: Sequence[Mapping[str, Any]], results: Mapping[figures.Key, int]) -> None:
    """Write the messages, and with them what their phones' figures gain: one statement."""
    if rows:
        values = {name: [row[name] for row in rows] for name in ("id", *_WRITTEN)}
        session.execute(_UPDATE, {**values, **figures.parameters(results)})


def accept(session: Session, message_ids: Collection[int], now: datetime) -> None:
    """The phone has said that it has them."""
    if message_ids:
        session.execute(
            text(
                "UPDATE message_queue SET stage = 2, accepted_at = :now, released_at = COALESCE(released_at, :now),"
                " valid_until = COALESCE(valid_until, :until) WHERE message_id = ANY(:ids)"
            ),
            {"ids": sorted(message_ids), "now": now, "until": now + get_settings().message_validity},
        )


def recall(session: Session, message_ids: Sequence[int]) -> None:
    """Ask the phone for them; at the next pull again, since one that never got a message says so only then."""
    if message_ids:
        session.execute(
            text("UPDATE message_queue SET cancelling = true, offered_at = NULL WHERE message_id = ANY(:ids)"),
            {"ids": message_ids},
        )


_REROUTED = ("message_id", "device_id", "sim_slot", "valid_until")
_REROUTE = text("""
    UPDATE message_queue q
    SET stage = 0, device_id = u.device_id, since = clock_timestamp(), sim_slot = u.sim_slot,
        valid_until = u.valid_until, released_at = NULL, offered_at = NULL, accepted_at = NULL
    FROM unnest(CAST(:message_id AS bigint[]), CAST(:device_id AS bigint[]), CAST(:sim_slot AS smallint[]),
                CAST(:valid_until AS timestamptz[])) AS u(message_id, device_id, sim_slot, valid_until)
    WHERE q.message_id = u.message_id
""")


def reroute(session: Session, queued: Sequence[Mapping[str, Any]]) -> None:
    """Let the queue rows wait for another phone."""
    if queued:
        session.execute(_REROUTE, {name: [row[name] for row in queued] for name in _REROUTED})


def dequeue(session: Session, message_ids: Sequence[int]) -> None:
    if message_ids:
        session.execute(text("DELETE FROM message_queue WHERE message_id = ANY(:ids)"), {"ids": message_ids})


def enqueue(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Queue rows for messages that are to be sent; `device_id` null means that a phone is still to be chosen."""
    session.execute(
        text(
            "INSERT INTO message_queue (message_id, user_id, device_id, lane, named, sim_slot, valid_until)"
            " SELECT * FROM unnest(CAST(:id AS bigint[]), CAST(:user AS bigint[]), CAST(:device AS bigint[]),"
            " CAST(:lane AS smallint[]), CAST(:named AS boolean[]), CAST(:sim AS smallint[]),"
            " CAST(:valid AS timestamptz[]))"
        ),
        {
            "id": [row["id"] for row in rows],
            "user": [row["user_id"] for row in rows],
            "device": [row["device_id"] or 0 for row in rows],
            "lane": [row["lane"] for row in rows],
            "named": [row["device_named"] for row in rows],
            "sim": [row["sim_slot"] for row in rows],
            "valid": [row["valid_until"] for row in rows],
        },
    )
