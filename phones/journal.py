"""What an agent must not forget when it is killed: its registration, messages and their states, inbound SMS.

One SQLite file, every statement on disk before the next step. The rule that keeps an SMS from going out twice: a
message is marked as begun before it is given to the modem, and what is marked is never given again, whatever happened
in between. Then nobody can tell whether it left; it stays `Processed`, which says just that.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from phones.wire import PulledMessage, ReceivedSms, State, WireError, parse_date

_KEPT_SECONDS = 30 * 86400
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    id TEXT PRIMARY KEY, numbers TEXT NOT NULL, text TEXT NOT NULL, sim_number INTEGER,
    delivery_report INTEGER NOT NULL, priority INTEGER NOT NULL,
    created_at REAL NOT NULL, valid_until REAL, not_before REAL NOT NULL,
    state TEXT NOT NULL, error TEXT, history TEXT NOT NULL, told INTEGER NOT NULL, changed_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    reference INTEGER NOT NULL, number TEXT NOT NULL, message_id TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS inbound (
    event_id TEXT PRIMARY KEY, sms TEXT NOT NULL, taken INTEGER NOT NULL, at REAL NOT NULL);
"""


class Job(NamedTuple):
    """A message that waits to be sent."""

    id: str
    numbers: list[str]
    text: str
    sim_number: int | None
    delivery_report: bool
    valid_until: float | None
    priority: int


class Story(NamedTuple):
    """A message with news for the gateway. `history` is its states with their times since the epoch."""

    id: str
    numbers: list[str]
    error: str | None
    history: list[tuple[State, float]]


