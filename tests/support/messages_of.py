"""Phones and messages of a user, written straight to the database where a test is about something else."""

import os
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from psycopg import Connection


def add_phone(sql: Connection, user: Any, *, name: str = "Pixel 7", active: bool = True, default: bool = False) -> int:
    """A phone that is registered and never connects."""
    [number] = sql.execute(
        "INSERT INTO devices (user_id, device_id, device_name, registered_name, is_active, sms_rate, hook_secret,"
        " signing_key) VALUES (%s, %s, %s, %s, %s, 100, %s, 'key') RETURNING id",
        (user.id, os.urandom(8).hex(), name, name, active, os.urandom(8).hex()),
    ).fetchone()
    sql.execute("INSERT INTO device_state (device_id) VALUES (%s)", (number,))
    if default:
        sql.execute("UPDATE users SET default_device_id = %s WHERE id = %s", (number, user.id))
    return number


def add_message(sql: Connection, user: Any, **fields: Any) -> int:
    """A message as it would be after its life so far, counted as it would have been."""
    today = datetime.now(UTC).date()
    row = {
        "message_id": uuid4(),
        "user_id": user.id,
        "direction": "outbound",
        "status": "delivered",
        "recipient_number": "+998901234567",
        "message": "Hello",
        "price": 100,
        "segments": 1,
        "encoding": "gsm7",
        "counted_on": None if fields.get("status") == "pending" else today,
        **fields,
    }
    if row["direction"] == "inbound":
        row |= {"status": "received", "recipient_number": None, "price": None}
    if row["status"] != "pending":
        row.setdefault(f"{row['status']}_at", datetime.now(UTC))
    names = ", ".join(row)
    marks = ", ".join(["%s"] * len(row))
    statement = f"INSERT INTO messages ({names}) VALUES ({marks}) RETURNING id"
    [number] = sql.execute(statement, list(row.values())).fetchone()
    kinds = {
        "received": ["received"],
        "pending": ["accepted"],
        "cancelled": ["accepted", "cancelled"],
        "sent": ["accepted", "sent"],
    }.get(row["status"], ["accepted", "sent", row["status"]])
    for kind in kinds:
        sql.execute("INSERT INTO usage_deltas (user_id, day, kind, n) VALUES (%s, %s, %s, 1)", (user.id, today, kind))
    return number
