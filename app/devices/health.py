"""Health: a SIM card whose last results are mostly failures while others of its owner succeed loses its turn.

It rests for a minute, and for twice as long each time it fails again, up to an hour. After a rest its phone is given
one message; when that was sent, it has its turn back. Judged when results are folded into figures, so that no report
waits for it. A phone rests where the card it sends by does, or all that it alternates between; a single one of several
is passed over.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, Float, Row, Text, text
from sqlalchemy.orm import Session

from app.core import outbound
from app.core.arrays import arrays_of, columns_named, transposed, unnest
from app.core.task_names import TaskName
from app.devices import sims
from app.devices.models import DeviceHealth, DeviceState

# How many of the last results count, and how many failures there must be among them.
WINDOW = 20
MIN_FAILURES = 3
FIRST_REST, MAX_REST = timedelta(minutes=1), timedelta(hours=1)
# One that fails again so soon after its last rest goes on where that left off.
REMEMBERED = timedelta(hours=1)
# What counts as others succeeding.
_RECENTLY = "interval '10 minutes'"

# In SQL, over `device_state` as `s`: failing at all, and to be given nothing for now.
FAILING = "(s.rests_until IS NOT NULL)"
RESTING = "COALESCE(s.rests_until > clock_timestamp(), false)"


@dataclass(slots=True)
class Health:
    """A row of `device_health`."""

    device_id: int
    sim_slot: int
    sent: float
    failed: float
    rests: int
    rests_until: datetime | None
    failing_since: datetime | None
    reason: str | None

    def add(self, sent: int, failed: int) -> None:
        """Keep what weighs as much as the last `WINDOW` results."""
        before, new = self.sent + self.failed, min(sent + failed, WINDOW)
        kept = min(1.0, (WINDOW - new) / before) if before else 0.0
        fresh = new / (sent + failed)
        self.sent, self.failed = self.sent * kept + sent * fresh, self.failed * kept + failed * fresh

    @property
    def is_mostly_failing(self) -> bool:
        return self.failed >= MIN_FAILURES and self.failed > self.sent

    def rest(self, now: datetime) -> None:
        recently = self.rests_until is not None and now - self.rests_until < REMEMBERED
        self.rests = self.rests + 1 if recently else 1
        self.rests_until = now + min(FIRST_REST * 2 ** min(self.rests - 1, 10), MAX_REST)

    def recover(self, sent: int) -> None:
        self.failing_since = None
        self.sent, self.failed = float(min(sent, WINDOW)), 0.0


_KEYS = unnest(DeviceHealth.device_id, DeviceHealth.sim_slot)
_ROWS = text(f"INSERT INTO device_health (device_id, sim_slot) SELECT * FROM {_KEYS} ON CONFLICT DO NOTHING")  # noqa: S608 - names of columns
_LOCK = text(f"""
    SELECT h.device_id, h.sim_slot, h.sent, h.failed, h.rests, h.rests_until, h.failing_since, h.reason
    FROM device_health h JOIN {_KEYS} ON u.device_id = h.device_id AND u.sim_slot = h.sim_slot
    ORDER BY h.device_id, h.sim_slot FOR NO KEY UPDATE OF h
""")  # noqa: S608 - names of columns
_OTHERS_SUCCEED = text(f"""
    SELECT u.device_id, u.sim_slot
    FROM {_KEYS} JOIN devices d ON d.id = u.device_id
    WHERE EXISTS (
        SELECT FROM devices od JOIN device_health o ON o.device_id = od.id
        WHERE od.user_id = d.user_id AND od.is_active AND od.removed_at IS NULL
          AND (o.device_id, o.sim_slot) <> (u.device_id, u.sim_slot)
          AND o.failing_since IS NULL AND o.last_sent_at > clock_timestamp() - {_RECENTLY})
""")  # noqa: S608 - a constant
_SAVED = columns_named(DeviceHealth, (field.name for field in fields(Health)))
_SAVE = text(f"""
    UPDATE device_health h
    SET sent = u.sent, failed = u.failed, rests = u.rests, rests_until = u.rests_until,
        failing_since = u.failing_since, reason = u.reason,
        last_sent_at = CASE WHEN u.just_sent THEN clock_timestamp() ELSE h.last_sent_at END
    FROM {unnest(*_SAVED, just_sent=Boolean())}
    WHERE h.device_id = u.device_id AND h.sim_slot = u.sim_slot
