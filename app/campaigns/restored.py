"""After a restore: recipients who had no message at the moment of the backup may have been served since."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.envelope import timestamp

# One that had not begun is a draft again: it keeps its time, and its owner starts it.
_HALT = text("""
    WITH halted AS (
        UPDATE campaigns
        SET status = CASE WHEN status IN ('draft', 'scheduled') THEN 'draft' ELSE 'paused' END,
            paused_by = CASE WHEN status IN ('draft', 'scheduled') THEN NULL ELSE 'restore' END,
            reason_code = 'restored', reason = jsonb_build_object('at', CAST(:at AS text)),
            next_look_at = NULL, updated_at = clock_timestamp()
        WHERE status IN ('draft', 'scheduled', 'running', 'paused')
        RETURNING id, status
    ), held AS (
        INSERT INTO held_campaigns (campaign_id) SELECT id FROM halted WHERE status = 'paused' ON CONFLICT DO NOTHING
    )
    SELECT count(*) FROM halted
""")


def halt(session: Session, taken_at: datetime) -> int:
    """Let no campaign go on, or begin, without its owner's word; how many there are."""
    return int(session.scalar(_HALT, {"at": timestamp(taken_at)}) or 0)
