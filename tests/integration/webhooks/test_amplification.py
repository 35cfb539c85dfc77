"""What keeps webhooks from being turned on somebody else, and a worker from being filled with large bodies."""

import asyncio
import itertools
import socket

import pytest

from app.core.database import transaction
from app.core.settings import Settings, get_settings
from app.webhooks import addresses
from app.webhooks.addresses import AddressRates, HeldAddressError
from app.webhooks.claims import LARGE, MAX_LARGE_BYTES, MAX_LARGE_BYTES_OF_USER, claim
from app.webhooks.guard import check_address, check_url_text
from app.webhooks.records import NEVER_ACCEPTED_REASON
from tests.integration.webhooks.conftest import (
    callback,
    execute,
    hasten,
    make_user,
    set_url,
    states,
    status,
    value,
    write,
)
from tests.integration.webhooks.test_faults import Names
from tests.support.waiting import until
from tests.support.webhooks_receiver import answer

VICTIM = "203.0.113.7"


def held(rates: AddressRates, address: str = VICTIM) -> bool:
    async def admit() -> bool:
        try:
            await rates.admit(address)
        except HeldAddressError:
            return True
        return False

    return asyncio.run(admit())


async def settle(rates: AddressRates, address: str, outcomes: list[bool]) -> None:
    for accepted in outcomes:
        rates.note(address, accepted=accepted)
    await asyncio.gather(*rates._sharing)


@pytest.fixture
def no_address_is_the_operators_own(monkeypatch) -> None:
    """A receiver on loopback stands for one of somebody else's."""
    monkeypatch.setattr(addresses, "is_allowed", lambda _: False)


def test_an_address_that_accepts_nothing_is_called_so_often_over_all_processes(servers) -> None:
    processes = itertools.cycle([AddressRates(), AddressRates()])
    assert [held(next(processes)) for _ in range(addresses.MAX_CALLS)] == [False] * addresses.MAX_CALLS
    first, second = next(processes), next(processes)
    assert held(first)
    assert held(second)
    assert not held(first, "203.0.113.8")
    # Known to be held, it is not asked for again.
    with pytest.raises(HeldAddressError, match=r"too many failed calls to 203\.0\.113\.7"):
        first.check(VICTIM)


def test_one_that_accepts_is_never_held_in_any_process(servers) -> None:
    rates = AddressRates()
    asyncio.run(settle(rates, "203.0.113.9", [True]))
    assert not any(held(rates, "203.0.113.9") for _ in range(3 * addresses.MAX_CALLS))
    started_later = AddressRates()
    assert not any(held(started_later, "203.0.113.9") for _ in range(2 * addresses.MAX_CALLS))


def test_one_that_stopped_accepting_is_counted_again(servers) -> None:
    rates, address = AddressRates(), "203.0.113.10"
    asyncio.run(settle(rates, address, [True, *[False] * (addresses.MAX_FAILURES - 1), True]))
    assert not any(held(rates, address) for _ in range(2 * addresses.MAX_CALLS)), "failures in a row, not in all"
    asyncio.run(settle(rates, address, [False] * addresses.MAX_FAILURES))
    assert any(held(rates, address) for _ in range(addresses.MAX_CALLS + 1))
    asyncio.run(settle(rates, address, [True]))
    assert not held(rates, address)


def test_many_names_and_accounts_reach_one_address_no_more_often(
    receiver, start_deliverer, monkeypatch, no_address_is_the_operators_own
) -> None:
    monkeypatch.setattr(addresses, "MAX_CALLS", 20)
    receiver.behaviour = answer(404)
    names = {f"a{n}_test": [["127.0.0.1"]] for n in range(60)}
    start_deliverer(lookup=Names(**names))
    users = [make_user(f"u{n}@example.com") for n in range(3)]
    write(*(callback(users[n % 3], f"http://a{n}.test:{receiver.port}/", n) for n in range(60)))
    until(lambda: value("SELECT count(*) FROM webhook_attempts") >= 60)
    assert len(receiver.received) == 20
    error = "Not called: too many failed calls to 127.0.0.1 in the last minute."
    assert value("SELECT count(*) FROM webhook_attempts WHERE error = :error", error=error) >= 40


