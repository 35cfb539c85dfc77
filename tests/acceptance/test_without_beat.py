"""What the gateway does at once, without any task that comes by the clock.

Sweeps repair what was lost, and they hide what was never told: with them everything here would happen too, only seconds
later. So this installation has no beat, and what a phone looks for by itself it looks for every 15 seconds.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from app.local.installation import Installation, Shape
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from tests.acceptance.test_nothing_lost import Account
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver, answer

AT_ONCE = 12
NUMBER = "+998900000000"
AT_PHONE = "SELECT count(*) FROM message_queue WHERE device_id = %s"
WAITING, TAKEN = f"{AT_PHONE} AND stage = 0", f"{AT_PHONE} AND stage > 0"

QUICK = Behaviour(send_time=0.01, delivery_delay=0.05, time_factor=0.1, triggers="join")
SLOW = Behaviour(send_time=30.0, time_factor=0.1, triggers="join")
FAILING = Behaviour(send_time=0.01, failure_rate=1.0, time_factor=0.1, triggers="join")


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(
        tmp_path_factory.mktemp("without-beat") / "data",
        shape=Shape(beat=False, flower=False),
        temporary=True,
        output=lambda *_: None,
        port="0",
    ) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def account(installation: Installation, receiver: Receiver) -> Iterator[Account]:
    with Account(installation, receiver) as one:
        yield one


@pytest.fixture
def sql(installation: Installation) -> Iterator[psycopg.Connection]:
    with psycopg.connect(installation.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def statuses(account: Account) -> Callable[[], Counter[str]]:
    def look() -> Counter[str]:
        page = account.client.get("/api/sms/outbox", params={"per_page": 200}).json()["data"]["data"]
        return Counter(message["status"] for message in page)

    return look


def device_of(account: Account, fleet: FleetThread, index: int) -> int:
    """The gateway's number of a simulated phone."""
    name = fleet.phones[index].device_id
    [number] = [device["id"] for device in account.call("GET", "/api/devices") if device["device_id"] == name]
    return number


def test_a_bulk_and_single_sends_together(account, receiver, statuses):
    with account.phones(2, QUICK):
        account.send_bulk(60)
        until(lambda: statuses() == {"delivered": 60}, AT_ONCE)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(account.send_single, range(16)))
        until(lambda: statuses() == {"delivered": 76}, AT_ONCE)
        until(lambda: sum(one.json["data"]["status"] == "delivered" for one in receiver.received) == 76 + 16, AT_ONCE)


def test_a_campaign_that_is_paused_and_resumed(account, statuses):
    campaign = account.call("POST", "/api/campaigns", {"name": "Sale", "message": "Hello"})["id"]
    path = f"/api/campaigns/{campaign}"
    rows = "phone\n" + "".join(f"+99890{number:07d}\n" for number in range(150))
    account.client.put(f"{path}/recipients", content=rows, headers={"Content-Type": "text/csv"}).raise_for_status()
    with account.phones(1, Behaviour(send_time=0.02, delivery_delay=0.05, time_factor=0.1, triggers="join")):
        account.call("POST", f"{path}/start", {})
        until(lambda: statuses()["delivered"] > 5, AT_ONCE)
        account.call("POST", f"{path}/pause", {})
        account.call("POST", f"{path}/resume", {})
        until(lambda: statuses() == {"delivered": 150}, AT_ONCE)


def test_a_phone_that_is_switched_on_gets_what_waits(account, sql):
    with account.phones(2, SLOW) as fleet:
        other = device_of(account, fleet, 1)
        account.call("PATCH", f"/api/devices/{other}", {"is_active": False})
        account.send_bulk(100)
        account.call("PATCH", f"/api/devices/{other}", {"is_active": True})
        until(lambda: sql.execute(TAKEN, [other]).fetchone()[0] >= 20, AT_ONCE)


