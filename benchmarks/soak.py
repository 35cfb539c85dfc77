"""A soak: phones that disconnect, lose answers, repeat and reorder reports and die for good, at random, while their
owner cancels messages and switches off and removes phones; what went on air is compared with what was accepted.

None lost: every message went on air, or was cancelled, or says of itself that it failed, or that nobody can know. None
twice, and none that was cancelled. The pace of every phone that has one is kept by the hand-out alone, since the phones
themselves ignore it.
"""

import random
import sys
import time
from collections import defaultdict
from http import HTTPStatus

import psycopg

from app.local.installation import Shape
from benchmarks.gateway import Account, Figure, check, installation
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from phones.ledger import Ledger
from phones.virtual import Phone

PACE_SECONDS = 1
PACED = 0.1
# Of the phones, every so many-th from a place on. The first ones have a delay: one of them dies too.
DIE, REMOVED, SWITCHED = 1, 3, 5
CANCELLED = 0.02


def run(*, smoke: bool = False) -> list[Figure]:
    return soak(20, 400, (1.0, 3.0), every=8) if smoke else soak(200, 50_000, (10.0, 60.0), every=20)


def soak(count: int, messages: int, dies_after: tuple[float, float], every: int) -> list[Figure]:
    """One run. Of every so many phones one dies, so long after the send; one is removed and one is switched off."""
    with installation(Shape(api=2, dispatch=2, flower=False)) as running:
        account = Account(running)
        behaviours = [_behaviour(slow=index % every == DIE) for index in range(count)]
        with FleetThread(running.url, account.phone_token, count=count, behaviour=behaviours.__getitem__) as fleet:
            numbers = _pace(account, {phone.device_id for phone in fleet.phones})
            dying = fleet.phones[DIE::every]
            removed = {numbers[phone.device_id] for phone in fleet.phones[REMOVED::every]}
            switched = {numbers[phone.device_id] for phone in fleet.phones[SWITCHED::every]}
            began = time.perf_counter()
            accepted = _send(account, messages)
            fleet.do(lambda: _let_die(dying, dies_after))
            _disturb(account, accepted, removed, switched)
            fleet.wait_until(lambda: all(phone.dead for phone in dying), 120)
            dead = {numbers[phone.device_id] for phone in dying}
            seconds = _settle(account, dead, removed, began)
            figures = _judge(account, fleet.ledger, accepted, dead | removed)
    return [
        Figure("phones", count, "", "", f"{len(removed)} were removed, {len(switched)} switched off and on"),
        Figure("phones that died", len(dead), ""),
        Figure("messages settled", messages / seconds, "messages/s"),
        *figures,
    ]


def _behaviour(*, slow: bool) -> Behaviour:
    """Those that will die are slow, so that they die with something in their hands."""
    return Behaviour(
        send_time=(0.2, 0.4) if slow else (0.005, 0.05),
        delivery_delay=(0.0, 0.5),
        failure_rate=0.01,
        lost_answers=0.02,
        duplicates=0.05,
        reorder=0.05,
        disconnect_every=(5.0, 60.0),
        keeps_pace=False,
        time_factor=0.2,
    )


def _let_die(phones: list[Phone], after: tuple[float, float]) -> None:
    draw = random.Random(0)
    for phone in phones:
        phone.work.at("death", draw.uniform(*after), phone.die)


def _pace(account: Account, known: set[str]) -> dict[str, int]:
    """Give some phones a delay, and remove those that only exist because the answer to their enrolling got lost.

    Answers the phones' numbers.
    """
    devices = account.call("GET", "/api/devices")
    for device in devices:
        if device["device_id"] not in known:
            account.client.delete(f"/api/devices/{device['id']}").raise_for_status()
    paced = [device for device in devices if device["device_id"] in known][: int(len(known) * PACED)]
    for device in paced:
        account.call("PATCH", f"/api/devices/{device['id']}", {"send_delay_seconds": PACE_SECONDS})
    return {device["device_id"]: device["id"] for device in devices if device["device_id"] in known}


def _send(account: Account, messages: int) -> set[str]:
    body = {
        "message": "Soak",
        "recipients": [f"+99890{number:07d}" for number in range(messages)],
        "device_id": "active",
    }
    return {item["message_id"] for item in account.call("POST", "/api/sms/bulk", body)}


