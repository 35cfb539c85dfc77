"""What 1,000,000 scheduled messages cost those who use the gateway meanwhile, beside none, and how late a message is
released that comes due among them.

The same calls as with messages that wait (`benchmarks.waiting`), on two installations beside each other, in turn; and
the tick that looks for what is due, as its task calls it.
"""

import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median

import psycopg

from app.campaigns import eligibility
from app.core.http_client import Client
from app.local.installation import Shape
from app.messages.dispatch import releasing
from app.messages.states import Stage
from benchmarks.gateway import Account, Figure, check, inside, installation, timed
from benchmarks.waiting import OF_A_BULK, Side, Taken, used
from workers.base import in_transaction

MANY = 1_000_000
PHONES = 20
# What comes due while it is watched: so many in each of so many seconds.
DUE_EACH, DUE_SECONDS = 100, 30


def run(*, smoke: bool = False) -> list[Figure]:
    many, times, seconds = (1_000, 3, 3) if smoke else (MANY, 100, DUE_SECONDS)
    with ExitStack() as stack:
        sides = [_side(stack, messages) for messages in (0, many)]
        taken: list[Taken] = [defaultdict(list) for _ in sides]
        for turn in range(times + 1):
            for side, of_side in zip(sides, taken, strict=True):
                for name, milliseconds in used(side):
                    if turn:  # the first opens connections and makes plans
                        of_side[name].append(milliseconds)
        for side, of_side in zip(sides, taken, strict=True):
            with inside(side.running.environment):
                tick = partial(in_transaction, releasing.release, eligibility.keepers)
                of_side["tick with nothing due"] = [timed(tick) for _ in range(times)]
        late = _lateness(sides[1].account, seconds)
    before, after = ({name: median(values) for name, values in of_side.items()} for of_side in taken)
    return [
        *(
            Figure(
                f"{name}, {many:,} scheduled",
                after[name],
                "ms",
                "",
                f"{before[name]:.1f} ms with none: {after[name] / before[name]:.2f} times",
            )
            for name in after
        ),
        Figure(f"released late, the latest of {len(late):,}", max(late), "s", "< 2", f"median {median(late):.2f} s"),
    ]


def _side(stack: ExitStack, scheduled: int) -> Side:
    running = stack.enter_context(installation(Shape(api=1, flower=False)))
    account = Account(running)
    token, *_ = [account.enroll(f"bench/phone-{n}") for n in range(PHONES)]
    phone = min(device["id"] for device in account.call("GET", "/api/devices"))
    far = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    for start in range(0, scheduled, OF_A_BULK):
        numbers = [f"+99890{number:07d}" for number in range(start, min(start + OF_A_BULK, scheduled))]
        body = {"message": "Later", "recipients": numbers, "device_id": "active", "send_at": far}
        check("accepted", len(account.call("POST", "/api/sms/bulk", body)), len(numbers))
    headers = {"Authorization": f"Bearer {token}"}
    client = stack.enter_context(Client(base_url=running.url, headers=headers, timeout=120))
    return Side(running, account, phone, client)


def _lateness(account: Account, seconds: int) -> list[float]:
    """Seconds from when each of them was due until it waited for a phone; by the database's clock."""
    start = datetime.now(UTC) + timedelta(seconds=5)
    for second in range(seconds):
        numbers = [f"+99891{number:07d}" for number in range(DUE_EACH)]
        at = (start + timedelta(seconds=second)).isoformat()
        body = {"message": "Now", "recipients": numbers, "device_id": "active", "send_at": at}
        check("accepted", len(account.call("POST", "/api/sms/bulk", body)), DUE_EACH)
    with psycopg.connect(account.database_url, autocommit=True) as connection:
        released = (
            "FROM messages m JOIN message_queue q ON q.message_id = m.id"
            f" WHERE m.message = 'Now' AND q.stage <> {Stage.HELD}"
        )
        many = DUE_EACH * seconds
        deadline = time.monotonic() + seconds + 60
        while connection.execute(f"SELECT count(*) {released}").fetchone() != (many,):
            check("released in time", time.monotonic() < deadline, expected=True)
            time.sleep(0.5)
        # Routing moves `since`, and what it routed was released before that.
        statement = f"SELECT EXTRACT(EPOCH FROM COALESCE(m.routed_at, q.since) - m.scheduled_at) {released}"
        late = [float(row[0]) for row in connection.execute(statement)]
    check("released before they were due", [seconds for seconds in late if seconds < 0], [])
    return late


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
