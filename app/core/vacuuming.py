"""Care for tables that fill and empty within seconds: autovacuum looks once a minute.

A campaign that arrives meanwhile would be claimed with plans made for an empty table; and behind a queue's head lies
what is gone from it, through which every claim's walk to the first row leads, page by page, until it is vacuumed.
"""

import time

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import Base

# A vacuum that has nothing to remove costs as much as one that has: it rests for so many times as long as it took.
_RESTS = 20
# Gone from a queue and still there after it was vacuumed: somebody's open transaction keeps it.
_MANY_KEPT = 20_000
_rests_until: dict[str, float] = {}

# Grown, because a plan for few rows is the one that does harm; that others changed autovacuum sees to. Each time costs
# what thousands of messages do, keeps what is gone from being removed, and has every hot statement planned anew.
_GROWN = text("""
    SELECT quote_ident(c.relname) FROM pg_stat_user_tables t JOIN pg_class c ON c.oid = t.relid
    WHERE t.schemaname = current_schema() AND t.n_mod_since_analyze > 5000 AND t.n_live_tup > 2 * c.reltuples
    ORDER BY t.n_live_tup LIMIT :most
""")


def analyze(session: Session, most: int = 3) -> list[str]:
    """Analyze the tables that have become twice as large as the planner knows, small ones first; their names."""
    grown = list(session.scalars(_GROWN, {"most": most}))
    for table in grown:
        session.execute(text(f"ANALYZE (SKIP_LOCKED) {table}"))
    return grown


_WORN = text("""
    SELECT quote_ident(relname) FROM pg_stat_user_tables
    WHERE schemaname = current_schema() AND relname = ANY(:queues)
      AND n_dead_tup > GREATEST(5000, 0.1 * n_live_tup)
""")


def vacuum(session: Session) -> list[str]:
    """Vacuum the queues much of which is gone; their names. Not in a transaction: with `autocommit`.

    Queues are the tables whose model says so in `info`, of the models that the process has loaded.
    """
    queues = [table.name for table in Base.metadata.tables.values() if table.info.get("queue")]
    began = time.monotonic()
    queues = [table for table in queues if _rests_until.get(table, began) <= began]
    worn = list(session.scalars(_WORN, {"queues": queues}))
    for table in worn:
        began = time.monotonic()
        # To give space back to the disk would lock the whole table; what is free here is wanted again at once.
        session.execute(text(f"VACUUM (SKIP_LOCKED, INDEX_CLEANUP on, TRUNCATE off) {table}"))
        _rests_until[table] = began + _RESTS * (time.monotonic() - began)
    return worn


_DEAD = text("SELECT n_dead_tup FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname = :table")


def keeps_many(session: Session, table: str) -> bool:
    """Whether much is gone from the table and not removed; right after a vacuum, that it cannot be."""
    dead: int | None = session.scalar(_DEAD, {"table": table})
    return (dead or 0) > _MANY_KEPT
