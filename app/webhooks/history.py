"""Deliveries as their owner sees them, and replaying those that failed."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import columns_named, unnest
from app.core.envelope import Timestamp
from app.core.errors import Invalid, NotFound, Refused
from app.core.lanes import Lane
from app.core.outbound import nudge
from app.core.pages import Page, Paging
from app.core.refusals import DELIVERY_PENDING, DELIVERY_URL_GONE
from app.core.task_names import TaskName
from app.core.throttling import hit
from app.webhooks.guard import origin_of
from app.webhooks.models import WebhookQueueEntry

MODEL = "WebhookDelivery"
MAX_COUNTED = 10_000
MAX_REPLAYED = 10_000
# In a minute, of one account over all processes.
MAX_REPLAYS = 120
MAX_REPLAYS_OF_MANY = 10
State = Literal["pending", "delivered", "failed"]


class AttemptOut(BaseModel):
    """The result of one attempt."""

    url: str = Field(examples=["https://app.example/sms/status"])
    status: int | None = Field(examples=[200])
    answer: str | None = Field(description="The first KiB of the response", examples=["ok"])
    error: str | None = Field(examples=[None])
    duration_ms: int = Field(examples=[84])
    at: Timestamp


class DeliveryOut(BaseModel):
    """One event for one URL."""

    id: int = Field(examples=[77])
    webhook_id: UUID = Field(examples=["5b0c2a52-77e4-4a5e-9d57-2f6f1f0c9a11"])
    event: str = Field(examples=["status"])
    hook: str = Field(examples=["status"])
    url: str = Field(examples=["https://app.example/sms/status"])
    sms_id: int | None = Field(description="The number of the message it is about", examples=[101])
    state: State = Field(examples=["delivered"])
    error: str | None = Field(examples=[None])
    attempts: list[AttemptOut]
    next_attempt_at: Timestamp | None = Field(examples=[None])
    created_at: Timestamp
    finished_at: Timestamp | None


class DeliveryDetail(DeliveryOut):
    """A delivery with its body, byte for byte."""

    body: str = Field(examples=['{"event":"status","data":{"id":101},"timestamp":"2026-06-08T10:00:07.000000Z"}'])


class DeliveryPage(Page[DeliveryOut]):
    """`total` is exact up to 10,000; beyond that it is 10,000 and `total_exact` is false."""

    total_exact: bool = Field(description="False if there are more than `total`", examples=[True])


DELIVERIES = """
    webhook_deliveries d LEFT JOIN LATERAL (
        SELECT w.delivery_id, w.next_attempt_at FROM webhook_queue w WHERE w.delivery_id = d.id LIMIT 1) q ON true
"""
# From the queue, which is short.
_WAITING = "webhook_queue q JOIN webhook_deliveries d ON d.id = q.delivery_id"
_ACCEPTED_AT_ONCE = "d.state = 'pending' AND q.delivery_id IS NULL"
STATE = f"CASE WHEN {_ACCEPTED_AT_ONCE} THEN 'delivered' ELSE d.state END"
_COLUMNS = f"""
    d.id, d.webhook_id, d.event, d.hook, d.url, d.message_id AS sms_id, {STATE} AS state, d.error, d.created_at,
    d.finished_at, q.next_attempt_at
"""
_STATES: Mapping[State, str] = {
    "pending": "q.user_id = :user",
    "delivered": f"(d.state = 'delivered' OR {_ACCEPTED_AT_ONCE})",
    "failed": "d.state = 'failed'",
}
_FILTERS = {
    "event": "d.event = :event",
    "url": "d.url = :url",
    "message_id": "d.message_id = :message_id",
    "message_uuid": "d.message_id = (SELECT m.id FROM messages m WHERE m.message_id = :message_uuid)",
}
_ATTEMPTS = text("""
    SELECT delivery_id, url, status_code, answer, error, duration_ms, created_at, status_code BETWEEN 200 AND 299
    FROM webhook_attempts WHERE delivery_id = ANY(:ids) ORDER BY delivery_id, id
""")


def page(session: Session, user_id: int, filters: Mapping[str, Any], paging: Paging) -> DeliveryPage:
    """A page of the user's deliveries, newest first. `filters` are those of `_FILTERS` that are given, and `state`."""
    chosen = (_STATES[value] if name == "state" else _FILTERS[name] for name, value in filters.items())
    conditions = " AND ".join(["d.user_id = :user", *chosen])
    values = {**filters, "user": user_id}
    deliveries = _WAITING if filters.get("state") == "pending" else DELIVERIES
    counted = session.scalar(
        text(f"SELECT count(*) FROM (SELECT FROM {deliveries} WHERE {conditions} LIMIT :most) counted"),  # noqa: S608 - constants
        {**values, "most": MAX_COUNTED + 1},
    )
    rows = session.execute(
        text(
            f"SELECT {_COLUMNS} FROM {deliveries} WHERE {conditions}"  # noqa: S608 - constants
            " ORDER BY d.id DESC LIMIT :limit OFFSET :offset"
        ),
        {**values, "limit": paging.per_page, "offset": paging.offset},
    )
    items = [DeliveryOut(**row) for row in _shown(session, rows.mappings().all())]
    exact = (counted or 0) <= MAX_COUNTED
    return DeliveryPage(**paging.fields(items, min(counted or 0, MAX_COUNTED)), total_exact=exact)