def test_what_waits_for_a_removed_phone_goes_to_another(account, sql):
    with account.phones(2, SLOW) as fleet:
        removed, other = device_of(account, fleet, 0), device_of(account, fleet, 1)
        account.send_bulk(70)
        until(lambda: sql.execute(WAITING, [removed]).fetchone()[0] > 0, AT_ONCE)
        before = sql.execute(AT_PHONE, [other]).fetchone()[0]
        account.client.delete(f"/api/devices/{removed}").raise_for_status()
        until(lambda: sql.execute(WAITING, [removed]).fetchone()[0] == 0, AT_ONCE)
        until(lambda: sql.execute(AT_PHONE, [other]).fetchone()[0] > before, AT_ONCE)


def test_a_failed_message_is_tried_again(account, sql, statuses):
    with account.phones(1, FAILING):
        message = account.send_single(1)
        until(lambda: statuses() == {"failed": 1}, AT_ONCE)
        account.call("POST", f"/api/sms/{message}/retry", {})
        of_it = "SELECT attempt, status FROM messages WHERE message_id = %s"
        until(lambda: sql.execute(of_it, [message]).fetchone() == (2, "failed"), AT_ONCE)


def test_what_waits_for_a_number_that_opts_out_is_cancelled(account, sql, statuses):
    with account.phones(1, SLOW) as fleet:
        account.send_bulk(60)
        phone = device_of(account, fleet, 0)
        until(lambda: sql.execute(TAKEN, [phone]).fetchone() == (20,), AT_ONCE)
        account.call("POST", "/api/opt-outs", {"phone_number": "+998900000059"})
        until(lambda: statuses()["cancelled"] == 1, AT_ONCE)


def test_a_keyword_is_answered(account, statuses):
    account.call("PATCH", "/api/opt-outs/settings", {"opt_out_reply": "Good bye"})
    with account.phones(1, QUICK) as fleet:
        fleet.wait_until(lambda: bool(fleet.phones[0].hooks.known))
        fleet.receive_inbound(0, NUMBER, "STOP")
        until(lambda: statuses() == {"delivered": 1}, AT_ONCE)


def test_what_a_phone_has_is_asked_back(account, sql, statuses):
    with account.phones(1, SLOW) as fleet:
        account.send_bulk(10)
        phone = device_of(account, fleet, 0)
        until(lambda: sql.execute(TAKEN, [phone]).fetchone() == (10,), AT_ONCE)
        newest = account.client.get("/api/sms/outbox?per_page=1").json()["data"]["data"][0]["id"]
        account.call("POST", f"/api/sms/{newest}/cancel", {})
        assert statuses() == {"pending": 9, "cancelled": 1}


def test_webhooks_that_wait_for_another_url_and_those_posted_once_more(account, receiver, statuses):
    def moved() -> set[str]:
        return {one.json["data"]["status"] for one in receiver.received if one.path == "/moved"}

    def deliveries() -> list[dict]:
        return account.client.get("/api/webhooks/deliveries").json()["data"]["data"]

    # In an hour again, so that it is the new URL that brings it forward.
    receiver.behaviour = answer(500, headers="Retry-After: 3600\r\n")
    with account.phones(1, QUICK):
        account.send_bulk(1)
        until(lambda: statuses() == {"delivered": 1}, AT_ONCE)
        until(lambda: any(one["attempts"] for one in deliveries()), AT_ONCE)
        receiver.behaviour = answer(200)
        account.call("PUT", "/api/webhooks", {"webhook_url_status": receiver.url("/moved")})
        until(lambda: "delivered" in moved(), AT_ONCE)
        posted = len(receiver.received)
        until(lambda: {one["state"] for one in deliveries()} == {"delivered"}, AT_ONCE)
        account.call("POST", f"/api/webhooks/deliveries/{deliveries()[0]['id']}/replay", {})
        until(lambda: len(receiver.received) > posted, AT_ONCE)


def test_an_account_that_is_deleted_is_erased(account, sql):
    with account.phones(1, QUICK):
        account.send_bulk(3)
    user = account.call("GET", "/api/user")["id"]
    of_it = "SELECT count(*) FROM messages WHERE user_id = %s"
    assert sql.execute(of_it, [user]).fetchone() == (3,)
    answered: httpx.Response = account.client.request("DELETE", "/api/user", json={"current_password": "secret-1"})
    answered.raise_for_status()
    until(lambda: sql.execute(of_it, [user]).fetchone() == (0,), AT_ONCE)
