"""From POST to the phone having the message: on an idle gateway, and during a campaign on the same phones.

Sends are due at random moments, whatever their answers do, and their time counts from then. Sender and phones share a
process and a clock. The simulated phones start their pull at once when they are woken; a real app's job scheduler adds
its own tens of milliseconds, which no gateway can change. In the campaign each message has a callback.
"""

import asyncio
import json
import random
import sys
import time
from typing import Literal

import uvloop

from app.local.installation import Shape
from benchmarks.gateway import Account, Figure, check, installation, percentile
from benchmarks.receiver import Receivers, receivers
from phones.behaviour import Behaviour
from phones.fleet import Fleet
from phones.http import Headers, HttpClient, Url

PHONES = 5
Reports = Literal["single", "array"]
REPORTS: dict[Reports, str] = {"single": "a request per report", "array": "reports in arrays"}


def run(*, smoke: bool = False) -> list[Figure]:
    sends, messages = (10, 300) if smoke else (600, 100_000)
    with installation(Shape(api=1, flower=False)) as running, receivers() as to:
        idle = uvloop.run(_idle(Account(running), sends))
        busy: dict[Reports, list[float]] = {}
        for kind in REPORTS:
            busy[kind] = uvloop.run(_busy(Account(running), messages, sends, kind, to))
    return [
        Figure("POST until the phone has it, idle, median", percentile(idle, 50), "ms", "< 30 ms"),
        Figure("POST until the phone has it, idle, p99", percentile(idle, 99), "ms", "< 100 ms"),
        *(
            Figure(
                f"POST until the phone has it, during a campaign of {messages:,}, {REPORTS[kind]}, p99",
                percentile(taken, 99),
                "ms",
                "< 500 ms",
                f"median {percentile(taken, 50):.0f} ms",
            )
            for kind, taken in busy.items()
        ),
    ]


async def _send(client: HttpClient, account: Account, number: int) -> str:
    """Send one message; its id."""
    body = {"message": "Your code is 1", "recipient_number": f"+99891{number:07d}", "device_id": "active"}
    url = Url.parse(f"{account.url}/api/sms")
    headers = Headers({"Authorization": f"Bearer {account.token}", "Content-Type": "application/json"})
    answer = await client.call("POST", url, headers, json.dumps(body).encode(), 10)
    check("status", answer.status, 201)
    return str(json.loads(answer.body)["data"]["message_id"])


async def _measured(fleet: Fleet, account: Account, sends: int, pause: float) -> list[float]:
    """Milliseconds from the moment a send was due to the phone's radio."""
    client = HttpClient()
    due: dict[str, float] = {}

    async def send(number: int, at: float) -> None:
        due[await _send(client, account, number)] = at

    async with asyncio.TaskGroup() as tasks:
        at = time.monotonic()
        for number in range(sends):
            at += random.uniform(0.5, 1.5) * pause
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            tasks.create_task(send(number, at))
    await fleet.wait_until(lambda: not fleet.ledger.missing(set(due)), 120)
    await client.close()
    on_air = [entry for entry in fleet.ledger if entry.message_id in due]
    check("on air, each once", (len(due), len(on_air)), (sends, sends))
    return sorted((entry.monotonic - due[entry.message_id]) * 1000 for entry in on_air)


async def _idle(account: Account, sends: int) -> list[float]:
    behaviour = Behaviour(send_time=0.0, delivery_delay=1.0, pull_latency=0.0)
    async with Fleet(account.url, account.phone_token, count=PHONES, behaviour=behaviour) as fleet:
        # The first ones after a start open the connections of every process and make their plans.
        await _measured(fleet, account, 10, 0.1)
        return await _measured(fleet, account, sends, 0.1)


async def _busy(account: Account, campaign: int, sends: int, reports: Reports, to: Receivers) -> list[float]:
    """The phones send as they can, so that the campaign keeps all of them busy."""
    behaviour = Behaviour(send_time=0.005, delivery_delay=1.0, pull_latency=0.0, reports=reports)
    async with Fleet(account.url, account.phone_token, count=PHONES, behaviour=behaviour) as fleet:
        body = {
            "message": "A campaign",
            "recipients": [f"+99890{n:07d}" for n in range(campaign)],
            "device_id": "active",
            "callback_url": to.urls[0],
        }
        await asyncio.to_thread(account.call, "POST", "/api/sms/bulk", body)
        await fleet.wait_until(lambda: len(fleet.ledger) > min(200, campaign // 3), 60)
        measured = await _measured(fleet, account, sends, 0.05)
        check(
            "the campaign was still under way",
            account.count("status = 'pending' AND lane = 1") > 0 or campaign < 1000,
            expected=True,
        )
        on_air = [entry.message_id for entry in fleet.ledger]
        check("on air twice", len(on_air) - len(set(on_air)), 0)
        await fleet.wait_until(lambda: to.came().requests > 0)  # or its webhooks were no load
        return measured


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