def _disturb(account: Account, accepted: set[str], removed: set[int], switched: set[int]) -> None:
    """What an owner may do while messages go out."""
    for number in switched:
        account.call("PATCH", f"/api/devices/{number}", {"is_active": False})
    for name in random.Random(0).sample(sorted(accepted), int(len(accepted) * CANCELLED)):
        answer = account.client.post(f"/api/sms/{name}/cancel")
        if answer.status_code != HTTPStatus.UNPROCESSABLE_ENTITY:  # too late
            answer.raise_for_status()
    for number in removed:
        account.client.delete(f"/api/devices/{number}").raise_for_status()
    for number in switched:
        account.call("PATCH", f"/api/devices/{number}", {"is_active": True})


# The messages that will not change any more, because their phone has them and is dead or removed, are not waited for.
_WAITING = """
    status IN ('pending', 'sent') AND NOT (device_id IN ({gone}) AND NOT EXISTS (
        SELECT FROM message_queue q WHERE q.message_id = messages.id AND q.stage = 0))
"""


def _settle(account: Account, dead: set[int], removed: set[int], began: float, patience: float = 90) -> float:
    """Wait until nothing is pending but what a dead or removed phone has; the seconds until the last change."""
    _make_silent(account, dead)
    waiting_for = _WAITING.format(gone=", ".join(map(str, sorted(dead | removed))))
    last, since = -1, time.perf_counter()
    while True:
        waiting = account.count(waiting_for)
        now = time.perf_counter()
        if waiting != last:
            last, since = waiting, now
        if waiting == 0 or now - since > patience:
            return since - began
        time.sleep(0.5)


def _make_silent(account: Account, dead: set[int]) -> None:
    """Spare the three minutes until what waits for the dead moves to others."""
    moments = "seen_at", "pulled_at", "stream_seen_at", "woken_at"
    past = ", ".join(f"{moment} = {moment} - interval '4 minutes'" for moment in moments)
    with psycopg.connect(account.database_url) as connection:
        connection.execute(f"UPDATE device_state SET {past} WHERE device_id = ANY(%s)", [list(dead)])


def _statuses(account: Account) -> dict[str, tuple[str, int | None, int | None]]:
    """Of each message its status, its stage while it is pending, and its phone."""
    with psycopg.connect(account.database_url) as connection:
        rows = connection.execute(
            "SELECT m.message_id, m.status, q.stage, m.device_id FROM messages m"
            " LEFT JOIN message_queue q ON q.message_id = m.id WHERE m.user_id = %s",
            [account.user_id],
        )
        return {str(name): (status, stage, device) for name, status, stage, device in rows}


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


def _judge(account: Account, ledger: Ledger, accepted: set[str], gone: set[int]) -> list[Figure]:
    statuses = _statuses(account)
    on_air = ledger.message_ids()
    named = defaultdict(set)
    for name, (status, _, _) in statuses.items():
        named[status].add(name)
    # It was given the message and said nothing final of it.
    unknown = {name for name, (status, stage, device) in statuses.items() if _has_it(status, stage, device, gone)}
    lost = accepted - on_air - unknown - named["failed"] - named["cancelled"]
    released, early = _slots(account)
    early += len(ledger.before(released))
    check("accepted", set(statuses), accepted)
    check("lost", sorted(lost), [])
    check("on air twice", sorted(ledger.sent_twice()), [])
    check("same text to a number twice", len(ledger.same_text_twice()), 0)
    check("on air though cancelled", sorted(named["cancelled"] & on_air), [])
    check("on air before their slot", early, 0)
    return [
        Figure("on air", len(on_air), "messages"),
        Figure("delivered", len(named["delivered"]), "messages"),
        Figure("failed, the phone says", len(named["failed"]), "messages"),
        Figure("cancelled", len(named["cancelled"]), "messages"),
        Figure("with phones that died or were removed", len(unknown), "messages"),
        Figure("lost", len(lost), "messages", "0"),
        Figure("twice", len(ledger.sent_twice()), "messages", "0"),
        Figure("before their slot", early, "messages", "0"),
    ]


def _has_it(status: str, stage: int | None, device: int | None, gone: set[int]) -> bool:
    return status == "pending" and stage in {1, 2} and device in gone


if __name__ == "__main__":
    for figure in run(smoke="--smoke" in sys.argv):
        print(figure.row())