def test_calls_that_never_come_up_count_too(
    receiver, start_deliverer, monkeypatch, free_port, no_address_is_the_operators_own
) -> None:
    """Closed ports, of any number of names and accounts; over the limit there is not even a connection."""
    monkeypatch.setattr(addresses, "MAX_CALLS", 20)
    start_deliverer(lookup=Names(**{f"a{n}_test": [["127.0.0.1"]] for n in range(60)}))
    users = [make_user(f"u{n}@example.com") for n in range(3)]
    write(*(callback(users[n % 3], f"http://a{n}.test:{free_port}/", n) for n in range(40)))
    until(lambda: value("SELECT count(*) FROM webhook_attempts") >= 40)
    error = "Not called: too many failed calls to 127.0.0.1 in the last minute."
    assert value("SELECT count(*) FROM webhook_attempts WHERE error = :error", error=error) >= 20
    write(*(callback(users[n % 3], f"http://a{n}.test:{receiver.port}/", n) for n in range(40, 60)))
    until(lambda: value("SELECT count(DISTINCT delivery_id) FROM webhook_attempts") == 60)
    assert receiver.connections == 0


def test_an_address_that_accepted_and_then_closes_its_port_is_counted_again(
    receiver, start_deliverer, monkeypatch, free_port, no_address_is_the_operators_own
) -> None:
    monkeypatch.setattr(addresses, "MAX_CALLS", 5)
    monkeypatch.setattr(addresses, "MAX_FAILURES", 10)
    start_deliverer(lookup=Names(**{f"a{n}_test": [["127.0.0.1"]] for n in range(60)}))
    user = make_user()
    write(callback(user, f"http://a0.test:{receiver.port}/", 1))
    until(lambda: states()["delivered"] == 1)
    write(*(callback(user, f"http://a{n}.test:{free_port}/", n) for n in range(1, 40)))
    error = "Not called: too many failed calls to 127.0.0.1 in the last minute."
    until(lambda: value("SELECT count(*) FROM webhook_attempts WHERE error = :error", error=error) >= 10)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_a_receiver_that_accepts_gets_all_at_once(
    receiver, deliverer, monkeypatch, no_address_is_the_operators_own
) -> None:
    monkeypatch.setattr(addresses, "MAX_CALLS", 20)
    user = make_user()
    write(*(callback(user, receiver.url(), n) for n in range(500)))
    until(lambda: states()["delivered"] == 500)
    assert value("SELECT count(*) FROM webhook_attempts") == 500


def test_a_target_that_never_accepted_anything_is_given_up_after_a_day(receiver, deliverer) -> None:
    receiver.behaviour = answer(404)
    user = make_user()
    write(*(callback(user, receiver.url(), n) for n in range(1, 21)))
    until(lambda: value("SELECT count(*) FROM webhook_attempts") >= 3)
    assert value("SELECT ever_accepted FROM webhook_targets") is False
    # As if a day had passed.
    execute("UPDATE webhook_targets SET failing_since = failing_since - interval '25 hours'")
    hasten()
    until(lambda: value("SELECT count(*) FROM webhook_deliveries WHERE error = :why", why=NEVER_ACCEPTED_REASON) >= 15)
    receiver.behaviour = answer(200)
    hasten()
    write(callback(user, receiver.url(), 99))
    until(lambda: hasten() or value("SELECT ever_accepted FROM webhook_targets"))
    assert value("SELECT failing_since FROM webhook_targets") is None


@pytest.mark.parametrize("hook", ["callback", "status"])
def test_a_target_that_accepted_once_and_an_accounts_url_keep_what_waits(receiver, deliverer, hook) -> None:
    user = make_user()
    set_url(user, receiver.url())
    if hook == "callback":
        write(callback(user, receiver.url(), 1))
        until(lambda: value("SELECT ever_accepted FROM webhook_targets"))
    receiver.behaviour = answer(500)
    write(*(callback(user, receiver.url(), n) if hook == "callback" else status(user, n) for n in range(2, 6)))
    until(lambda: (value("SELECT fail_count FROM webhook_targets") or 0) >= 3)
    execute("UPDATE webhook_targets SET failing_since = failing_since - interval '25 hours'")
    before = value("SELECT count(*) FROM webhook_attempts")
    hasten()
    until(lambda: value("SELECT count(*) FROM webhook_attempts") > before)
    assert states()["pending"] == 4


