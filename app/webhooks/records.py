"""Writes down what calls came to, and decides when the next attempt is."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Boolean, Float, text
from sqlalchemy.orm import Session

from app.core.arrays import by_key, columns_named, transposed, unnest
from app.core.database import among
from app.core.lanes import Lane
from app.webhooks.claims import BREAKER_FAILURES, Call, Target
from app.webhooks.models import WebhookAttempt, WebhookDelivery, WebhookQueueEntry, WebhookTarget, WebhookUrl
from app.webhooks.sender import HTTP_GONE, Result

SCHEDULE = (5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600)
SPREAD = 0.2
MAX_PAUSE = 300
MAX_IN_FLIGHT = 32
# A receiver that answers at once has few calls at a time on the wire; most of what counts as under way waits for us.
MAX_OF_QUICK = 128
QUICK_MS = 250
FAILING_ONLY = timedelta(days=5)
# A target that has accepted nothing for so long since its first failure, and nothing ever before, is given up.
NEVER_ACCEPTED = timedelta(hours=24)
PAUSE_OF_HOPELESS = 3600
NEVER_ACCEPTED_REASON = "Given up: this receiver has never accepted a webhook and failed for a day."
GAVE_UP = "Given up after the last attempt of the schedule."
GONE_REASON = "The receiver answered 410 Gone."
FAILING_REASON = "Nothing was accepted for five days."

log = structlog.get_logger(__name__)

# The attempt is kept whoever holds the lease now; everything else is for the lease's holder alone. Losing a record in a
# crash of the database repeats a delivery, which is allowed; so nobody waits for the disk.
_KEPT = ("delivery_id", "url", "status_code", "answer", "error", "duration_ms")
_ATTEMPTS = text(f"""
    WITH kept AS (
        INSERT INTO webhook_attempts ({", ".join(_KEPT)}) SELECT * FROM {unnest(*columns_named(WebhookAttempt, _KEPT))}
    )
    SELECT set_config('lock_timeout', '5s', true), set_config('synchronous_commit', 'off', true)
""")  # noqa: S608 - names of columns

_LEASE = (WebhookQueueEntry.delivery_id, WebhookQueueEntry.lease_id)
_IS_MINE = f"{by_key(WebhookQueueEntry.delivery_id)} AND u.lease_id = q.lease_id"
# A delivery that was accepted at its first call is not written again: that it no longer waits says so.
_FINISH = text(f"""
    WITH mine AS (
        SELECT q.delivery_id, u.state, u.error
        FROM webhook_queue q JOIN {unnest(*_LEASE, WebhookDelivery.state, WebhookDelivery.error)} ON {_IS_MINE}
        ORDER BY q.delivery_id FOR UPDATE OF q
    ), finished AS (
        DELETE FROM webhook_queue WHERE {among("delivery_id", "mine")}
    )
    UPDATE webhook_deliveries d
    SET state = m.state, error = m.error, attempts = d.attempts + 1, finished_at = clock_timestamp()
    FROM mine m WHERE d.id = m.delivery_id AND (m.state = 'failed' OR d.attempts > 0)
""")  # noqa: S608 - names of columns

# Whoever changes one of the URLs at this moment is waited for: `_RETRY` is to see the new one. What waits is locked
# first, all of it, then URLs, then targets: the order of everything here.
_LOCK_URLS = text(f"""
    WITH mine AS MATERIALIZED (
        SELECT q.user_id, q.hook FROM webhook_queue q JOIN {unnest(*_LEASE)} ON {_IS_MINE}
        ORDER BY q.delivery_id FOR NO KEY UPDATE OF q
    )
    SELECT FROM (SELECT DISTINCT user_id, hook FROM mine) m JOIN webhook_urls w USING (user_id, hook)
    ORDER BY w.user_id, w.hook FOR NO KEY UPDATE OF w
""")  # noqa: S608 - names of columns
# A call to a URL that was changed while it was under way says nothing about the new one: that is tried at once, also
# where it would have been the last.
_CHANGED = text(f"""
    SELECT q.delivery_id FROM webhook_queue q JOIN {unnest(*_LEASE)} ON {_IS_MINE}
        JOIN webhook_urls w ON w.user_id = q.user_id AND w.hook = q.hook AND w.url <> q.url
