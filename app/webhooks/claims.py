"""Takes due deliveries under a lease: users in turn, within the room of each target, host, user and process.

Every claim runs alone (an advisory lock), so that what is in flight, counted from unexpired leases, is the same for
every process and no limit is ever passed. All times are the database's.
"""

from collections import Counter, deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Integer, text
from sqlalchemy.orm import Session

from app.core.arrays import array, by_key, transposed, unnest
from app.core.database import among, interval, step_by_index
from app.core.lanes import Lane
from app.webhooks.guard import host_of
from app.webhooks.models import WebhookQueueEntry, WebhookTarget
from app.webhooks.signing import VALID_SECRETS, ensure_secrets

LEASE = timedelta(seconds=30)
# What waits behind a retry is looked at again by then: the retry may have been hastened meanwhile.
ASIDE_FOR = timedelta(minutes=15)
BATCH_SIZE = 500
HOST_ROOM = 128
USER_ROOM = 128
# Of one user's targets by one claim; the next claim goes on behind them.
SEEN_OF_USER = 500
BREAKER_FAILURES = 3
OVERDUE = timedelta(seconds=2)
# Bodies over this size share a budget, smaller ones are bounded by the slots. One body may pass the end of a budget.
LARGE = 64 * 1024
MAX_LARGE_BYTES = 32 * 1024 * 1024
MAX_LARGE_BYTES_OF_USER = 8 * 1024 * 1024
_CLAIM_LOCK = 7_316_001
_WINDOW = 20

Target = tuple[int, str]


class Call(NamedTuple):
    """A claimed delivery: what to post, where, signed with which secrets, and the lease it is claimed by.

    `trace` and `claimed_by` are `traceparent`s: of what it goes on with, and of the task that took it.
    """

    delivery_id: int
    lease_id: UUID
    webhook_id: UUID
    user_id: int
    hook: str
    url: str
    origin: str
    body: str
    attempt: int
    secrets: tuple[str, ...]
    message_id: int | None = None
    trace: str | None = None
    claimed_by: str | None = None

    @property
    def weight(self) -> int:
        """What it takes of the budgets for large bodies."""
        return len(self.body) if len(self.body) > LARGE else 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A target that has something due and is not backing off."""

    user_id: int
    origin: str
    fail_count: int
    max_in_flight: int

    @property
    def key(self) -> Target:
        return self.user_id, self.origin


@dataclass(frozen=True, slots=True)
class Claimed:
    """`more`: another claim at once may find something. `held`: something is due that had no room or was blocked.

    `unseen`: some targets of a user with very many were not looked at yet.
    """

    calls: list[Call]
    more: bool
    held: bool
    unseen: bool = False


# All that the transaction of a claim needs set, `step_by_index` too, in one statement. A lease lost in a crash of the
# database itself repeats a delivery, which is allowed; so nobody waits for the disk.
_ALONE = text("""
    SELECT set_config('lock_timeout', '5s', true), set_config('synchronous_commit', 'off', true),
           set_config('enable_bitmapscan', 'off', true), pg_advisory_xact_lock(:lock)
""")

_IN_FLIGHT = text("""
    SELECT user_id, origin, count(*) FROM webhook_queue
    WHERE lease_until > (SELECT clock_timestamp()) GROUP BY user_id, origin
""")

# Steps from target to target by index, however many rows each has, over so many targets of a user, from where the last
# look at them ended. Every user's longest waiting target comes before any user's second, so that one with very many of
# them cannot push out another. Rows without a room say where the look at a user ended before the last target.
_CANDIDATES = text(f"""
    WITH RECURSIVE users AS (
        (SELECT user_id FROM webhook_queue ORDER BY user_id LIMIT 1)
        UNION ALL
        SELECT following.* FROM users u CROSS JOIN LATERAL (
            SELECT q.user_id FROM webhook_queue q WHERE q.user_id > u.user_id ORDER BY q.user_id LIMIT 1) following
    ), waiting AS MATERIALIZED (
        SELECT u.user_id, seen.origin, seen.n
        FROM users u LEFT JOIN {unnest(WebhookQueueEntry.user_id, WebhookQueueEntry.origin, alias="p")}
            USING (user_id) CROSS JOIN LATERAL (
                WITH RECURSIVE steps AS (
                    (SELECT q.origin, 1 AS n FROM webhook_queue q
                     WHERE q.user_id = u.user_id AND q.origin > COALESCE(p.origin, '') ORDER BY q.origin LIMIT 1)
                    UNION ALL
                    SELECT following.origin, s.n + 1 FROM steps s CROSS JOIN LATERAL (
                        SELECT q.origin FROM webhook_queue q
                        WHERE q.user_id = u.user_id AND q.origin > s.origin ORDER BY q.origin LIMIT 1) following
                    WHERE s.n < :most_of_user
                ) SELECT * FROM steps) seen
        WHERE u.user_id <> ALL({array(WebhookQueueEntry.user_id, "full")})
    )
    (SELECT w.user_id, w.origin, COALESCE(t.fail_count, 0) AS fail_count, COALESCE(t.max_in_flight, 2) AS room
     FROM waiting w LEFT JOIN webhook_targets t USING (user_id, origin)
     WHERE COALESCE(t.next_try_at <= (SELECT clock_timestamp() - CAST(:late AS interval)), true)
       AND EXISTS (SELECT FROM webhook_queue q WHERE q.user_id = w.user_id AND q.origin = w.origin
                   AND q.lane IN ({Lane.SINGLE}, {Lane.BULK})
                   AND q.next_attempt_at <= (SELECT clock_timestamp() - CAST(:late AS interval)))
     ORDER BY row_number() OVER (PARTITION BY w.user_id ORDER BY t.last_served_at NULLS FIRST, w.origin),
              t.last_served_at NULLS FIRST, w.user_id
     LIMIT :most)
    UNION ALL
    SELECT user_id, origin, NULL, NULL FROM waiting WHERE n = :most_of_user
