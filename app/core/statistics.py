"""Planner statistics of tables that fill and empty within seconds.

Autovacuum looks once a minute. A campaign that arrives meanwhile would be claimed with plans made for an empty table.
"""

from sqlalchemy import text
from sqlalchemy.orm import Session

_STALE = text("""
    SELECT quote_ident(relname) FROM pg_stat_user_tables
    WHERE schemaname = current_schema() AND n_mod_since_analyze > GREATEST(5000, 0.2 * n_live_tup)
    ORDER BY n_live_tup LIMIT :most
""")


def analyze(session: Session, most: int = 3) -> list[str]:
    """Analyze the tables that have changed most of what they hold, small ones first; their names."""
    stale = list(session.scalars(_STALE, {"most": most}))
    for table in stale:
        session.execute(text(f"ANALYZE (SKIP_LOCKED) {table}"))
    return stale