""")  # noqa: S608 - names of columns
_RETRY = text(f"""
    WITH mine AS (
        SELECT q.delivery_id, CASE WHEN w.url <> q.url THEN 0 ELSE u.wait END AS wait
        FROM webhook_queue q JOIN {unnest(*_LEASE, wait=Float())} ON {_IS_MINE}
            LEFT JOIN webhook_urls w ON w.user_id = q.user_id AND w.hook = q.hook
        ORDER BY q.delivery_id FOR NO KEY UPDATE OF q
    ), waiting AS (
        UPDATE webhook_queue q
        SET attempt = q.attempt + 1, lease_id = NULL, lease_until = NULL,
            next_attempt_at = clock_timestamp() + m.wait * interval '1 second'
        FROM mine m WHERE q.delivery_id = m.delivery_id AND {among("q.delivery_id", "mine")} RETURNING q.delivery_id
    )
    UPDATE webhook_deliveries d SET attempts = d.attempts + 1 FROM waiting w WHERE d.id = w.delivery_id
""")  # noqa: S608 - names of columns

_KEY = (WebhookTarget.user_id, WebhookTarget.origin)
_TARGETS = text(f"""
    SELECT user_id, origin, fail_count, max_in_flight, COALESCE(next_try_at > clock_timestamp(), false) AS paused,
           ever_accepted, COALESCE(NOT ever_accepted AND failing_since < clock_timestamp() - :never, false) AS hopeless
    FROM webhook_targets t JOIN {unnest(*_KEY)} USING (user_id, origin)
""")  # noqa: S608 - names of columns
_LOCK_TARGETS = text(_TARGETS.text + " ORDER BY user_id, origin FOR NO KEY UPDATE OF t")
# GREATEST leaves nulls out. A success ends a pause of ours and leaves the receiver's wish; nothing shortens either.
_STANDING = unnest(
    *_KEY,
    WebhookTarget.fail_count,
    WebhookTarget.max_in_flight,
    WebhookTarget.ever_accepted,
    paused=Boolean(),
    pause=Float(),
    asked=Float(),
)
_UPDATE_TARGETS = text(f"""
    UPDATE webhook_targets t
    SET fail_count = r.fail_count, max_in_flight = r.max_in_flight, ever_accepted = r.ever_accepted,
        failing_since = CASE WHEN r.fail_count > 0 THEN COALESCE(t.failing_since, clock_timestamp()) END,
        asked_until = GREATEST(t.asked_until, r.asked_until),
        next_try_at = GREATEST(CASE WHEN r.paused THEN t.next_try_at END, r.try_at, t.asked_until, r.asked_until)
    FROM (SELECT *, clock_timestamp() + NULLIF(pause, 0) * interval '1 second' AS try_at,
                 clock_timestamp() + NULLIF(asked, 0) * interval '1 second' AS asked_until
          FROM {_STANDING}) r
    WHERE t.user_id = r.user_id AND t.origin = r.origin
""")  # noqa: S608 - names of columns

_URL_KEY = (WebhookUrl.user_id, WebhookUrl.hook, WebhookUrl.url)
_URLS = text(f"""
    WITH told AS (
        SELECT w.user_id, w.hook, u.accepted, u.gone
        FROM webhook_urls w JOIN {unnest(*_URL_KEY, accepted=Boolean(), gone=Boolean())} USING (user_id, hook, url)
        WHERE w.disabled_at IS NULL AND (NOT u.accepted OR u.gone OR w.failing_since IS NOT NULL)
        ORDER BY w.user_id, w.hook FOR NO KEY UPDATE OF w
    )
    UPDATE webhook_urls w
    SET failing_since = CASE WHEN NOT t.accepted THEN COALESCE(w.failing_since, clock_timestamp()) END,
        disabled_at = CASE WHEN t.gone OR (NOT t.accepted AND w.failing_since < clock_timestamp() - :limit)
                           THEN clock_timestamp() END,
        disabled_reason = CASE WHEN t.gone THEN :gone_reason
                               WHEN NOT t.accepted AND w.failing_since < clock_timestamp() - :limit
                               THEN :failing_reason END
    FROM told t WHERE w.user_id = t.user_id AND w.hook = t.hook
    RETURNING w.user_id, w.hook, w.disabled_reason
""")  # noqa: S608 - names of columns

_BY_URL = (WebhookQueueEntry.user_id, WebhookQueueEntry.origin, WebhookQueueEntry.url)
_GONE_CALLBACKS = text(f"""
    WITH gone AS (
        SELECT q.delivery_id FROM webhook_queue q JOIN {unnest(*_BY_URL)} USING (user_id, origin, url)
        WHERE q.hook = 'callback' AND q.lease_id IS NULL AND q.lane IN ({Lane.SINGLE}, {Lane.BULK})
        LIMIT 5000 FOR UPDATE OF q SKIP LOCKED
    ), dropped AS (
        DELETE FROM webhook_queue WHERE {among("delivery_id", "gone")} RETURNING delivery_id
    )
    UPDATE webhook_deliveries d SET state = 'failed', error = :reason, finished_at = clock_timestamp()
    FROM dropped WHERE d.id = dropped.delivery_id