""")  # noqa: S608 - names of columns

_LEASED = "q.delivery_id, q.lease_id, q.user_id, q.message_id, q.hook, q.url, q.origin, q.attempt"
# Looks at the first due rows of each target. A row is blocked while an earlier one of its message for the same URL
# waits: behind one in flight it stays as it is; behind one that has its retry later it is set aside to that time, so
# that blocked rows never fill the window. The time is a hint: whether a row is blocked is decided here, each time anew.
_CLAIM = text(f"""
    WITH room AS (
        SELECT * FROM {unnest(WebhookTarget.user_id, WebhookTarget.origin, n=Integer(), taken=BigInteger())}
    ), seen AS MATERIALIZED (
        SELECT r.n, r.taken, q.delivery_id, q.message_id, q.url, q.hook, q.lane, q.next_attempt_at, r.user_id,
               r.origin
        FROM room r CROSS JOIN LATERAL (
            SELECT due.* FROM (VALUES ({Lane.SINGLE}), ({Lane.BULK})) AS lanes(lane) CROSS JOIN LATERAL (
                SELECT q.delivery_id, q.message_id, q.url, q.hook, q.lane, q.next_attempt_at FROM webhook_queue q
                WHERE q.user_id = r.user_id AND q.origin = r.origin AND q.lane = lanes.lane
                  AND q.next_attempt_at <= (SELECT clock_timestamp())
                ORDER BY q.next_attempt_at, q.delivery_id LIMIT 2 * r.n + :window) due
            LIMIT 2 * r.n + :window) q
    ), judged AS (
        SELECT s.*, b.blocked, b.retry_at
        FROM seen s LEFT JOIN LATERAL (
            SELECT true AS blocked,
                   max(e.next_attempt_at) FILTER (WHERE e.lease_id IS NULL AND e.next_attempt_at > s.next_attempt_at)
                       AS retry_at
            FROM webhook_queue e
            WHERE e.message_id = s.message_id AND e.delivery_id < s.delivery_id
              AND (e.url = s.url OR (e.hook = s.hook AND e.hook <> 'callback'))
            HAVING count(*) > 0) b ON true
    ), weighed AS (
        SELECT f.*, CASE WHEN octet_length(d.body) > :large THEN octet_length(d.body) ELSE 0 END AS weight
        FROM (SELECT *, row_number() OVER (
                  PARTITION BY user_id, origin ORDER BY lane, next_attempt_at, delivery_id) AS place
              FROM judged WHERE blocked IS NULL) f
            JOIN webhook_deliveries d ON d.id = f.delivery_id
        WHERE f.place <= f.n
    ), fitting AS (
        SELECT *, sum(weight) OVER (PARTITION BY user_id ORDER BY place, delivery_id) - weight + taken AS before_of_user
        FROM weighed
    ), chosen AS MATERIALIZED (
        SELECT delivery_id FROM (
            SELECT delivery_id, weight, sum(weight) OVER (ORDER BY place, delivery_id) - weight AS before
            FROM fitting WHERE weight = 0 OR before_of_user < :most_of_user) fair
        WHERE weight = 0 OR before < :bytes_left
    ), early AS MATERIALIZED (
        SELECT delivery_id, retry_at FROM judged WHERE retry_at IS NOT NULL
    ), held AS MATERIALIZED (
        SELECT delivery_id FROM webhook_queue
        WHERE {among("delivery_id", "(TABLE chosen UNION ALL SELECT delivery_id FROM early) c")}
          AND next_attempt_at <= (SELECT clock_timestamp())
        ORDER BY delivery_id FOR NO KEY UPDATE SKIP LOCKED
    ), leased AS (
        UPDATE webhook_queue q SET lease_id = :lease_id, lease_until = l.until, next_attempt_at = l.until
        FROM (SELECT clock_timestamp() + :lease AS until) l
        WHERE {among("q.delivery_id", "held WHERE delivery_id IN (TABLE chosen)")}
        RETURNING {_LEASED}
    ), set_aside AS (
        UPDATE webhook_queue q SET lease_id = NULL, lease_until = NULL,
            next_attempt_at = LEAST(e.retry_at, clock_timestamp() + {interval(ASIDE_FOR)})
        FROM early e WHERE q.delivery_id = e.delivery_id AND {among("q.delivery_id", "held")}
        RETURNING {_LEASED}
    ), served AS (
        INSERT INTO webhook_targets (user_id, origin, last_served_at)
        SELECT user_id, origin, clock_timestamp()
        FROM (SELECT DISTINCT user_id, origin FROM leased) s ORDER BY user_id, origin
        ON CONFLICT (user_id, origin) DO UPDATE SET last_served_at = excluded.last_served_at
    )
    SELECT q.*, d.webhook_id, d.body, w.url AS account_url, w.origin AS account_origin, s.secrets,
        EXISTS (SELECT FROM users u WHERE u.id = q.user_id AND u.blocked_at IS NOT NULL) AS is_blocked
    FROM (TABLE leased UNION ALL TABLE set_aside) q JOIN webhook_deliveries d ON d.id = q.delivery_id
        LEFT JOIN webhook_urls w ON w.user_id = d.user_id AND w.hook = d.hook AND w.disabled_at IS NULL
        LEFT JOIN (SELECT user_id, {VALID_SECRETS} AS secrets FROM webhook_secrets) s ON s.user_id = q.user_id
