"""What a long history costs: the same calls with 10,000 and with 10,000,000 messages of one user behind them.

Lists by every filter, a page deep in the list by its cursor, a text search in a month, account figures, statistics, a
single send, a phone's pull and its reports, over real HTTP: the median of each at both sizes, and the ratio. Both
installations run beside each other and are asked in turn, so that what else the machine does is the same for both. The
large table is as good as one can be: its indexes are built after it is filled, and it is vacuumed and analyzed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any

import psycopg

from app.core.http_client import Client
from app.local.installation import Shape
from benchmarks.gateway import Account, Figure, check, installation, timed

SMALL, LARGE = 10_000, 10_000_000
DAYS = 365
PHONES = 5
# What finds other rows, or more of them, behind a longer history.
NOTHING = "text search in 30 days, no match"
WITHOUT_A_LIMIT = {"list of a day", "text search in 30 days", NOTHING}


@dataclass(frozen=True)
class Side:
    """A user with so many messages behind them, on an installation of their own, and their phones."""

    messages: int
    account: Account
    phones: list[int]
    device_token: str


def run(*, smoke: bool = False) -> list[Figure]:
    small, large, times = (1000, 10_000, 3) if smoke else (SMALL, LARGE, 100)
    with ExitStack() as stack:
        sides = [_side(stack, messages) for messages in (small, large)]
        taken = {name: _in_turn(calls, times) for name, calls in _calls(sides).items()} | _through_phones(sides, times)
    ratios = {after / before: name for name, (before, after) in taken.items() if name not in WITHOUT_A_LIMIT}
    dearest = max(ratios)
    others = {after / before: name for name, (before, after) in taken.items() if name in WITHOUT_A_LIMIT}
    left_out = ", ".join(f"{others[ratio]} {ratio:.2f}" for ratio in sorted(others, reverse=True))
    return [
        Figure(
            f"cost with {large:,} messages against {small:,}, the slowest call",
            dearest,
            "times",
            "≤ 1.3",
            f"{ratios[dearest]}; median of {len(ratios)} calls {median(ratios):.2f}; not among them, for they find"
            f" other rows or more: {left_out}",
        ),
        *(
            Figure(
                f"{name}, {large:,} messages",
                after,
                "ms",
                "",
                f"{before:.1f} ms with {small:,}: {after / before:.2f} times",
            )
            for name, (before, after) in taken.items()
        ),
    ]


def _side(stack: ExitStack, messages: int) -> Side:
    account = Account(stack.enter_context(installation(Shape(api=1, flower=False))))
    tokens = [account.enroll(f"bench/phone-{n}") for n in range(PHONES)]
    phones = [device["id"] for device in account.call("GET", "/api/devices")]
    fill(account, phones, messages)
    check("messages in the list", account.call("GET", "/api/sms?per_page=1")["total"], messages)
    return Side(messages, account, phones, tokens[0])


_FILL = """
    INSERT INTO messages (message_id, user_id, device_id, direction, status, recipient_number, sender_number, message,
                          price, my_id, segments, encoding, counted_on, created_at, updated_at, sent_at,
                          delivered_at, failed_at, received_at)
    SELECT uuidv7(), %(user)s, (%(phones)s::bigint[])[1 + i %% 5], way.direction, way.status,
           CASE WHEN way.direction = 'outbound' THEN '+99890' || lpad((i %% (%(rows)s / 200))::text, 7, '0') END,
           CASE WHEN way.direction = 'inbound' THEN '+99891' || lpad((i %% (%(rows)s / 200))::text, 7, '0') END,
           'Your order ' || i || ' has left our warehouse and arrives tomorrow.', 100,
           CASE WHEN i %% 4 = 0 THEN 'order-' || i %% (%(rows)s / 100) END, 1, 'gsm7',
           (at AT TIME ZONE 'UTC')::date, at, at, at,
           CASE WHEN way.status = 'delivered' THEN at END, CASE WHEN way.status = 'failed' THEN at END,
           CASE WHEN way.status = 'received' THEN at END
    FROM generate_series(1, %(rows)s) i,
    LATERAL (SELECT now() - %(days)s * interval '1 day' * (1 - i::float8 / (%(rows)s + 1)) AS at) moment,
    LATERAL (SELECT CASE WHEN i %% 20 = 7 THEN 'inbound' ELSE 'outbound' END AS direction,
                    CASE WHEN i %% 20 = 7 THEN 'received' WHEN i %% 1000 = 0 THEN 'failed' ELSE 'delivered' END
                        AS status) way
"""
_COUNT = """
    INSERT INTO usage_totals (user_id, day, kind, n, amount)
    SELECT %(user)s, counted_on, counted, count(*), 0
    FROM messages, unnest(CASE status WHEN 'received' THEN ARRAY['received'] ELSE ARRAY['accepted', 'sent', status] END)
         AS counted
    WHERE user_id = %(user)s AND id > %(after)s GROUP BY counted_on, counted
    ON CONFLICT (user_id, day, kind) DO UPDATE SET n = usage_totals.n + excluded.n
