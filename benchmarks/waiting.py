"""What a queue of 1,000,000 messages costs those who use the gateway meanwhile, beside one of 10,000.

The same on two installations beside each other, in turn: a single send that names a phone, that phone's pull, which
must bring the send first, the report of all it brought, lists and the account over HTTP; the work of the tasks that
sweep and route, called as the tasks call it; and the size of the queue with its indexes.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import psycopg

from app.core.http_client import Client
from app.local.installation import Installation, Shape
from app.messages.dispatch import routing, sweeping
from benchmarks.gateway import Account, Figure, check, inside, installation, timed
from workers.base import in_transaction

FEW, MANY, OF_A_BULK = 10_000, 1_000_000, 100_000
PHONES = 20
CODE = "Your code is 123456"
ASKED = {
    "list of phones": "/api/devices",
    "account": "/api/account",
    "list of messages": "/api/sms",
    "list of what waits": "/api/sms?status=pending",
}

Taken = dict[str, list[float]]


@dataclass(frozen=True)
class Side:
    """A user with many messages waiting, on an installation of their own; one of their phones, and its connection."""

    running: Installation
    account: Account
    phone: int
    client: Client


def run(*, smoke: bool = False) -> list[Figure]:
    few, many, times = (500, 1_000, 3) if smoke else (FEW, MANY, 100)
    with ExitStack() as stack:
        sides = [_side(stack, messages) for messages in (few, many)]
        taken: list[Taken] = [defaultdict(list) for _ in sides]
        for turn in range(times + 1):
            for side, of_side in zip(sides, taken, strict=True):
                for name, milliseconds in used(side):
                    if turn:  # the first opens connections and makes plans
                        of_side[name].append(milliseconds)
        for side, of_side in zip(sides, taken, strict=True):
            with inside(side.running.environment):
                of_side["sweep"] = [timed(partial(in_transaction, sweeping.sweep)) for _ in range(times)]
                route = partial(in_transaction, routing.route_waiting, side.account.user_id)
                of_side["routing, all phones full"] = [timed(route) for _ in range(times)]
        size = _queue_size(sides[1].account)
    before, after = ({name: median(values) for name, values in of_side.items()} for of_side in taken)
    return [
        *(
            Figure(
                f"{name}, {many:,} waiting",
                after[name],
                "ms",
                "",
                f"{before[name]:.1f} ms with {few:,}: {after[name] / before[name]:.2f} times",
            )
            for name in after
        ),
        Figure(f"queue of {many:,} with its indexes", size / 1e6, "MB"),
    ]


def _side(stack: ExitStack, messages: int) -> Side:
    running = stack.enter_context(installation(Shape(api=1, flower=False)))
    account = Account(running)
    token, *_ = [account.enroll(f"bench/phone-{n}") for n in range(PHONES)]
    phone = min(device["id"] for device in account.call("GET", "/api/devices"))
    for start in range(0, messages, OF_A_BULK):
        numbers = [f"+99890{number:07d}" for number in range(start, min(start + OF_A_BULK, messages))]
        body = {"message": "A campaign", "recipients": numbers, "device_id": "active"}
        check("accepted", len(account.call("POST", "/api/sms/bulk", body)), len(numbers))
    check("waiting", account.count("status = 'pending'"), messages)
    headers = {"Authorization": f"Bearer {token}"}
    client = stack.enter_context(Client(base_url=running.url, headers=headers, timeout=120))
    return Side(running, account, phone, client)


def used(side: Side) -> Iterator[tuple[str, float]]:
    """What its users and one phone do, each with the milliseconds it took."""
    for name, path in ASKED.items():
        yield name, timed(partial(side.account.call, "GET", path))
    body = {"message": CODE, "recipient_number": "+998901234567", "device_id": side.phone}
    yield "single send", timed(partial(side.account.call, "POST", "/api/sms", body))
    pulled: list[dict[str, Any]] = []
    yield "pull", timed(lambda: pulled.extend(side.client.get("/api/mobile/v1/message").raise_for_status().json()))
    check("what comes first", pulled[0]["message"], CODE)
    items = [{"id": message["id"], "state": "Delivered", "recipients": [{"state": "Delivered"}]} for message in pulled]
    report = partial(side.client.patch, "/api/mobile/v1/message", json=items)
    yield "report of what a pull brought", timed(lambda: report().raise_for_status())


def _queue_size(account: Account) -> int:
    with psycopg.connect(account.database_url) as connection:
        row = connection.execute("SELECT pg_total_relation_size('message_queue')").fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