""")  # noqa: S608 - names of columns

# The new receiver has the whole schedule before it.
_MOVE = text(f"""
    WITH moved AS (
        UPDATE webhook_queue q
        SET url = u.url, origin = u.origin, attempt = 0, lease_id = NULL, lease_until = NULL,
            next_attempt_at = clock_timestamp()
        FROM {unnest(WebhookQueueEntry.delivery_id, WebhookQueueEntry.url, WebhookQueueEntry.origin)}
        WHERE {by_key(WebhookQueueEntry.delivery_id)} RETURNING u.delivery_id, u.url
    )
    UPDATE webhook_deliveries d SET url = m.url FROM moved m WHERE d.id = m.delivery_id
""")  # noqa: S608 - names of columns

_DROP = text("""
    WITH dropped AS (DELETE FROM webhook_queue WHERE delivery_id = ANY(:ids) RETURNING delivery_id)
    UPDATE webhook_deliveries SET state = 'failed', finished_at = clock_timestamp(), error = :error
    WHERE id IN (SELECT delivery_id FROM dropped)
""")


class Rounds:
    """Where the next claim's look begins at users who have more targets waiting than one claim looks at.

    A round has ended when all targets of each of them were looked at since it began.
    """

    def __init__(self) -> None:
        self.places: dict[int, str] = {}
        self._seen: set[int] = set()

    def turn(self, ended: Mapping[int, str], passed_over: Container[int]) -> bool:
        """Note where the looks of a claim ended before a last target. Whether the round goes on."""
        left = {user: place for user, place in self.places.items() if user in passed_over}
        self._seen |= self.places.keys() - ended.keys() - left.keys()
        self.places = left | dict(ended)
        if ended.keys() <= self._seen:
            self._seen = set()
            return False
        return True


def claim(
    session: Session,
    slots: int,
    for_newcomers: int = 0,
    rounds: Rounds | None = None,
    large: Mapping[int, int] | None = None,
) -> Claimed:
    """Lease up to `slots` deliveries (at most 500) that are due and may be posted now.

    `for_newcomers` are slots beside those, for users who have nothing in flight. `large` says how many bytes of large
    bodies the process holds for each user already.
    """
    large = large or {}
    session.execute(_ALONE, {"lock": _CLAIM_LOCK})
    in_flight = {(user, origin): n for user, origin, n in session.execute(_IN_FLIGHT)}
    of_user = Counter[int]()
    for (user, _), n in in_flight.items():
        of_user[user] += n
    full = [user for user, n in of_user.items() if n >= USER_ROOM]
    rounds = rounds or Rounds()
    candidates, ended = _look(session, timedelta(0), BATCH_SIZE, full, rounds.places)
    unseen = rounds.turn(ended, full)
    if not candidates:
        return Claimed([], more=False, held=bool(full), unseen=unseen)
    rooms = allot(candidates, in_flight, slots, for_newcomers)
    if not rooms:
        return Claimed([], more=False, held=True, unseen=unseen)
    rows = session.execute(
        _CLAIM,
        {
            **transposed(rooms, "user_id", "origin"),
            "n": list(rooms.values()),
            "taken": [large.get(user, 0) for user, _ in rooms],
            "large": LARGE,
            "most_of_user": MAX_LARGE_BYTES_OF_USER,
            "bytes_left": MAX_LARGE_BYTES - sum(large.values()),
            "window": _WINDOW,
            "lease": LEASE,
            "lease_id": uuid4(),
        },
    ).all()
    return Claimed(_calls(session, rows), more=bool(rows), held=not rows, unseen=unseen)


def overdue(session: Session, late: timedelta = OVERDUE) -> bool:
    """Whether a target that is not backing off has something that has been due for longer than `late`.

    Also where a user has so many targets that only a round of claims can tell.
    """
    step_by_index(session)
    return any(_look(session, late, 1, [], {}))


def _look(
    session: Session, late: timedelta, most: int, full: Sequence[int], places: Mapping[int, str]
) -> tuple[list[Candidate], dict[int, str]]:
    """The candidates, and where the look at a user ended before the last target."""
    values = {"user_id": list(places), "origin": list(places.values()), "full": full}
    limits = {"late": late, "most": most, "most_of_user": SEEN_OF_USER}
    rows = session.execute(_CANDIDATES, values | limits).all()
    candidates = [Candidate(*row) for row in rows if row.room is not None]
    return candidates, {row.user_id: row.origin for row in rows if row.room is None}


def allot(
    candidates: Sequence[Candidate], in_flight: Mapping[Target, int], slots: int, for_newcomers: int = 0
) -> dict[Target, int]:
    """How many rows each candidate may have now; one at a time in turn, so that all come before any has many.

    A user who has nothing in flight at a host gets a place there however full it is, and one who has nothing in flight
    at all gets one of the slots kept for such users where the others are taken.
    """
    host, user, user_at_host = Counter[str](), Counter[int](), Counter[tuple[int, str]]()

    def count(key: Target, n: int) -> None:
        name = host_of(key[1])
        host[name] += n
        user[key[0]] += n
        user_at_host[key[0], name] += n

    for key, n in in_flight.items():
        count(key, n)
    rooms: dict[Target, int] = {}
    left, kept = min(slots, BATCH_SIZE), for_newcomers
    turn = deque(candidates)
    while turn and (left > 0 or kept > 0):
        candidate = turn.popleft()
        key, name = candidate.key, host_of(candidate.origin)
        most = 1 if candidate.fail_count >= BREAKER_FAILURES else candidate.max_in_flight
        full = host[name] >= HOST_ROOM and user_at_host[key[0], name] > 0
        if in_flight.get(key, 0) + rooms.get(key, 0) >= most or full or user[key[0]] >= USER_ROOM:
            continue
        if left > 0:
            left -= 1
        elif user[key[0]] == 0:
            kept -= 1
        else:
            continue
        rooms[key] = rooms.get(key, 0) + 1
        count(key, 1)
        turn.append(candidate)
    return rooms


def _calls(session: Session, rows: Sequence[Any]) -> list[Call]:
    """The claimed rows as calls; those whose account URL was changed are moved to it, or given up if there is none, as
    are those of blocked accounts.
    """
    leased = [row for row in rows if row.lease_id is not None and not row.is_blocked]
    blocked = [row.delivery_id for row in rows if row.is_blocked]
    if blocked:
        session.execute(_DROP, {"ids": blocked, "error": "The account is blocked."})
    ready = [row for row in leased if row.hook == "callback" or row.account_url == row.url]
    outdated = [row for row in leased if row.hook != "callback" and row.account_url != row.url]
    moved = [row for row in outdated if row.account_url is not None]
    if moved:
        session.execute(
            _MOVE,
            {
                "delivery_id": [row.delivery_id for row in moved],
                "url": [row.account_url for row in moved],
                "origin": [row.account_origin for row in moved],
            },
        )
    without_url = [row.delivery_id for row in outdated if row.account_url is None]
    if without_url:
        session.execute(_DROP, {"ids": without_url, "error": "The webhook URL was removed or disabled."})
    if not ready:
        return []
    without = {row.user_id for row in ready if row.secrets is None}
    made = ensure_secrets(session, without) if without else {}
    return [
        Call(
            row.delivery_id,
            row.lease_id,
            row.webhook_id,
            row.user_id,
            row.hook,
            row.url,
            row.origin,
            row.body,
            row.attempt,
            tuple(row.secrets or made[row.user_id]),
            row.message_id,
        )
        for row in ready
    ]
