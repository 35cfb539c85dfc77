"""From POST to the phone having the message: on an idle gateway, and during a campaign on the same phones.

Sender and phones share a process and a clock. The simulated phones start their pull at once when they are woken; a real
app's job scheduler adds its own tens of milliseconds, which no gateway can change.
"""

import asyncio
import json
import random
import sys
import time

import uvloop

from app.local.installation import Shape
from benchmarks.gateway import Account, Figure, check, installation, percentile
from phones.behaviour import Behaviour
from phones.fleet import Fleet
from phones.http import Headers, HttpClient, Url

PHONES = 5


def run(*, smoke: bool = False) -> list[Figure]:
    with installation(Shape(api=1, flower=False)) as running:
        idle = uvloop.run(_idle(Account(running), 10 if smoke else 300))
        busy = uvloop.run(_busy(Account(running), 300 if smoke else 100_000, 10 if smoke else 300))
    return [
        Figure("POST to the phone having it, idle, median", percentile(idle, 50), "ms", "< 30 ms"),
        Figure("POST to the phone having it, idle, p99", percentile(idle, 99), "ms", "< 100 ms"),
        Figure("POST to the phone having it, during a campaign, p99", percentile(busy, 99), "ms", "< 500 ms"),
    ]


async def _send(client: HttpClient, account: Account, number: int) -> tuple[str, float]:
    """Send one message; its id, and when the request left."""
    body = {"message": "Your code is 1", "recipient_number": f"+99891{number:07d}", "device_id": "active"}
    url = Url.parse(f"{account.url}/api/sms")
    headers = Headers({"Authorization": f"Bearer {account.token}", "Content-Type": "application/json"})
    left = time.monotonic()
    answer = await client.call("POST", url, headers, json.dumps(body).encode(), 10)
    check("status", answer.status, 201)
    return json.loads(answer.body)["data"]["message_id"], left


async def _measured(fleet: Fleet, account: Account, sends: int, pause: float) -> list[float]:
    """Milliseconds from the request to the phone's radio, of sends at random moments."""
    client = HttpClient()
    left: dict[str, float] = {}
    for number in range(sends):
        message, at = await _send(client, account, number)
        left[message] = at
        await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
    await fleet.wait_until(lambda: not fleet.ledger.missing(set(left)), 120)
    await client.close()
    return sorted(
        (entry.monotonic - left[entry.message_id]) * 1000 for entry in fleet.ledger if entry.message_id in left
    )


async def _idle(account: Account, sends: int) -> list[float]:
    behaviour = Behaviour(send_time=0.0, delivery_delay=0.05, pull_latency=0.0)
    async with Fleet(account.url, account.phone_token, count=PHONES, behaviour=behaviour) as fleet:
        # The first ones after a start open the connections of every process and make their plans.
        await _measured(fleet, account, 10, 0.1)
        return await _measured(fleet, account, sends, 0.1)


async def _busy(account: Account, campaign: int, sends: int) -> list[float]:
    """The phones send as they can; each reports in arrays, so that the campaign keeps all of them busy."""
    behaviour = Behaviour(send_time=0.005, delivery_delay=0.05, pull_latency=0.0, reports="array")
    async with Fleet(account.url, account.phone_token, count=PHONES, behaviour=behaviour) as fleet:
        body = {
            "message": "A campaign",
            "recipients": [f"+99890{n:07d}" for n in range(campaign)],
            "device_id": "active",
        }
        await asyncio.to_thread(account.call, "POST", "/api/sms/bulk", body)
        await fleet.wait_until(lambda: len(fleet.ledger) > min(200, campaign // 3), 60)
        measured = await _measured(fleet, account, sends, 0.05)
        check(
            "the campaign was still under way",
            account.count("status = 'pending'") > 0 or campaign < 1000,
            expected=True,
        )
        return measured


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