class Journal:
    """The file of one agent. Two processes on one file do no harm: each message is begun by one of them."""

    def __init__(self, file: Path) -> None:
        self._db = sqlite3.connect(file, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_TABLES)
        self._forget_the_old()

    def _forget_the_old(self) -> None:
        before = time.time() - _KEPT_SECONDS
        with self.together():
            self._db.execute("DELETE FROM messages WHERE changed_at < ? AND state <> 'Pending'", (before,))
            self._db.execute("DELETE FROM parts WHERE at < ?", (before,))
            self._db.execute("DELETE FROM inbound WHERE at < ? AND taken = 1", (before,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is written inside all at once or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def fact(self, key: str) -> str | None:
        """Look up something remembered by name."""
        row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, key: str, value: str) -> None:
        """Remember something by name."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def accept(self, pulled: PulledMessage, text: str) -> bool:
        """Keep a new message; False where it is known. WireError: a date in it is unreadable, or it has no number."""
        if not pulled.phone_numbers:
            raise WireError("a message has no number")
        now = time.time()
        added = self._db.execute(
            "INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'Pending', NULL, ?, 1, ?)",
            (
                pulled.id,
                json.dumps(pulled.phone_numbers),
                text,
                pulled.sim_number,
                pulled.with_delivery_report,
                pulled.priority,
                parse_date(pulled.created_at) if pulled.created_at else now,
                parse_date(pulled.valid_until) if pulled.valid_until else None,
                parse_date(pulled.schedule_at) if pulled.schedule_at else 0.0,
                json.dumps([[State.PENDING, now]]),
                now,
            ),
        )
        return added.rowcount == 1

    def cancelled_unknown(self, pulled: PulledMessage) -> None:
        """Keep, as cancelled, a message that was taken back before it was ever here."""
        now = time.time()
        self._db.execute(
            "INSERT OR IGNORE INTO messages VALUES (?, ?, '', NULL, 0, 0, 0, NULL, 0, 'Cancelled', NULL, ?, 0, ?)",
            (pulled.id, json.dumps(pulled.phone_numbers), json.dumps([[State.CANCELLED, now]]), now),
        )

    def next_job(self, order: str) -> Job | None:
        """Give the message in turn: by priority, then the oldest (FIFO) or the newest (LIFO) first."""
        direction = 1 if order == "FIFO" else -1
        row = self._db.execute(
            "SELECT id, numbers, text, sim_number, delivery_report, valid_until, priority FROM messages"
            " WHERE state = 'Pending' AND not_before <= ? ORDER BY priority DESC, created_at * ?, rowid * ? LIMIT 1",
            (time.time(), direction, direction),
        ).fetchone()
        return None if row is None else Job(row[0], json.loads(row[1]), row[2], row[3], bool(row[4]), row[5], row[6])

    def begin(self, message_id: str) -> bool:
        """Mark a message as given to the modem, before it is. False: it was begun or cancelled meanwhile."""
        return self._step(message_id, State.PROCESSED, from_states=(State.PENDING,))

    def put_back(self, message_id: str) -> None:
        """Take back that a message was begun; only where it is certain that nothing of it left."""
        self._db.execute(
            "UPDATE messages SET state = 'Pending', history = json_remove(history, '$[#-1]'),"
            " told = min(told, json_array_length(history) - 1) WHERE id = ? AND state = 'Processed'",
            (message_id,),
        )

    def cancel(self, message_id: str) -> bool:
        """Cancel a message that was not begun."""
        return self._step(message_id, State.CANCELLED, from_states=(State.PENDING,))

    def fail(self, message_id: str, error: str) -> bool:
        """Note that a message was not or not wholly sent."""
        return self._step(message_id, State.FAILED, (State.PENDING, State.PROCESSED, State.SENT), error)

    def sent(self, message_id: str) -> bool:
        """Note that the network has taken a message."""
        return self._step(message_id, State.SENT, from_states=(State.PROCESSED,))

    def delivered(self, message_id: str) -> bool:
        """Note that a message has arrived."""
        return self._step(message_id, State.DELIVERED, from_states=(State.PROCESSED, State.SENT))

    def _step(self, message_id: str, state: State, from_states: tuple[State, ...], error: str | None = None) -> bool:
        now = time.time()
        changed = self._db.execute(
            "UPDATE messages SET state = ?, error = ?, changed_at = ?,"
            " history = json_insert(history, '$[#]', json_array(?, ?))"
            " WHERE id = ? AND state IN (SELECT value FROM json_each(?))",
            (state, error, now, state, now, message_id, json.dumps(from_states)),
        )
        return changed.rowcount == 1

    def unreported(self) -> list[Story]:
        """Messages of which the gateway does not know the latest state, the longest waiting first."""
        rows = self._db.execute(
            "SELECT id, numbers, error, history FROM messages WHERE told < json_array_length(history)"
            " ORDER BY changed_at LIMIT 100"
        ).fetchall()
        return [
            Story(row[0], json.loads(row[1]), row[2], [(State(state), at) for state, at in json.loads(row[3])])
            for row in rows
        ]

    def mark_reported(self, story: Story) -> None:
        """Note that the gateway has taken a report of this story."""
        self._db.execute("UPDATE messages SET told = max(told, ?) WHERE id = ?", (len(story.history), story.id))

    def report_again(self, message_id: str) -> None:
        """Report the state of a message once more."""
        self._db.execute("UPDATE messages SET told = 0 WHERE id = ?", (message_id,))

    def sent_part(self, message_id: str, number: str, reference: int) -> None:
        """Remember under which reference the network will report the delivery of a part."""
        self._db.execute("INSERT INTO parts VALUES (?, ?, ?, ?)", (reference, number, message_id, time.time()))

    def message_of(self, reference: int, number: str) -> str | None:
        """Find the message of a delivery report. References go round at 256, so the latest is meant."""
        row = self._db.execute(
            "SELECT message_id FROM parts WHERE reference = ? AND number = ? ORDER BY rowid DESC LIMIT 1",
            (reference, number),
        ).fetchone()
        return None if row is None else str(row[0])

    def receive(self, event_id: str, sms: ReceivedSms) -> None:
        """Keep an inbound SMS until a webhook has taken it. The same id again changes nothing."""
        text = json.dumps({key: getattr(sms, key) for key in sms.__struct_fields__})
        self._db.execute("INSERT OR IGNORE INTO inbound VALUES (?, ?, 0, ?)", (event_id, text, time.time()))

    def inbound(self) -> list[tuple[str, ReceivedSms]]:
        """Inbound SMS that no webhook has taken yet, by event id, the oldest first."""
        rows = self._db.execute("SELECT event_id, sms FROM inbound WHERE taken = 0 ORDER BY rowid LIMIT 20").fetchall()
        return [(row[0], ReceivedSms(**json.loads(row[1]))) for row in rows]

    def taken(self, event_id: str) -> None:
        """Note that a webhook has taken an inbound SMS. It is kept, to know it should the modem show it again."""
        self._db.execute("UPDATE inbound SET taken = 1 WHERE event_id = ?", (event_id,))
