"""Phones that went quiet as Android's own limit makes them: about 30 parts sent, and then none, though online."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import interval
from app.devices.android_limit import PARTS, WINDOW_MINUTES
from app.devices.presence import ONLINE
from app.messages.dispatch.marks import AT_A_PHONE, in_queue

MAX_ACCOUNTS = 100
# About as many parts as Android allows; one that sent many more has no such limit.
_MIN_PARTS, _MAX_PARTS = PARTS - 5, PARTS + 10
_WINDOW = timedelta(minutes=WINDOW_MINUTES)
# Longer than any pause of a working phone.
SILENT_FOR = timedelta(minutes=5)

_WITH_NEWEST = " UNION ALL ".join(
    f"(SELECT segments, sent_at FROM messages WHERE user_id = w.user_id AND device_id = w.id AND status = '{status}'"  # noqa: S608 - constants
    f" AND deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT {_MAX_PARTS + 1})"
    for status in ("sent", "delivered")
)
_IS_UNREPORTED = (
    f"q.released_at < clock_timestamp() - {interval(SILENT_FOR)}"
    f" AND q.released_at > clock_timestamp() - {interval(_WINDOW)}"
)
# Those that wait for a report longer than any pause of a working phone, and the newest messages of only these.
_QUIET = text(f"""
    WITH waiting AS MATERIALIZED (
        SELECT d.id, d.user_id FROM devices d JOIN device_state s ON s.device_id = d.id
        WHERE d.user_id = :user AND d.is_active AND d.removed_at IS NULL AND {ONLINE} AND EXISTS (
            SELECT FROM {in_queue("d.user_id", "d.id", AT_A_PHONE, where=_IS_UNREPORTED, most="1")})
    ), quiet AS (
        SELECT w.id, last.sent_at AS since FROM waiting w,
        LATERAL (SELECT max(sent_at) AS sent_at FROM ({_WITH_NEWEST}) newest) last,
        LATERAL (SELECT sum(COALESCE(segments, 1)) AS parts FROM ({_WITH_NEWEST}) newest
                 WHERE newest.sent_at > last.sent_at - {interval(_WINDOW)}) sent
        WHERE last.sent_at < clock_timestamp() - {interval(SILENT_FOR)}
          AND sent.parts BETWEEN {_MIN_PARTS} AND {_MAX_PARTS}
    ), changed AS MATERIALIZED (
        SELECT s.device_id, quiet.since FROM devices d JOIN device_state s ON s.device_id = d.id
        LEFT JOIN quiet ON quiet.id = s.device_id
        WHERE d.user_id = :user AND (s.quiet_since IS NOT NULL OR quiet.since IS NOT NULL)
          AND s.quiet_since IS DISTINCT FROM quiet.since
        ORDER BY s.device_id FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE device_state s SET quiet_since = changed.since FROM changed WHERE s.device_id = changed.device_id
    RETURNING s.device_id
""")  # noqa: S608 - constants


_ACCOUNTS = text("""
    SELECT id FROM users u
    WHERE id > :after AND (
        EXISTS (SELECT FROM queue_marks w WHERE w.user_id = u.id)
        OR EXISTS (SELECT FROM message_queue q WHERE q.user_id = u.id AND q.device_id > 0)
        OR EXISTS (SELECT FROM devices d JOIN device_state s ON s.device_id = d.id
                   WHERE d.user_id = u.id AND s.quiet_since IS NOT NULL))
    ORDER BY id LIMIT :most
""")


def accounts(session: Session, after: int = 0) -> Sequence[int]:
    """The next accounts with something to look at: messages at phones, or phones that are held to be quiet."""
    return session.scalars(_ACCOUNTS, {"after": after, "most": MAX_ACCOUNTS}).all()


def recognise(session: Session, user: int) -> int:
    """Note which phones of a user went quiet and which did not stay so; how many changed."""
    return len(session.scalars(_QUIET, {"user": user}).all())