def show(session: Session, user_id: int, delivery_id: int | None) -> DeliveryDetail:
    """One delivery of the user's. Raises `NotFound`."""
    row = session.execute(
        text(
            f"SELECT {_COLUMNS}, d.body FROM {DELIVERIES} WHERE d.user_id = :user AND d.id = :id"  # noqa: S608 - constants
        ),
        {"user": user_id, "id": delivery_id},
    )
    found = row.mappings().one_or_none()
    if found is None:
        raise NotFound(MODEL)
    [shown] = _shown(session, [found])
    return DeliveryDetail(**shown)


_OF_MESSAGE = text(f"""
    SELECT {_COLUMNS} FROM {DELIVERIES}
    WHERE d.user_id = :user AND d.message_id = :message ORDER BY d.id LIMIT :most
""")  # noqa: S608 - a constant


def of_message(session: Session, user_id: int, message_id: int, most: int) -> list[DeliveryOut]:
    """What one message caused, oldest first."""
    found = session.execute(_OF_MESSAGE, {"user": user_id, "message": message_id, "most": most})
    return [DeliveryOut(**row) for row in _shown(session, found.mappings().all())]


def _shown(session: Session, found: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """The rows with their attempts, and with when they ended where that is said by the attempt alone."""
    shown = {row["id"]: {**row, "attempts": []} for row in found}
    for number, url, status, answer, error, duration, at, accepted in session.execute(_ATTEMPTS, {"ids": list(shown)}):
        row = shown[number]
        row["attempts"].append(
            AttemptOut(url=url or row["url"], status=status, answer=answer, error=error, duration_ms=duration, at=at)
        )
        if accepted and row["state"] == "delivered":
            row["finished_at"] = row["finished_at"] or at
    return [*shown.values()]


_ENDED = """
    SELECT d.id, d.user_id, d.message_id, d.hook,
           CASE WHEN d.hook = 'callback' THEN d.url ELSE w.url END AS url
    FROM webhook_deliveries d
        LEFT JOIN webhook_urls w ON w.user_id = d.user_id AND w.hook = d.hook AND w.disabled_at IS NULL
    WHERE d.user_id = :user
"""
_ONE = text(_ENDED + " AND d.id = :id FOR NO KEY UPDATE OF d")
# Asked with the delivery's row locked: by then who replayed it at the same time has queued it.
_WAITS = text("SELECT EXISTS (SELECT FROM webhook_queue WHERE delivery_id = :id)")
_FAILED = text(
    _ENDED
    + """
    AND d.state = 'failed' AND (d.hook = 'callback' OR w.url IS NOT NULL)
    AND d.created_at >= :since AND d.created_at <= COALESCE(CAST(:until AS timestamptz), 'infinity')
    ORDER BY d.id LIMIT :most FOR NO KEY UPDATE OF d
"""
)
_QUEUED = ("delivery_id", "user_id", "message_id", "hook", "origin", "url")
_AGAIN = text(f"""
    WITH again AS (
        INSERT INTO webhook_queue ({", ".join(_QUEUED)}, lane)
        SELECT {", ".join(_QUEUED)}, :lane FROM {unnest(*columns_named(WebhookQueueEntry, _QUEUED))}
        ORDER BY delivery_id
        ON CONFLICT (delivery_id) DO NOTHING RETURNING delivery_id, url
    )
    UPDATE webhook_deliveries d
    SET state = 'pending', attempts = GREATEST(d.attempts, 1), finished_at = NULL, error = NULL, url = a.url
    FROM again a WHERE d.id = a.delivery_id
""")  # noqa: S608 - names of columns


def replay(session: Session, user_id: int, delivery_id: int | None) -> DeliveryDetail:
    """Post an ended delivery again, with the same body and `webhook-id`, by a new round of the schedule.

    Raises `NotFound`, and `Refused` where it still waits or has no URL to go to.
    """
    hit("webhook-replay", str(user_id), MAX_REPLAYS)
    row = session.execute(_ONE, {"user": user_id, "id": delivery_id}).one_or_none()
    if row is None:
        raise NotFound(MODEL)
    if session.scalar(_WAITS, {"id": row.id}):
        raise Refused(DELIVERY_PENDING)
    if row.url is None:
        raise Refused(DELIVERY_URL_GONE)
    _requeue(session, [row], Lane.SINGLE)
    return show(session, user_id, delivery_id)


def replay_failed(session: Session, user_id: int, since: datetime, until: datetime | None) -> int:
    """Replay the user's failed deliveries made between two moments, at most 10,000, oldest first. Answers how many.

    Those of an account URL that is not set or was disabled are left.
    """
    hit("webhook-replay-many", str(user_id), MAX_REPLAYS_OF_MANY)
    if until is not None and until < since:
        raise Invalid({"to": ["The to field must be a date after or equal to from."]})
    limits = {"user": user_id, "since": since, "until": until, "most": MAX_REPLAYED}
    rows = session.execute(_FAILED, limits).all()
    if rows:
        _requeue(session, rows, Lane.BULK)
    return len(rows)


def _requeue(session: Session, rows: Sequence[Any], lane: Lane) -> None:
    session.execute(
        _AGAIN,
        {
            "delivery_id": [row.id for row in rows],
            "user_id": [row.user_id for row in rows],
            "message_id": [row.message_id for row in rows],
            "hook": [row.hook for row in rows],
            "origin": [origin_of(row.url) for row in rows],
            "url": [row.url for row in rows],
            "lane": lane,
        },
    )
    nudge(session, TaskName.DELIVER)