@pytest.fixture
def refused(monkeypatch):
    def refuse(hosts: str) -> None:
        monkeypatch.setenv("SMSFLEET_WEBHOOK_REFUSED_HOSTS", hosts)
        get_settings.cache_clear()
        check_address.cache_clear()

    return refuse


@pytest.mark.parametrize(
    "url",
    [
        "https://victim.example/",
        "https://VICTIM.example./x",
        "https://a.b.victim.example:8443/",
        "http://203.0.113.9/",
        "http://[::ffff:203.0.113.9]/",
        "https://bücher.example/",
        "https://xn--bcher-kva.example/",
    ],
)
def test_what_the_operator_refuses_is_refused_when_it_is_set(refused, url) -> None:
    refused("victim.example, 203.0.113.0/24,bücher.example")
    with pytest.raises(ValueError, match="a host that this installation refuses"):
        check_url_text(url)
    for other in ("https://notvictim.example/", "https://victim.example.org/", "https://93.184.216.34/"):
        check_url_text(other)


@pytest.mark.parametrize("hosts", ["receiver.test", "*.test", "127.0.0.0/8", "::1, 127.0.0.1"])
def test_what_the_operator_refuses_later_is_not_called_any_more(receiver, start_deliverer, refused, hosts) -> None:
    refused(hosts)
    start_deliverer(lookup=Names(receiver_test=[["127.0.0.1"]]))
    write(callback(make_user(), f"http://receiver.test:{receiver.port}/", 1))
    error = until(lambda: value("SELECT error FROM webhook_attempts"))
    assert "is refused by this installation" in error
    assert receiver.connections == 0


def test_a_refused_host_that_is_none_is_said_at_the_start(monkeypatch) -> None:
    monkeypatch.setenv("SMSFLEET_WEBHOOK_REFUSED_HOSTS", "https://victim.example/")
    with pytest.raises(ValueError, match="a host name, an address or a network is expected"):
        Settings()


def claimed_bytes(large=None) -> dict[int, int]:
    taken: dict[int, int] = {}
    with transaction() as session:
        for call in claim(session, 500, large=large).calls:
            taken[call.user_id] = taken.get(call.user_id, 0) + call.weight
    return taken


def test_claims_take_large_bodies_by_budgets_and_small_ones_regardless(database) -> None:
    users = [make_user(f"u{n}@example.com") for n in range(8)]
    size = 3 * 1024 * 1024
    write(*(callback(user, f"https://r{user}.example/{n}") for user in users for n in range(4)))
    execute("UPDATE webhook_deliveries SET body = repeat('x', :size)", size=size)
    write(*(callback(user, f"https://small{user}.example/", text="x" * 1000) for user in users))
    execute("INSERT INTO webhook_targets (user_id, origin, max_in_flight)"
            " SELECT DISTINCT user_id, origin, 32 FROM webhook_queue")  # fmt: skip
    taken = claimed_bytes()
    assert len(taken) == len(users), "each has its small one"
    assert all(n <= MAX_LARGE_BYTES_OF_USER + size + 1000 for n in taken.values())
    assert MAX_LARGE_BYTES <= sum(taken.values()) <= MAX_LARGE_BYTES + size + 1000
    assert sum(n > 0 for n in taken.values()) >= 4
    # The next claim of this process takes none while those are under way, another user's small ones at once.
    write(callback(users[0], "https://later.example/", text="y"))
    assert claimed_bytes(taken) == {users[0]: 0}
    assert LARGE == 64 * 1024


def test_one_body_over_the_whole_budget_is_claimed_alone(database) -> None:
    user = make_user()
    write(*(callback(user, f"https://r.example/{n}") for n in range(2)))
    execute("UPDATE webhook_deliveries SET body = repeat('x', :size)", size=MAX_LARGE_BYTES + 1)
    [first] = claimed_bytes().values()
    assert first > MAX_LARGE_BYTES
    assert claimed_bytes({user: first}) == {}


def test_large_bodies_are_all_delivered_in_their_turn(receiver, deliverer) -> None:
    user = make_user()
    write(*(callback(user, receiver.url(f"/{n}"), n, text="x" * 2_000_000) for n in range(12)))
    until(lambda: states()["delivered"] == 12, 30)
    until(lambda: not deliverer._large)
