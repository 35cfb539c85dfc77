"""A soak: phones that disconnect, lose answers, repeat and reorder reports and die for good, at random; what went on
air is compared with what was accepted.

None lost: every message went on air, or says of itself that it failed, or that nobody can know. None twice. The pace of
every phone that has one is kept by the hand-out alone, since the phones themselves ignore it.
"""

import random
import sys
import time
from collections import Counter
from typing import Any

import psycopg

from app.local.installation import Shape
from benchmarks.gateway import Account, Figure, check, installation
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from phones.ledger import Ledger

PACE_SECONDS = 1
DYING = 0.05
PACED = 0.1


def run(*, smoke: bool = False) -> list[Figure]:
    phones, messages = (20, 400) if smoke else (200, 50_000)
    with installation(Shape(api=2, dispatch=2, flower=False)) as running:
        account = Account(running)
        fleet = FleetThread(running.url, account.phone_token, count=phones, behaviour=_behaviour)
        with fleet:
            _pace(account, {phone.device_id for phone in fleet.phones})
            began = time.perf_counter()
            accepted = _send(account, messages)
            seconds = _settle(account, began)
            statuses = _statuses(account)
            dead = sum(phone.dead for phone in fleet.phones)
            figures = _judge(account, fleet.ledger, accepted, statuses)
    return [
        Figure("phones", phones, "", "", f"{dead} of them died"),
        Figure("messages settled", messages / seconds, "messages/s"),
        *figures,
    ]


def _behaviour(index: int) -> Behaviour:
    draw = random.Random(index)
    return Behaviour(
        send_time=(0.005, 0.05),
        delivery_delay=(0.0, 0.5),
        failure_rate=0.01,
        lost_answers=0.02,
        duplicates=0.05,
        reorder=0.05,
        disconnect_every=(5.0, 60.0),
        keeps_pace=False,
        time_factor=0.2,
        dies_after=(10.0, 60.0) if draw.random() < DYING else None,
    )


def _pace(account: Account, known: set[str]) -> None:
    """Give some phones a delay, and remove those that only exist because the answer to their enrolling got lost."""
    devices = account.call("GET", "/api/devices")
    for device in devices:
        if device["device_id"] not in known:
            account.client.delete(f"/api/devices/{device['id']}").raise_for_status()
    paced = [device for device in devices if device["device_id"] in known][: int(len(known) * PACED)]
    for device in paced:
        account.call("PATCH", f"/api/devices/{device['id']}", {"send_delay_seconds": PACE_SECONDS})


def _send(account: Account, messages: int) -> set[str]:
    body = {
        "message": "Soak",
        "recipients": [f"+99890{number:07d}" for number in range(messages)],
        "device_id": "active",
    }
    return {item["message_id"] for item in account.call("POST", "/api/sms/bulk", body)}


def _settle(account: Account, began: float, patience: float = 90) -> float:
    """Wait until nothing is pending but what a dead phone has; the seconds until the last change."""
    last, since = -1, time.perf_counter()
    while True:
        waiting = account.count("status IN ('pending', 'sent')")
        now = time.perf_counter()
        if waiting != last:
            last, since = waiting, now
        if waiting == 0 or now - since > patience:
            return since - began
        time.sleep(0.5)


def _statuses(account: Account) -> dict[str, tuple[str, int | None]]:
    with psycopg.connect(account.database_url) as connection:
        rows = connection.execute(
            "SELECT m.message_id, m.status, q.stage FROM messages m LEFT JOIN message_queue q ON q.message_id = m.id"
            " WHERE m.user_id = %s",
            [account.user_id],
        )
        return {str(name): (status, stage) for name, status, stage in rows}


def _slots(account: Account) -> tuple[dict[str, float], int]:
    """When each message was given out, and how many came sooner after the one before than their phone's delay."""
    with psycopg.connect(account.database_url) as connection:
        rows = connection.execute(
            "SELECT m.message_id, extract(epoch FROM r.at)::float8, COALESCE(r.at - lag(r.at) OVER ("
            "PARTITION BY m.device_id ORDER BY r.at) < make_interval(secs => d.send_delay_seconds), false)"
            " FROM messages m LEFT JOIN message_queue q ON q.message_id = m.id JOIN devices d ON d.id = m.device_id,"
            " LATERAL (SELECT COALESCE(m.released_at, q.released_at) AS at) r"
            " WHERE m.user_id = %s AND r.at IS NOT NULL",
            [account.user_id],
        ).fetchall()
    return {str(name): at for name, at, _ in rows}, sum(early for _, _, early in rows)


def _judge(account: Account, ledger: Ledger, accepted: set[str], statuses: dict[str, Any]) -> list[Figure]:
    on_air = ledger.message_ids()
    counts = Counter(status for status, _ in statuses.values())
    # With a phone that died: it was given the message and said nothing final of it.
    unknown = {name for name, (status, stage) in statuses.items() if status == "pending" and stage in {1, 2}}
    lost = accepted - on_air - unknown - {name for name, (status, _) in statuses.items() if status == "failed"}
    released, early = _slots(account)
    early += len(ledger.before(released))
    check("accepted", set(statuses), accepted)
    check("lost", sorted(lost), [])
    check("on air twice", sorted(ledger.sent_twice()), [])
    check("same text to a number twice", len(ledger.same_text_twice()), 0)
    check("on air before their slot", early, 0)
    return [
        Figure("on air", len(on_air), "messages"),
        Figure("delivered", counts["delivered"], "messages"),
        Figure("failed, the phone says", counts["failed"], "messages"),
        Figure("with phones that died", len(unknown), "messages"),
        Figure("lost", len(lost), "messages", "0"),
        Figure("twice", len(ledger.sent_twice()), "messages", "0"),
        Figure("before their slot", early, "messages", "0"),
    ]


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
