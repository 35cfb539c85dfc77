"""What a long history costs: the same calls with 10,000 and with 10,000,000 messages of one user behind them.

Lists by every filter, a page deep in the list by its cursor, a text search in a month, account figures, statistics, a
single send, a phone's pull and its reports: the median of each at both sizes, over real HTTP, and the ratio.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import psycopg

from app.core.http_client import Client
from app.local.installation import Shape
from benchmarks.gateway import Account, Figure, check, installation

SMALL, LARGE = 10_000, 10_000_000
DAYS = 365
PHONES = 5


def run(*, smoke: bool = False) -> list[Figure]:
    small, large, times = (1000, 10_000, 3) if smoke else (SMALL, LARGE, 30)
    with installation(Shape(api=1, flower=False)) as running:
        account = Account(running)
        tokens = [account.enroll(f"bench/phone-{n}") for n in range(PHONES)]
        phones = [device["id"] for device in account.call("GET", "/api/devices")]
        measured = []
        for total, more in ((small, small), (large, large - small)):
            fill(account, phones, more)
            check("messages in the list", account.call("GET", "/api/sms?per_page=1")["total"] >= total, expected=True)
            measured.append(_measure(account, phones, tokens[0], times))
    before, after = measured
    return [
        Figure(f"{name}, {large:,} messages", after[name], "ms", "", _beside(before[name], after[name], small))
        for name in after
    ]


def _beside(before: float, after: float, small: int) -> str:
    return f"{before:.1f} ms with {small:,}: {after / before:.1f} times"


_FILL = """
    INSERT INTO messages (message_id, user_id, device_id, direction, status, recipient_number, sender_number, message,
                          price, my_id, segments, encoding, counted_on, created_at, updated_at, sent_at)
    SELECT uuidv7(), %(user)s, (%(phones)s::bigint[])[1 + i %% 5], way.direction, way.status,
           CASE WHEN way.direction = 'outbound' THEN '+99890' || lpad((i %% 50000)::text, 7, '0') END,
           CASE WHEN way.direction = 'inbound' THEN '+99891' || lpad((i %% 50000)::text, 7, '0') END,
           'Your order ' || i || ' has left our warehouse and arrives tomorrow.', 100,
           CASE WHEN i %% 4 = 0 THEN 'order-' || i %% 100000 END, 1, 'gsm7', (at AT TIME ZONE 'UTC')::date, at, at, at
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
    """Give the user a year of finished messages, counted as they would have been."""
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


def _measure(account: Account, phones: list[int], device_token: str, times: int) -> dict[str, float]:
    middle = datetime.now(UTC) - timedelta(days=DAYS / 2)
    month_ago = datetime.now(UTC) - timedelta(days=30)
    deep = _get(account, "/api/sms", to=middle.isoformat())["next_cursor"]
    calls: dict[str, Callable[[], Any]] = {
        "list": lambda: _get(account, "/api/sms"),
        "list, page 20": lambda: _get(account, "/api/sms", page="20"),
        "outbox": lambda: _get(account, "/api/sms/outbox"),
        "inbox": lambda: _get(account, "/api/sms/inbox"),
        "list by status": lambda: _get(account, "/api/sms", status="delivered"),
        "list by phone": lambda: _get(account, "/api/sms", device_id=str(phones[1])),
        "list by phone and status": lambda: _get(account, "/api/sms", device_id=str(phones[1]), status="delivered"),
        "list by number": lambda: _get(account, "/api/sms", number="+998900000400"),
        "list by my_id": lambda: _get(account, "/api/sms", my_id="order-400"),
        "list of a day": lambda: _get(
            account, "/api/sms", **{"from": middle.isoformat(), "to": (middle + timedelta(days=1)).isoformat()}
        ),
        "list from a cursor in its middle": lambda: _get(account, "/api/sms", cursor=deep),
        "text search in 30 days": lambda: _get(
            account, "/api/sms", search="order 99", **{"from": month_ago.isoformat()}
        ),
        "account": lambda: _get(account, "/api/account"),
        "delivery-stats": lambda: _get(account, "/api/sms/delivery-stats"),
    }
    found = {name: _median(call, times) for name, call in calls.items()}
    return found | _through_a_phone(account, phones[0], device_token, times)


def _get(account: Account, path: str, **query: str) -> Any:
    answer = account.client.get(path, params=query)
    answer.raise_for_status()
    return answer.json()["data"]


def _median(call: Callable[[], Any], times: int) -> float:
    call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


def _through_a_phone(account: Account, phone: int, device_token: str, times: int) -> dict[str, float]:
    """A message from its send to its last report, step by step."""
    taken: dict[str, list[float]] = {"single send": [], "pull": [], "report": []}

    def timed(step: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        taken[step].append((time.perf_counter() - began) * 1000)
        return result

    body = {"message": "Your code is 123456", "recipient_number": "+998901234567", "device_id": phone}
    headers = {"Authorization": f"Bearer {device_token}"}
    with Client(base_url=account.url, headers=headers, timeout=120) as client:
        for _ in range(times):
            timed("single send", lambda: account.call("POST", "/api/sms", body))
            [message] = timed("pull", lambda: client.get("/api/mobile/v1/message").raise_for_status().json())
            for state in ("Processed", "Sent", "Delivered"):
                recipients = [{"phoneNumber": body["recipient_number"], "state": state}]
                report = [{"id": message["id"], "state": state, "recipients": recipients}]
                timed(
                    "report",
                    lambda report=report: client.patch("/api/mobile/v1/message", json=report).raise_for_status(),
                )
    return {step: median(values) for step, values in taken.items()}


if __name__ == "__main__":
    for figure in run():
        print(f"{figure.name}: {figure.value:.1f} {figure.unit} ({figure.beside})")