""")  # noqa: S608 - names of columns

_GIVE_UP = text(f"""
    WITH given_up AS (
        SELECT q.delivery_id FROM {unnest(*_KEY)}
            CROSS JOIN LATERAL (
                SELECT w.delivery_id FROM webhook_queue w
                WHERE w.user_id = u.user_id AND w.origin = u.origin AND w.lane IN ({Lane.SINGLE}, {Lane.BULK})
                  AND w.hook = 'callback' AND w.lease_id IS NULL
                LIMIT 5000 FOR UPDATE SKIP LOCKED) q
    ), dropped AS (
        DELETE FROM webhook_queue WHERE {among("delivery_id", "given_up")} RETURNING delivery_id
    )
    UPDATE webhook_deliveries d SET state = 'failed', error = :reason, finished_at = clock_timestamp()
    FROM dropped WHERE d.id = dropped.delivery_id
""")  # noqa: S608 - names of columns


class Standing(NamedTuple):
    """A target's room and back-off.

    `paused`: a pause is under way. `pause` is a new one of ours and `asked` one that the receiver asked for, both in
    seconds from now. `hopeless`: it has never accepted anything, and has failed for so long that it is given up.
    """

    fail_count: int = 0
    max_in_flight: int = 2
    paused: bool = False
    pause: float = 0.0
    asked: float = 0.0
    ever_accepted: bool = False
    hopeless: bool = False

    def after(self, result: Result) -> "Standing":
        """The standing once `result` is known.

        Room doubles with a success, further for a quick one, and shrinks to one after a time-out. From the third
        failure in a row the target pauses, twice as long each time; failures of calls that were already under way then
        say nothing new. A success ends such a pause, but not one that the receiver asked for.
        """
        if result.accepted:
            most = MAX_OF_QUICK if result.duration_ms <= QUICK_MS else MAX_IN_FLIGHT
            return Standing(0, min(self.max_in_flight * 2, most), asked=self.asked, ever_accepted=True)
        room = 1 if result.timed_out else self.max_in_flight
        asked = max(self.asked, float(result.retry_after or 0) if result.pauses else 0.0)
        if self.paused or self.pause or self.asked:
            return self._replace(max_in_flight=room, asked=asked)
        fails = self.fail_count + 1
        longest = PAUSE_OF_HOPELESS if self.hopeless else MAX_PAUSE
        pause = min(2.0 ** (min(fails, 60) - BREAKER_FAILURES), longest) if fails >= BREAKER_FAILURES else 0.0
        return self._replace(fail_count=fails, max_in_flight=room, pause=_spread(pause), asked=asked)


def wait_before(attempt: int, retry_after: int | None) -> float | None:
    """Seconds until the attempt after the failed `attempt` (from 0), None where that was the last."""
    if attempt >= len(SCHEDULE):
        return None
    return max(_spread(SCHEDULE[attempt]), float(retry_after or 0))


def _spread(seconds: float) -> float:
    return seconds * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - not a secret


def record(session: Session, results: Sequence[Result]) -> list[float]:
    """Keep the attempts, end or reschedule the deliveries, and update targets and URLs.

    Answers the seconds until each moment at which something recorded here is due again.
    """
    session.execute(
        _ATTEMPTS,
        {
            "delivery_id": [result.call.delivery_id for result in results],
            "url": [_own_url(result.call) for result in results],
            "status_code": [result.status_code for result in results],
            "answer": [result.answer for result in results],
            "error": [result.error for result in results],
            "duration_ms": [result.duration_ms for result in results],
        },
    )
    waits = _end_or_retry(session, results)
    refused = [result.call for result in results if result.status_code == HTTP_GONE and result.call.hook == "callback"]
    if refused:
        keys = transposed([(call.user_id, call.origin, call.url) for call in refused], "user_id", "origin", "url")
        session.execute(_GONE_CALLBACKS, {**keys, "reason": GONE_REASON})
    _update_urls(session, results)
    return waits + _update_targets(session, results)


def _own_url(call: Call) -> str:
    """The URL of an attempt; empty where it is the delivery's, which is never another for a callback."""
    return "" if call.hook == "callback" else call.url


