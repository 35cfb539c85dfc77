"""Campaigns through a whole installation of two of each process.

What is proven is seen from outside: in the phones' ledger of what went on air, and in the receiver's log.
"""

import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Self

import httpx
import psycopg
import pytest

from app.local.installation import Installation, Shape
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver

PHONES = 6
BULK = 1200
SINGLE = 60

pytestmark = pytest.mark.timeout(300)


class Account:
    """A user of the installation, who sends and is called back."""

    def __init__(self, installation: Installation, receiver: Receiver) -> None:
        self.receiver = receiver
        self.client = httpx.Client(base_url=installation.url, timeout=30)
        password = "secret-1"
        person = {"name": "Tester", "email": f"{uuid.uuid4().hex}@example.com"}
        answer = self.call("POST", "/api/register", {**person, "password": password, "password_confirmation": password})
        self.client.headers["Authorization"] = f"Bearer {answer['token']}"
        key = self.call("POST", "/api/tokens", {"name": "phones", "abilities": ["phone:enroll"]})
        self.enrolling_key: str = key["token"]
        self.call("PUT", "/api/webhooks", {"webhook_url_status": receiver.url("/status")})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer. Repeated with one key while the gateway is away, as a careful client does."""
        key = {"Idempotency-Key": uuid.uuid4().hex} if path.startswith("/api/sms") and method == "POST" else {}
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self.client.request(method, path, json=body, headers=key)
            except httpx.TransportError:
                assert time.monotonic() < deadline
                continue
            if answer.status_code not in {409, 503} or time.monotonic() > deadline:
                answer.raise_for_status()
                return answer.json().get("data")

    def phones(self, count: int, behaviour: Behaviour) -> FleetThread:
        return FleetThread(str(self.client.base_url), self.enrolling_key, count=count, behaviour=behaviour)

    def send_bulk(self, messages: int = BULK) -> set[str]:
        recipients = [f"+99890{number:07d}" for number in range(messages)]
        body = {"message": "A campaign", "recipients": recipients, "device_id": "active"}
        return {item["message_id"] for item in self.call("POST", "/api/sms/bulk", body)}

    def send_single(self, number: int) -> str:
        body = {
            "message": f"Your code is {number}",
            "recipient_number": f"+99891{number:07d}",
            "device_id": "active",
            "callback_url": self.receiver.url("/callback"),
        }
        message_id: str = self.call("POST", "/api/sms", body)["message_id"]
        return message_id


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    shape = Shape(api=2, dispatch=2, webhooks=2, flower=False)
    lines: list[str] = []
    with Installation(
        tmp_path_factory.mktemp("campaigns") / "data",
        shape=shape,
        temporary=True,
        output=lambda name, line: lines.append(f"{name}| {line}"),
        port="0",
    ) as running:
        yield running


def test_every_message_goes_on_air_once_and_every_receiver_is_told(installation: Installation) -> None:
    """Undisturbed, and of what comes exactly so much is asked for; `tests/chaos` breaks everything meanwhile."""
    behaviour = Behaviour(
        send_time=0.02, delivery_delay=(0.05, 0.3), duplicates=0.05, reorder=0.05, time_factor=0.1, triggers="join"
    )
    with Receiver() as receiver, Account(installation, receiver) as account, account.phones(PHONES, behaviour) as fleet:
        bulk = account.send_bulk()
        single = {account.send_single(number) for number in range(SINGLE)}
        accepted = bulk | single
        until(lambda: not fleet.do(lambda: fleet.ledger.missing(accepted)), 120)
        receiver.wait_for(2 * len(accepted) + len(single), 120)
        until(lambda: not untold(receiver, accepted, single), 60)
        assert len(accepted) == BULK + SINGLE
        assert fleet.ledger.message_ids() == accepted
        assert not fleet.ledger.sent_twice()
    told_once_or_with_the_same_id(receiver)
    assert statuses(installation, accepted) == {"delivered": BULK + SINGLE}


def test_shares_are_equal_with_two_of_each_process(installation: Installation) -> None:
    with Receiver() as receiver, Account(installation, receiver) as account:
        behaviour = Behaviour(send_time=0.0, delivery_delay=0.01, triggers="join")
        with account.phones(4, behaviour) as fleet:
            sent = {account.send_single(number) for number in range(40)}
            until(lambda: not fleet.do(lambda: fleet.ledger.missing(sent)), 60)
            assert set(Counter(entry.phone for entry in fleet.ledger).values()) == {10}


def test_pace_is_kept_with_two_of_each_process(installation: Installation) -> None:
    with Receiver() as receiver, Account(installation, receiver) as account:
        behaviour = Behaviour(send_time=0.0, delivery_delay=0.01, keeps_pace=False, triggers="join", ping_every=0.05)
        with account.phones(2, behaviour):
            for device in account.call("GET", "/api/devices"):
                account.call("PUT", f"/api/devices/{device['id']}", {"send_delay_seconds": 1})
            sent = account.send_bulk(12)
            until(lambda: statuses(installation, sent) == {"delivered": 12}, 60)
    released = defaultdict(list)
    with psycopg.connect(installation.database_url) as connection:
        rows = connection.execute(
            "SELECT device_id, released_at FROM messages WHERE message_id = ANY(%s) ORDER BY released_at",
            [list(map(uuid.UUID, sent))],
        )
        for device, at in rows:
            released[device].append(at)
    gaps = [(b - a).total_seconds() for times in released.values() for a, b in pairwise(times)]
    assert len(gaps) == 10
    assert min(gaps) >= 1.0


def test_sends_are_accepted_while_the_broker_is_down_and_go_out_when_it_is_back(installation: Installation) -> None:
    quick = Behaviour(send_time=0.0)
    with Receiver() as receiver, Account(installation, receiver) as account, account.phones(2, quick) as fleet:
        installation.hold("valkey")
        try:
            sent = {account.send_single(number) for number in range(5)}
            assert statuses(installation, sent) == {"pending": 5}
        finally:
            installation.let_go("valkey")
        until(lambda: not fleet.do(lambda: fleet.ledger.missing(sent)), 60)
        assert not fleet.ledger.sent_twice()


def untold(receiver: Receiver, accepted: set[str], called_back: set[str]) -> set[tuple[str, str]]:
    """What a receiver of every change and the callbacks' receiver have yet to hear."""
    told = {
        (request.path, request.json["data"]["message_id"], request.json["data"]["status"])
        for request in receiver.received
    }
    wanted = {("/status", message, status) for message in accepted for status in ("sent", "delivered")}
    wanted |= {("/callback", message, "delivered") for message in called_back}
    return wanted - told


def told_once_or_with_the_same_id(receiver: Receiver) -> None:
    ids = defaultdict(set)
    for request in receiver.received:
        data = request.json["data"]
        ids[request.path, data["message_id"], data["status"]].add(request.webhook_id)
    assert {key: found for key, found in ids.items() if len(found) > 1} == {}


def statuses(installation: Installation, messages: set[str]) -> dict[str, int]:
    with psycopg.connect(installation.database_url) as connection:
        rows = connection.execute(
            "SELECT status, count(*) FROM messages WHERE message_id = ANY(%s) GROUP BY status",
            [list(map(uuid.UUID, messages))],
        )
        return dict(rows.fetchall())
