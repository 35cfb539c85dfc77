"""What messages cost the database and leave in it: bytes stored, bytes of WAL, transactions, and processor time.

Stored is what the tables that keep messages and deliveries have grown by, with their indexes, before anything of it is
cleaned; queues, whose rows are gone by then, stand beside.
"""

import time
from dataclasses import dataclass

import psutil
import psycopg

from app.local.installation import Installation
from benchmarks.gateway import Figure

DELIVERIES = ("webhook_deliveries", "webhook_attempts")
KEPT = ("messages", "message_steps", *DELIVERIES)
QUEUES = ("message_queue", "webhook_queue", "usage_deltas", "device_deltas")
# A backend that has come to rest tells its counts within ten seconds.
COUNTED_WITHIN = 12.0

_SIZES = """
    SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid) FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY(%s)
"""
_DONE = """
    SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, w.wal_fpi, d.xact_commit
    FROM pg_stat_wal w, pg_stat_database d WHERE d.datname = current_database()
"""


@dataclass(frozen=True)
class Footprint:
    """What the database has done and keeps."""

    cpu: float
    wal: int
    page_images: int
    transactions: int
    tables: dict[str, int]
    indexes: dict[str, int]

    def stored(self, names: tuple[str, ...]) -> int:
        return sum(self.tables[name] + self.indexes[name] for name in names)


def footprint(running: Installation, *, smoke: bool) -> Footprint:
    cpu = _cpu(running)
    if not smoke:
        time.sleep(COUNTED_WITHIN)
    with psycopg.connect(running.database_url) as connection:
        done = connection.execute(_DONE).fetchone()
        assert done
        sizes = connection.execute(_SIZES, [[*KEPT, *QUEUES]]).fetchall()
    return Footprint(cpu, *done, {name: table for name, table, _ in sizes}, {name: index for name, _, index in sizes})


def figures(before: Footprint, after: Footprint, messages: int, told: str) -> list[Figure]:
    """For each of the messages between the two."""

    def grown(names: tuple[str, ...]) -> float:
        return (after.stored(names) - before.stored(names)) / messages

    tables = sum(after.tables[name] - before.tables[name] for name in KEPT) / messages
    images = (after.page_images - before.page_images) / messages
    return [
        Figure(
            f"stored for a finished message with its callback, {told}",
            grown(KEPT),
            "bytes",
            "",
            f"{tables:,.0f} in tables, {grown(KEPT) - tables:,.0f} in indexes; {grown(DELIVERIES):,.0f} of it for the"
            f" callback; queues grew by {grown(QUEUES):,.0f}",
        ),
        Figure(
            f"WAL of it, {told}",
            (after.wal - before.wal) / messages,
            "bytes",
            "",
            f"{images:.2f} images of pages in it",
        ),
        Figure(
            f"commits for it, reads too, {told}", (after.transactions - before.transactions) / messages, "transactions"
        ),
        Figure(f"database's processor time for it, {told}", (after.cpu - before.cpu) / messages * 1e6, "µs"),
    ]


def _cpu(running: Installation) -> float:
    """Seconds of processor time of the server and its processes, those that have ended too."""
    process = psutil.Process(running.processes["postgres"].pid)
    own = process.cpu_times()
    children = [child.cpu_times() for child in process.children(recursive=True)]
    return sum(times.user + times.system for times in [own, *children]) + own.children_user + own.children_system