def _end_or_retry(session: Session, results: Iterable[Result]) -> list[float]:
    ended: list[tuple[Result, str | None]] = []
    last: list[tuple[Result, str | None]] = []
    waiting: list[tuple[Result, float]] = []
    for result in results:
        wait = wait_before(result.call.attempt, result.retry_after)
        if result.accepted:
            ended.append((result, None))
        elif result.status_code != HTTP_GONE and wait is not None:
            waiting.append((result, wait))
        else:
            reason = GONE_REASON if result.status_code == HTTP_GONE else GAVE_UP
            (ended if result.call.hook == "callback" else last).append((result, reason))
    _finish(session, ended)
    if waiting or last:
        session.execute(_LOCK_URLS, _leases([result for result, _ in (*waiting, *last)]))
    if last:
        changed = set(session.scalars(_CHANGED, _leases([result for result, _ in last])))
        waiting += [(result, 0.0) for result, _ in last if result.call.delivery_id in changed]
        _finish(session, [each for each in last if each[0].call.delivery_id not in changed])
    if waiting:
        session.execute(_RETRY, {**_leases([result for result, _ in waiting]), "wait": [wait for _, wait in waiting]})
    return [wait for _, wait in waiting]


def _leases(results: Sequence[Result]) -> dict[str, list[Any]]:
    return {
        "delivery_id": [result.call.delivery_id for result in results],
        "lease_id": [result.call.lease_id for result in results],
    }


def _finish(session: Session, ended: Sequence[tuple[Result, str | None]]) -> None:
    if ended:
        finished = {
            **_leases([result for result, _ in ended]),
            "state": ["failed" if error else "delivered" for _, error in ended],
            "error": [error for _, error in ended],
        }
        session.execute(_FINISH, finished)


def _update_urls(session: Session, results: Iterable[Result]) -> None:
    told: dict[tuple[int, str, str], list[bool]] = {}
    for result in results:
        if result.call.hook != "callback":
            accepted, gone = told.get((result.call.user_id, result.call.hook, result.call.url), (False, False))
            told[result.call.user_id, result.call.hook, result.call.url] = [
                accepted or result.accepted,
                gone or result.status_code == HTTP_GONE,
            ]
    if not told:
        return
    keys = list(told)
    changed = session.execute(
        _URLS,
        {
            **transposed(keys, "user_id", "hook", "url"),
            "accepted": [told[key][0] for key in keys],
            "gone": [told[key][1] for key in keys],
            "limit": FAILING_ONLY,
            "gone_reason": GONE_REASON,
            "failing_reason": FAILING_REASON,
        },
    )
    for user, hook, reason in changed:
        if reason is not None:
            log.warning("webhook URL disabled", user=user, hook=hook, reason=reason)


def _update_targets(session: Session, results: Iterable[Result]) -> list[float]:
    of_target: dict[Target, list[Result]] = defaultdict(list)
    for result in results:
        of_target[result.call.user_id, result.call.origin].append(result)
    known = _standings(session, list(of_target), lock=False)
    hopeless = [key for key, before in known.items() if before.hopeless and _fold(before, of_target[key]).hopeless]
    if hopeless:  # what waits is locked before targets, everywhere
        keys = transposed(hopeless, "user_id", "origin")
        session.execute(_GIVE_UP, {**keys, "reason": NEVER_ACCEPTED_REASON})
    changed = [key for key, before in known.items() if _fold(before, of_target[key]) != before]
    if not changed:
        return []
    after = {key: _fold(before, of_target[key]) for key, before in _standings(session, changed, lock=True).items()}
    session.execute(
        _UPDATE_TARGETS,
        {
            **transposed(after, "user_id", "origin"),
            "fail_count": [standing.fail_count for standing in after.values()],
            "max_in_flight": [standing.max_in_flight for standing in after.values()],
            "ever_accepted": [standing.ever_accepted for standing in after.values()],
            "paused": [standing.paused for standing in after.values()],
            "pause": [standing.pause for standing in after.values()],
            "asked": [standing.asked for standing in after.values()],
        },
    )
    pauses = (max(standing.pause, standing.asked) for standing in after.values())
    return [pause for pause in pauses if pause > 0]


def _standings(session: Session, keys: Sequence[Target], *, lock: bool) -> Mapping[Target, Standing]:
    rows = session.execute(
        _LOCK_TARGETS if lock else _TARGETS,
        {**transposed(keys, "user_id", "origin"), "never": NEVER_ACCEPTED},
    )
    return {
        (row.user_id, row.origin): Standing(
            row.fail_count, row.max_in_flight, row.paused, ever_accepted=row.ever_accepted, hopeless=row.hopeless
        )
        for row in rows
    }


def _fold(standing: Standing, results: Iterable[Result]) -> Standing:
    for result in results:
        standing = standing.after(result)
    return standing