"""


def fill(account: Account, phones: list[int], rows: int) -> None:
    """Give the user a year of finished messages, counted as they would have been; however many, 200 of each number and
    100 of each `my_id`.
    """
    with psycopg.connect(account.database_url, autocommit=True) as connection:
        # Upkeep may be looking at the table just then; the gateway's calls may not wait long for it, this may.
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET lock_timeout = 0")
        row = connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
        values = {
            "user": account.user_id,
            "phones": phones,
            "rows": rows,
            "days": DAYS,
            "after": row[0] if row else 0,
        }
        with _without_indexes(connection):
            connection.execute(_FILL, values)
        connection.execute(_COUNT, values)
        for statement in ("VACUUM ANALYZE messages", "VACUUM ANALYZE usage_totals", "CHECKPOINT"):
            connection.execute(statement)


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Drop the indexes of `messages` that no key needs, and build them again: many times quicker than row by row."""
    definitions = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'messages' AND indexdef NOT LIKE '%UNIQUE%'"
    ).fetchall()
    for name, _ in definitions:
        connection.execute(f"DROP INDEX {name}")
    yield
    connection.execute("SET maintenance_work_mem = '512MB'")
    for _, definition in definitions:
        connection.execute(definition)


def _calls(sides: Sequence[Side]) -> dict[str, list[Callable[[], Any]]]:
    """Each call by its name, once for every side."""
    calls: dict[str, list[Callable[[], Any]]] = {}
    middle = datetime.now(UTC) - timedelta(days=DAYS / 2)
    # So long that the shorter history fills a page too.
    filling = timedelta(days=DAYS * 60 / min(side.messages for side in sides))
    day, days = (
        {"from": middle.isoformat(), "to": (middle + span).isoformat()} for span in (timedelta(days=1), filling)
    )
    month_ago = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    for side in sides:
        phone = str(side.phones[1])
        deep = _get(side.account, "/api/sms", to=middle.isoformat())["next_cursor"]
        asked: dict[str, tuple[str, dict[str, str]]] = {
            "list": ("/api/sms", {}),
            "list, page 20": ("/api/sms", {"page": "20"}),
            "outbox": ("/api/sms/outbox", {}),
            "inbox": ("/api/sms/inbox", {}),
            "list by status": ("/api/sms", {"status": "delivered"}),
            "list by phone": ("/api/sms", {"device_id": phone}),
            "list by phone and status": ("/api/sms", {"device_id": phone, "status": "delivered"}),
            "list by number": ("/api/sms", {"number": "+998900000000"}),
            "list by my_id": ("/api/sms", {"my_id": "order-0"}),
            "list of a day": ("/api/sms", day),
            "list of days that fill a page": ("/api/sms", days),
            "list from a cursor in its middle": ("/api/sms", {"cursor": deep}),
            "list by status from there": ("/api/sms", {"cursor": deep, "status": "delivered"}),
            "list by phone from there": ("/api/sms", {"cursor": deep, "device_id": phone}),
            "text search in 30 days": ("/api/sms", {"search": "order 99", "from": month_ago}),
            NOTHING: ("/api/sms", {"search": "in no text", "from": month_ago}),
            "account": ("/api/account", {}),
            "delivery-stats": ("/api/sms/delivery-stats", {}),
        }
        for name, (path, query) in asked.items():
            call = partial(_get, side.account, path, **query)
            found = call()
            if name not in {"account", "delivery-stats"} | WITHOUT_A_LIMIT:
                check(f"rows of {name}", len(found["data"]), found["per_page"])
            calls.setdefault(name, []).append(call)
    return calls


def _get(account: Account, path: str, **query: str) -> Any:
    answer = account.client.get(path, params=query)
    answer.raise_for_status()
    return answer.json()["data"]


def _in_turn(calls: Sequence[Callable[[], Any]], times: int) -> list[float]:
    """The median of each call in milliseconds; one after the other, `times` times."""
    taken: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(times):
        for call, times_of_call in zip(calls, taken, strict=True):
            times_of_call.append(timed(call))
    return [median(values) for values in taken]


def _through_phones(sides: Sequence[Side], times: int) -> dict[str, list[float]]:
    """A message from its send to its last report, step by step."""
    taken: dict[str, list[list[float]]] = {step: [[] for _ in sides] for step in ("single send", "pull", "report")}
    with ExitStack() as stack:
        clients = [stack.enter_context(_client_of_phone(side)) for side in sides]
        delivered = [side.account.count("status = 'delivered'") for side in sides]
        for turn in range(times + 1):
            for place, (side, client) in enumerate(zip(sides, clients, strict=True)):
                for step, milliseconds in _through_a_phone(side, client):
                    if turn:  # the first opens connections and makes plans
                        taken[step][place].append(milliseconds)
    for side, before in zip(sides, delivered, strict=True):
        check("delivered", side.account.count("status = 'delivered'") - before, times + 1)
    return {step: [median(values) for values in of_sides] for step, of_sides in taken.items()}


def _client_of_phone(side: Side) -> Client:
    headers = {"Authorization": f"Bearer {side.device_token}"}
    return Client(base_url=side.account.url, headers=headers, timeout=120)


def _through_a_phone(side: Side, phone: Client) -> Iterator[tuple[str, float]]:
    body = {"message": "Your code is 123456", "recipient_number": "+998901234567", "device_id": side.phones[0]}
    yield "single send", timed(partial(side.account.call, "POST", "/api/sms", body))
    pulled: list[dict[str, Any]] = []
    yield "pull", timed(lambda: pulled.extend(phone.get("/api/mobile/v1/message").raise_for_status().json()))
    [message] = pulled
    for state in ("Processed", "Sent", "Delivered"):
        recipients = [{"phoneNumber": body["recipient_number"], "state": state}]
        report = [{"id": message["id"], "state": state, "recipients": recipients}]
        patch = partial(phone.patch, "/api/mobile/v1/message", json=report)
        yield "report", timed(lambda patch=patch: patch().raise_for_status())


if __name__ == "__main__":
    for figure in run():
        print(f"{figure.name}: {figure.value:.1f} {figure.unit} ({figure.beside})")
