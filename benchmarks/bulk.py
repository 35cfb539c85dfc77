"""A bulk send of 100,000 recipients, beside a bare COPY of the same rows; and single sends while such bulks are
accepted, and routed to phones that send them.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from httpx import Response

from app.core.ids import uuid7
from app.local.installation import Shape
from benchmarks.campaign import phones
from benchmarks.gateway import Account, Figure, check, finish_load, installation, percentile, start_load

EVERY_SECONDS = 0.01
MAX_SENDS = 60_000
BULKS = 3
ROUTED_SECONDS = 2.0
_MESSAGES = (
    "COPY bare_messages (id, message_id, user_id, direction, status, lane, recipient_number, message, price, segments,"
    " encoding, valid_until, created_at, updated_at) FROM STDIN (FORMAT BINARY)"
)
_MESSAGE_TYPES = [
    "int8", "uuid", "int8", "varchar", "varchar", "int2", "varchar", "text", "numeric", "int2", "varchar",
    "timestamptz", "timestamptz", "timestamptz",
]  # fmt: skip
_QUEUE = "COPY bare_queue (message_id, user_id, lane, valid_until) FROM STDIN (FORMAT BINARY)"
_QUEUE_TYPES = ["int8", "int8", "int2", "timestamptz"]


def run(*, smoke: bool = False) -> list[Figure]:
    recipients = 1_000 if smoke else 100_000
    with installation(Shape(api=1, flower=False)) as running:
        account = Account(running)
        account.enroll()
        rates = sorted(_bulk(account, recipients) for _ in range(3))
        bare = sorted(_bare_copy(running.database_url, recipients) for _ in range(3))
        beside = _singles_during_bulks(Account(running), recipients)
    rate, limit = rates[1], bare[1]
    return [
        Figure(f"bulk of {recipients:,}, accepted", rate, "messages/s", "25,000/s", f"{limit:,.0f}/s bare COPY"),
        Figure("share of a bare COPY of the same rows", rate / limit, "times", "0.25"),
        Figure(
            "single send while a bulk is accepted and routed, p99",
            percentile(beside, 99),
            "ms",
            "< 250 ms",
            f"median {percentile(beside, 50):.0f} ms, slowest {beside[-1]:.0f} ms of {len(beside)}",
        ),
    ]


def _body(recipients: int) -> bytes:
    numbers = [f"+99890{number:07d}" for number in range(recipients)]
    return json.dumps({"message": "A campaign", "recipients": numbers, "device_id": "active"}).encode()


def _bulk(account: Account, recipients: int) -> float:
    """Messages a second, from the first byte of the request to the last of the answer."""
    before = account.count()
    body = _body(recipients)
    began = time.perf_counter()
    answer = _post(account, body)
    seconds = time.perf_counter() - began
    check("answered", len(answer.json()["data"]), recipients)
    check("stored", account.count() - before, recipients)
    return recipients / seconds


def _post(account: Account, body: bytes) -> Response:
    headers = {"Authorization": f"Bearer {account.token}", "Content-Type": "application/json"}
    answer = account.client.post("/api/sms/bulk", content=body, headers=headers)
    check("status", answer.status_code, 201)
    return answer


def _bare_copy(database_url: str, rows: int) -> float:
    """Rows a second of COPY into tables like `messages` and `message_queue`, with their indexes, and the commit."""
    now = datetime.now(UTC)
    until = now + timedelta(days=1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        for bare, real in (("bare_messages", "messages"), ("bare_queue", "message_queue")):
            connection.execute(f"DROP TABLE IF EXISTS {bare}")  # type: ignore[arg-type]
            connection.execute(f"CREATE TABLE {bare} (LIKE {real} INCLUDING ALL)")  # type: ignore[arg-type]
        messages: list[tuple[Any, ...]] = [
            (number, uuid7(), 1, "outbound", "pending", 1, f"+99890{number:07d}", "A campaign", Decimal(100), 1, "gsm7",
             until, now, now)
            for number in range(rows)
        ]  # fmt: skip
        began = time.perf_counter()
        with connection.transaction(), connection.cursor() as cursor:
            _copy(cursor, _MESSAGES, _MESSAGE_TYPES, messages)
            _copy(cursor, _QUEUE, _QUEUE_TYPES, [(number, 1, 1, until) for number in range(rows)])
        return rows / (time.perf_counter() - began)


def _copy(cursor: psycopg.Cursor[Any], statement: str, types: list[str], rows: list[tuple[Any, ...]]) -> None:
    with cursor.copy(statement) as copy:  # type: ignore[arg-type]
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _singles_during_bulks(account: Account, recipients: int) -> list[float]:
    """Milliseconds of each single send that was due while a bulk was accepted, or in the seconds of routing after it.

    One is due every 10 ms, whatever the answers do.
    """
    stored = account.count()
    body = _body(recipients)
    spans = []
    with phones(account, "array"):
        load = start_load(f"{account.url}/api/sms", account.tokens, MAX_SENDS, every=EVERY_SECONDS)
        routed = account.count("routed_at IS NOT NULL")
        for _ in range(BULKS):
            began = time.perf_counter()
            _post(account, body)
            time.sleep(ROUTED_SECONDS)
            spans.append((began, time.perf_counter()))
        check("bulks were routed meanwhile", account.count("routed_at IS NOT NULL") > routed, expected=True)
        load.terminate()
        measured = finish_load(load)
    check("answers", set(measured.statuses), {"201"})
    check("stored", account.count() - stored, BULKS * recipients + len(measured.calls))
    check("sends went on until the end", len(measured.calls) < MAX_SENDS, expected=True)
    return sorted(latency for span in spans for latency in measured.due_between(*span))


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