""")  # noqa: S608 - names of columns


def evaluate(session: Session, results: Sequence[Row[Any]]) -> None:
    """Take in new results: rows of device, SIM slot, how many were sent and failed, and the usual reason."""
    news = {(row.device_id, row.sim_slot): row for row in results if row.sent > 0 or row.failed > 0}
    if not news:
        return
    places = sorted(news)
    keys = transposed(places, "device_id", "sim_slot")
    session.execute(_ROWS, keys)
    rows = [Health(*row) for row in session.execute(_LOCK, keys)]
    now: datetime = session.scalar(text("SELECT clock_timestamp()"))
    changed = {row.device_id for row in rows if _take_in(row, news[row.device_id, row.sim_slot], now)}
    _save(session, rows, {place for place in places if news[place].sent > 0})
    candidates = [row for row in rows if row.failing_since is None and row.is_mostly_failing]
    succeeding = _with_others_that_succeed(session, candidates)
    for row in succeeding:
        row.failing_since = now
        row.rest(now)
    _save(session, succeeding, set())
    _let_rest(session, changed | {row.device_id for row in succeeding})


def _take_in(row: Health, news: Row[Any], now: datetime) -> bool:
    """Whether a failing one recovered, or rests again. What it was given before its rest says nothing new."""
    row.add(max(news.sent, 0), max(news.failed, 0))
    if news.failed > 0:
        row.reason = news.reason
    if row.failing_since is None or row.rests_until is None or row.rests_until > now:
        return False
    if news.sent > 0:
        row.recover(news.sent)
    else:
        row.rest(now)
    return True


def _with_others_that_succeed(session: Session, rows: Sequence[Health]) -> list[Health]:
    if not rows:
        return []
    keys = transposed([(row.device_id, row.sim_slot) for row in rows], "device_id", "sim_slot")
    found = {(row.device_id, row.sim_slot) for row in session.execute(_OTHERS_SUCCEED, keys)}
    return [row for row in rows if (row.device_id, row.sim_slot) in found]


def _save(session: Session, rows: Sequence[Health], just_sent: Collection[tuple[int, int]]) -> None:
    if rows:
        session.execute(
            _SAVE,
            {
                **arrays_of(map(asdict, rows), *_SAVED),
                "just_sent": [(row.device_id, row.sim_slot) in just_sent for row in rows],
            },
        )


_LOCK_PHONES = text("SELECT FROM device_state WHERE device_id = ANY(:ids) ORDER BY device_id FOR NO KEY UPDATE")
# Once they are locked, so that what was found of another card meanwhile is seen.
_PHONES = text("""
    SELECT d.id, d.user_id, d.default_sim_slot, d.sim_selection, d.sim_cards, s.rests_until,
           (SELECT jsonb_object_agg(h.sim_slot, EXTRACT(epoch FROM h.rests_until)) FROM device_health h
            WHERE h.device_id = d.id AND h.failing_since IS NOT NULL) AS failing
    FROM devices d JOIN device_state s ON s.device_id = d.id
    WHERE d.id = ANY(:ids) ORDER BY d.id
""")
_REST = text(f"""
    UPDATE device_state s SET rests_until = to_timestamp(u.until), sim_rests = CAST(u.sims AS jsonb)
    FROM {unnest(DeviceState.device_id, until=Float(), sims=Text())}
    WHERE s.device_id = u.device_id
""")  # noqa: S608 - names of columns


def _let_rest(session: Session, devices: Collection[int]) -> None:
    """Tell hand-out and routing of phones some of whose cards began to fail, failed again, or recovered."""
    if not devices:
        return
    ids = {"ids": sorted(devices)}
    session.execute(_LOCK_PHONES, ids)
    rests: list[tuple[int, float | None, str | None]] = []
    for phone in session.execute(_PHONES, ids):
        failing = {int(slot): float(until) for slot, until in (phone.failing or {}).items()}
        until = _until(phone, failing)
        rests.append((phone.id, until, _json(failing)))
        if until is None:
            outbound.nudge(session, TaskName.ROUTE, phone.user_id)
        else:
            outbound.nudge(session, TaskName.MOVE)
    session.execute(_REST, transposed(rests, "device_id", "until", "sims"))
    outbound.nudge(session, TaskName.ALERT)


def _json(failing: dict[int, float]) -> str | None:
    return "{" + ", ".join(f'"{slot}": {until}' for slot, until in failing.items()) + "}" if failing else None


def _until(phone: Row[Any], failing: dict[int, float]) -> float | None:
    """Until when the phone rests: where the card it sends by fails, or all of those that it alternates between."""
    cards = sims.slots(phone.sim_cards) if phone.sim_selection == "alternate" else []
    used = cards or [phone.default_sim_slot]
    return min(failing[slot] for slot in used) if all(slot in failing for slot in used) else None


_FORGET = text("DELETE FROM device_health WHERE device_id = :id")
_WAKE_UP = text("UPDATE device_state SET rests_until = NULL, sim_rests = NULL WHERE device_id = :id")


def forget(session: Session, device_id: int) -> None:
    """Give a phone its turn back, because its owner changed what matters to it. Before its state row is locked."""
    session.execute(_FORGET, {"id": device_id})
    session.execute(_WAKE_UP, {"id": device_id})
