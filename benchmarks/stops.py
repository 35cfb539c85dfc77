"""How fast a STOP works while a campaign of 100,000 runs: from the phone's post until nothing waits for its sender.

Twenty phones send the campaign meanwhile. Those who stop are in turn of the next who get their messages, so that one
waits already, and of the last, of whom the campaign has made none yet. In the end none of them may have been given to a
phone later than a second after the post.
"""

import json
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import psycopg

from app.core.http_client import Client
from app.local.installation import Shape
from benchmarks.campaign import phones
from benchmarks.gateway import Account, CheckFailedError, Figure, check, installation, percentile
from phones.wire import sign

WANTED_SECONDS = 1.0
TIMEOUT_SECONDS = 60

_RECIPIENTS = """
    INSERT INTO campaign_recipients (campaign_id, place, number)
    SELECT %(campaign)s, place, '+99890' || lpad(place::text, 7, '0') FROM generate_series(1, %(most)s) place
"""
_WAITS = """
    SELECT m.recipient_number FROM message_queue q JOIN messages m ON m.id = q.message_id
    WHERE q.user_id = %s AND q.stage = 0 ORDER BY q.message_id DESC LIMIT 1
"""
_LAST = """
    SELECT number FROM campaign_recipients r WHERE campaign_id = %s AND message_id IS NULL
      AND NOT EXISTS (SELECT FROM opt_outs o WHERE o.phone_number = r.number)
    ORDER BY place DESC LIMIT 1
"""
_LEFT = """
    SELECT EXISTS (SELECT FROM message_queue q JOIN messages m ON m.id = q.message_id
                   WHERE m.user_id = %s AND m.recipient_number = %s AND q.stage IN (0, 3))
"""
_GIVEN_LATE = """
    SELECT count(*) FROM messages m JOIN opt_outs o ON o.phone_number = m.recipient_number AND o.user_id = m.user_id
    LEFT JOIN message_queue q ON q.message_id = m.id
    WHERE m.direction = 'outbound' AND COALESCE(q.released_at, m.released_at) > o.since + interval '1 second'
"""


@dataclass(frozen=True)
class Hook:
    """Where a phone posts what it receives, and the key that signs it."""

    client: Client
    url: str
    key: str

    def receive(self, sender: str, text: str) -> None:
        event = {"message": text, "sender": sender, "messageId": uuid.uuid4().hex, "simNumber": 1}
        body = json.dumps({"id": uuid.uuid4().hex, "event": "sms:received", "payload": event}).encode()
        stamp = str(int(time.time()))
        headers = {"X-Timestamp": stamp, "X-Signature": sign(self.key, body, stamp)}
        self.client.post(self.url, content=body, headers=headers).raise_for_status()


def run(*, smoke: bool = False) -> list[Figure]:
    recipients, stops = (2000, 6) if smoke else (100_000, 60)
    posts, done = [], []
    with installation(Shape(api=1, flower=False)) as running:
        account = Account(running)
        with phones(account, "array"), psycopg.connect(running.database_url, autocommit=True) as sql:
            hook = _hook(account)
            campaign = _start(account, sql, recipients)
            for number in _senders(account, sql, campaign, stops):
                began = time.perf_counter()
                hook.receive(number, "STOP")
                posts.append((time.perf_counter() - began) * 1000)
                _wait_until_nothing_is_left(sql, account, number)
                done.append((time.perf_counter() - began) * 1000)
            [(stopped,), (late,)] = [
                sql.execute(statement).fetchall()[0] for statement in ("SELECT count(*) FROM opt_outs", _GIVEN_LATE)
            ]
            status = account.call("GET", f"/api/campaigns/{campaign}")["status"]
        check("stopped", stopped, stops)
        check("given to a phone later than a second after a STOP", late, 0)
        check("campaign", status, "running")
    name = f"STOP during a campaign of {recipients:,}"
    return [
        Figure(f"{name}: its post", median(posts), "ms", "", f"99 of 100: {percentile(sorted(posts), 99):.0f} ms"),
        Figure(
            f"{name}: until nothing waits for the number",
            max(done),
            "ms",
            f"< {WANTED_SECONDS * 1000:,.0f} ms",
            f"the slowest of {stops}; median {median(done):.0f} ms",
        ),
    ]


def _hook(account: Account) -> Hook:
    """Of a phone that is there to receive, and sends nothing."""
    token = account.enroll("bench/receiver")
    newest = max(device["id"] for device in account.call("GET", "/api/devices"))
    account.call("PATCH", f"/api/devices/{newest}", {"is_active": False})
    client = Client(base_url=account.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    url = next(hook["url"] for hook in client.get("/api/mobile/v1/webhooks").json() if hook["event"] == "sms:received")
    key = client.get("/api/mobile/v1/settings").json()["webhooks"]["signing_key"]
    return Hook(client, url, key)


def _start(account: Account, sql: psycopg.Connection, recipients: int) -> int:
    campaign: int = account.call("POST", "/api/campaigns", {"name": "Bench", "message": "A campaign"})["id"]
    sql.execute(_RECIPIENTS, {"campaign": campaign, "most": recipients})
    sql.execute("UPDATE campaigns SET recipients = %s WHERE id = %s", (recipients, campaign))
    account.call("POST", f"/api/campaigns/{campaign}/start", {})
    return campaign


def _senders(account: Account, sql: psycopg.Connection, campaign: int, most: int) -> Iterator[str]:
    """Numbers whose messages wait, and numbers that have none yet, in turn."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    for turn in range(most):
        statement, value = (_LAST, campaign) if turn % 2 else (_WAITS, account.user_id)
        while (found := sql.execute(statement, (value,)).fetchone()) is None:
            if time.monotonic() > deadline:
                raise CheckFailedError("the campaign came to its end before all had stopped")
            time.sleep(0.01)
        yield found[0]


def _wait_until_nothing_is_left(sql: psycopg.Connection, account: Account, number: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while sql.execute(_LEFT, (account.user_id, number)).fetchall()[0][0]:
        if time.monotonic() > deadline:
            raise CheckFailedError("a message still waits for a number that has opted out")
        time.sleep(0.002)


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
