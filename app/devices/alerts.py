"""Telling owners that a phone went offline or fails, and that it is back: by mail, and as an event if asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.envelope import timestamp
from app.core.mail import MailNotSentError, send
from app.devices import ownership
from app.devices.presence import LAST_SEEN, ONLINE, WATCHED, missing_for
from app.devices.schemas import DeviceOut
from app.webhooks import outbox

# A mail may take ten seconds where its server does not answer.
BATCH_SIZE = 10
MAX_ACCOUNTS = 100

log = structlog.get_logger(__name__)

_ACCOUNTS = text("""
    SELECT id FROM users u
    WHERE id > :after AND (offline_alert_minutes IS NOT NULL OR EXISTS (
        SELECT FROM devices d JOIN device_state s ON s.device_id = d.id
        WHERE d.user_id = u.id AND (s.offline_alert_at IS NOT NULL OR s.failing_alert_at IS NOT NULL
            OR EXISTS (SELECT FROM device_health h WHERE h.device_id = d.id AND h.failing_since IS NOT NULL))))
    ORDER BY id LIMIT :most
""")

# A phone is claimed by noting that its owner is told, so of two runs at once only one tells. One that its owner
# switched off or removed is not missed; nor is one that could not reach a gateway that was away itself.
_CHANGED = text(f"""
    WITH changed AS MATERIALIZED (
        SELECT s.device_id, {ONLINE} AS online FROM device_state s
        JOIN devices d ON d.id = s.device_id JOIN users u ON u.id = d.user_id
        WHERE d.user_id = :user AND ((s.offline_alert_at IS NULL AND d.is_active AND d.removed_at IS NULL
               AND NOT {ONLINE} AND u.offline_alert_minutes IS NOT NULL AND {WATCHED}
               AND {missing_for("u.offline_alert_minutes")})
           OR (s.offline_alert_at IS NOT NULL
               AND ({ONLINE} OR NOT d.is_active OR d.removed_at IS NOT NULL OR u.offline_alert_minutes IS NULL)))
        ORDER BY s.device_id LIMIT :most FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE device_state s SET offline_alert_at = CASE WHEN s.offline_alert_at IS NULL THEN clock_timestamp() END
    FROM changed, devices d, users u
    WHERE s.device_id = changed.device_id AND d.id = s.device_id AND u.id = d.user_id
    RETURNING s.device_id, d.user_id, d.device_name, u.email, u.device_events, changed.online,
              s.offline_alert_at IS NOT NULL AS alerted, {LAST_SEEN} AS last_seen_at
""")  # noqa: S608 - constants


# As above. A phone that its owner switched off or removed is not told of.
_HEALTH_CHANGED = text("""
    WITH judged AS (
        SELECT s.device_id, s.failing_alert_at,
               d.is_active AND d.removed_at IS NULL AS used,
               EXISTS (SELECT FROM device_health h
                       WHERE h.device_id = s.device_id AND h.failing_since IS NOT NULL) AS failing
        FROM device_state s JOIN devices d ON d.id = s.device_id
        WHERE d.user_id = :user
    ), changed AS MATERIALIZED (
        SELECT s.device_id, j.failing FROM judged j JOIN device_state s ON s.device_id = j.device_id
        WHERE (j.failing AND j.used) <> (s.failing_alert_at IS NOT NULL)
        ORDER BY s.device_id LIMIT :most FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE device_state s SET failing_alert_at = CASE WHEN s.failing_alert_at IS NULL THEN clock_timestamp() END
    FROM changed, devices d, users u
    WHERE s.device_id = changed.device_id AND d.id = s.device_id AND u.id = d.user_id
    RETURNING s.device_id, d.user_id, d.device_name, u.email, u.device_events, NOT changed.failing AS works,
              s.failing_alert_at IS NOT NULL AS alerted
""")


def accounts(session: Session, after: int = 0) -> Sequence[int]:
    """The next accounts whose owners want to be told, or were told of a phone and not yet that it is back."""
    return session.scalars(_ACCOUNTS, {"after": after, "most": MAX_ACCOUNTS}).all()


def notify_owner(user: int) -> int:
    """Tell an owner of one batch of phones, and say how many changed. No mail goes out within a transaction.

    What was noted and not mailed, because the process died or the mail server failed, is not told again.
    """
    return _tell(user, _CHANGED, "online", _presence_mail) + _tell(user, _HEALTH_CHANGED, "works", _health_mail)


def _tell(
    user: int, statement: TextClause, all_clear: str, mail: Callable[[Mapping[str, Any]], tuple[str, str]]
) -> int:
    with transaction() as session:
        rows = session.execute(statement, {"user": user, "most": BATCH_SIZE}).mappings()
        changed = [dict(row) for row in rows]
        # One that is only forgotten, because its owner switched it off meanwhile, is not back.
        told = [row for row in changed if row["alerted"] or row[all_clear]]
        for row in told:
            row["hint"] = _write_event(session, row).hint
    for row in told:
        subject, body = mail(row)
        try:
            send(row["email"], subject, body)
        except MailNotSentError as error:
            log.warning("owner not notified about phone", device=row["device_id"], error=str(error))
    return len(changed)


def _write_event(session: Session, row: Mapping[str, Any]) -> DeviceOut:
    device = ownership.show(session, row["device_id"])
    if row["device_events"]:
        outbox.write(session, [outbox.WebhookEvent(row["user_id"], "status", "device", device.model_dump(mode="json"))])
    return device


def _presence_mail(row: Mapping[str, Any]) -> tuple[str, str]:
    name = row["device_name"]
    if row["alerted"]:
        seen = timestamp(row["last_seen_at"])
        return f"Phone offline: {name}", f"{name} was last seen at {seen} and has been offline since.\n"
    return f"Phone online again: {name}", f"{name} is online again.\n"


def _health_mail(row: Mapping[str, Any]) -> tuple[str, str]:
    name = row["device_name"]
    if row["alerted"]:
        return f"Phone failing: {name}", f"{name}: {row['hint']}\n"
    return f"Phone works again: {name}", f"{name} sends again and is back in use.\n"
