"""Telling owners that a phone went offline, and that it is back: by mail, and as an event where they asked for it."""

from collections.abc import Mapping
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.database import transaction
from app.core.envelope import timestamp
from app.core.mail import MailNotSentError, send
from app.core.names import TaskName
from app.core.outbound import nudge
from app.devices import ownership
from app.devices.presence import LAST_SEEN, ONLINE
from app.webhooks import outbox

# A mail may take ten seconds where its server does not answer.
MOST_IN_A_BATCH = 10

log = structlog.get_logger(__name__)

# A phone is claimed by noting that its owner is told, so of two runs at once only one tells. One that its owner
# switched off or removed is not missed.
_CHANGED = text(f"""
    WITH changed AS MATERIALIZED (
        SELECT s.device_id, {ONLINE} AS online FROM device_state s
        JOIN devices d ON d.id = s.device_id JOIN users u ON u.id = d.user_id
        WHERE (s.offline_alert_at IS NULL AND d.is_active AND d.removed_at IS NULL AND NOT {ONLINE}
               AND u.offline_alert_minutes IS NOT NULL
               AND {LAST_SEEN} < clock_timestamp() - make_interval(mins => u.offline_alert_minutes))
           OR (s.offline_alert_at IS NOT NULL
               AND ({ONLINE} OR NOT d.is_active OR d.removed_at IS NOT NULL OR u.offline_alert_minutes IS NULL))
        ORDER BY s.device_id LIMIT :most FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE device_state s SET offline_alert_at = CASE WHEN s.offline_alert_at IS NULL THEN clock_timestamp() END
    FROM changed, devices d, users u
    WHERE s.device_id = changed.device_id AND d.id = s.device_id AND u.id = d.user_id
    RETURNING s.device_id, d.user_id, d.device_name, u.email, u.device_events, changed.online,
              s.offline_alert_at IS NOT NULL AS alerted, {LAST_SEEN} AS last_seen_at
""")  # noqa: S608 - constants


def tell_owners() -> int:
    """Tell the owners of one batch of phones, and say how many changed. No mail goes out within a transaction.

    What was noted and not mailed, because the process died or the mail server failed, is not told again.
    """
    with transaction() as session:
        changed = [dict(row) for row in session.execute(_CHANGED, {"most": MOST_IN_A_BATCH}).mappings()]
        # One that is only forgotten, because its owner switched it off meanwhile, is not back.
        told = [row for row in changed if row["alerted"] or row["online"]]
        _write_events(session, told)
        if len(changed) == MOST_IN_A_BATCH:
            nudge(session, TaskName.ALERT)
    for row in told:
        _mail(row)
    return len(changed)


def _write_events(session: Session, told: list[dict[str, Any]]) -> None:
    events = []
    for row in told:
        if row["device_events"]:
            device = ownership.show(session, row["device_id"]).model_dump(mode="json")
            events.append(outbox.Event(row["user_id"], "status", "device", device))
    outbox.write(session, events)


def _mail(row: Mapping[str, Any]) -> None:
    name = row["device_name"]
    if row["alerted"]:
        seen = timestamp(row["last_seen_at"])
        subject, body = f"Phone offline: {name}", f"{name} was last seen at {seen} and has been offline since.\n"
    else:
        subject, body = f"Phone online again: {name}", f"{name} is online again.\n"
    try:
        send(row["email"], subject, body)
    except MailNotSentError as error:
        log.warning("owner not told of a phone", device=row["device_id"], error=str(error))
