"""Writes events as deliveries, in the transaction of the change they tell of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import unnest
from app.core.envelope import timestamp
from app.core.lanes import Lane
from app.core.outbound import nudge
from app.core.settings import get_settings
from app.core.task_names import TaskName
from app.webhooks.guard import origin_of
from app.webhooks.models import WebhookDelivery, WebhookQueueEntry

AccountHook = Literal["incoming", "status"]
EndpointKind = Literal["callback", "incoming", "status"]
EventName = Literal["status", "incoming", "device", "opted_out", "opted_in", "campaign"]


@dataclass(frozen=True, slots=True)
class Hooks:
    """A user's account URLs that take events now: set, not switched off, and allowed by the plan."""

    status: str | None = None
    incoming: str | None = None


class WebhookEvent(NamedTuple):
    """Something a receiver is told.

    `data` is the object as the public API shows it at this moment; `message_id` is the row's id, and orders what goes
    to one URL; `url` is for callbacks only, judged when it was accepted; `lane` is the message's, single before bulk.
    """

    user_id: int
    hook: EndpointKind
    event: EventName
    data: Mapping[str, Any]
    message_id: int | None = None
    url: str | None = None
    lane: int = Lane.SINGLE


_HOOKS = text("""
    SELECT w.user_id, w.hook, w.url FROM webhook_urls w JOIN users u ON u.id = w.user_id
    WHERE w.user_id = ANY(:users) AND w.disabled_at IS NULL AND (:free OR u.premium_expires_at > clock_timestamp())
""")


def hooks_of(session: Session, user_ids: Sequence[int]) -> dict[int, Hooks]:
    """Each user's open account URLs, an empty `Hooks` for those who have none."""
    free = "webhooks" in get_settings().free_features
    found: dict[int, dict[str, str]] = {user: {} for user in user_ids}
    for user, hook, url in session.execute(_HOOKS, {"users": sorted(found), "free": free}):
        found[user][hook] = url
    return {user: Hooks(**urls) for user, urls in found.items()}


# Ids are drawn in the order of the events, which is the order they are posted in. An account URL that was taken away
# since `hooks_of` gets no row.
_EVENTS = unnest(
    WebhookDelivery.webhook_id,
    WebhookDelivery.user_id,
    WebhookDelivery.message_id,
    WebhookDelivery.hook,
    WebhookDelivery.event,
    WebhookDelivery.body,
    WebhookQueueEntry.lane,
    alias="e",
    ordinality="place",
    own_url=WebhookQueueEntry.url,
    own_origin=WebhookQueueEntry.origin,
)
_WRITE = text(f"""
    WITH event AS (
        SELECT e.*, COALESCE(e.own_url, w.url) AS url, COALESCE(e.own_origin, w.origin) AS origin
        FROM {_EVENTS}
        LEFT JOIN webhook_urls w ON w.user_id = e.user_id AND w.hook = e.hook AND w.disabled_at IS NULL
        WHERE COALESCE(e.own_url, w.url) IS NOT NULL
    ), written AS (
        INSERT INTO webhook_deliveries (webhook_id, user_id, message_id, hook, event, url, body)
        SELECT webhook_id, user_id, message_id, hook, event, url, body FROM event ORDER BY place
        RETURNING id, webhook_id
    )
    INSERT INTO webhook_queue (delivery_id, user_id, message_id, hook, lane, origin, url)
    SELECT w.id, e.user_id, e.message_id, e.hook, e.lane, e.origin, e.url
    FROM written w JOIN event e USING (webhook_id) ORDER BY w.id
    RETURNING delivery_id
""")  # noqa: S608 - names of columns


def write(session: Session, events: Sequence[WebhookEvent]) -> list[int]:
    """Insert a delivery for each event, in order, and nudge the sender. Answers the deliveries' ids, ascending."""
    if not events:
        return []
    now = timestamp(datetime.now(UTC))
    written = session.execute(
        _WRITE,
        {
            "webhook_id": [uuid4() for _ in events],
            "user_id": [event.user_id for event in events],
            "message_id": [event.message_id for event in events],
            "hook": [event.hook for event in events],
            "event": [event.event for event in events],
            "body": [body_of(event.event, event.data, now) for event in events],
            "lane": [event.lane for event in events],
            "own_url": [event.url for event in events],
            "own_origin": [event.url and origin_of(event.url) for event in events],
        },
    )
    nudge(session, TaskName.DELIVER, about=events[0].message_id)
    return sorted(written.scalars())


def body_of(event: EventName, data: Mapping[str, Any], moment: str) -> str:
    """The JSON text that every attempt posts."""
    return to_json({"event": event, "data": data, "timestamp": moment}).decode()
