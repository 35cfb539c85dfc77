"""Simulated phones against a strict server of their protocol, over real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from phones.behaviour import Behaviour
from phones.client import PhoneError
from phones.fleet import Fleet, FleetError, FleetThread
from phones.virtual import Phone
from tests.support.phones_server import OLD_DATE, TOKEN, ReferenceServer

pytestmark = pytest.mark.anyio

QUICK = {"send_time": 0.0, "delivery_delay": 0.0, "pull_latency": 0.0, "time_factor": 0.01}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def server() -> AsyncIterator[ReferenceServer]:
    async with ReferenceServer() as server:
        yield server
        assert server.violations == []


def fleet_of(server: ReferenceServer, count: int = 1, **behaviour: Any) -> Fleet:
    return Fleet(server.url, TOKEN, count=count, behaviour=Behaviour(**QUICK | behaviour), ready_within=10)


async def configured(fleet: Fleet) -> None:
    """Wait until every phone has fetched its webhooks and settings."""
    await fleet.wait_until(lambda: all(_is_configured(phone) for phone in fleet.phones))


def _is_configured(phone: Phone) -> bool:
    return bool(phone.hooks.known) and phone.settings.processing_order == "FIFO"


def from_now(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


async def test_enrolls_opens_its_stream_and_fetches_what_the_server_announces(server: ReferenceServer) -> None:
    async with fleet_of(server, sims=2) as fleet:
        await configured(fleet)
        device = server.device
        assert (device.name, fleet.phones[0].device_id) == ("virtual/phone-0000", device.id)
        assert server.calls["POST /device"] == 1
        assert server.calls["GET /webhooks"] == server.calls["GET /settings"] == 1, "none before it was registered"
        assert fleet.phones[0].settings.signing_key == "testkey1"
        assert fleet.phone(device.id) is fleet.phones[0]


async def test_a_wake_brings_pull_send_and_three_reports_in_order(server: ReferenceServer) -> None:
    async with fleet_of(server, parallel_reports=1) as fleet:
        number = "tel:+1 (555) 123"
        message_id = await server.send(server.device, number, "Hello, дунё")
        await fleet.wait_until(lambda: len(server.device.reports[message_id]) == 3)
        assert server.device.states(message_id) == ["Processed", "Sent", "Delivered"]
        last = server.device.reports[message_id][-1]
        assert list(last["states"]) == ["Pending", "Processed", "Sent", "Delivered"]
        assert last["recipients"] == [{"phoneNumber": number, "state": "Delivered"}], "the number as it was given"
        (entry,) = fleet.ledger
        assert (entry.phone, entry.message_id, entry.number) == ("virtual/phone-0000", message_id, number)
        assert entry.text == "Hello, дунё"
        assert entry.wall == pytest.approx(time.time(), abs=5)


async def test_no_delivery_report_where_none_was_asked_for(server: ReferenceServer) -> None:
    async with fleet_of(server, parallel_reports=1) as fleet:
        quiet = await server.send(server.device, withDeliveryReport=False)
        loud = await server.send(server.device)
        await fleet.wait_until(lambda: "Delivered" in server.device.states(loud))
        assert server.device.states(quiet) == ["Processed", "Sent"]


async def test_an_event_without_data_wakes_nobody(server: ReferenceServer) -> None:
    async with fleet_of(server) as fleet:
        await configured(fleet)
        await fleet.wait_until(lambda: fleet.stats.pulls == 1)
        await server.tell(server.device, "MessageEnqueued", data=None)
        await server.tell(server.device, "SomethingNew", data="1")
        await server.tell(server.device, "SettingsUpdated")
        await fleet.wait_until(lambda: server.calls["GET /settings"] == 2)
        assert fleet.stats.pulls == 1


async def test_pace_of_the_settings_is_kept(server: ReferenceServer) -> None:
    server.settings["messages"] |= {"send_interval_min": 0.2, "send_interval_max": 0.2}
    async with fleet_of(server) as fleet:
        await configured(fleet)
        for _ in range(4):
            server.put(server.device)
        await server.tell(server.device, "MessageEnqueued")
        await fleet.wait_until(lambda: len(fleet.ledger) == 4)
        assert not fleet.ledger.faster_than(0.2)


async def test_urgent_messages_wait_for_no_pace(server: ReferenceServer) -> None:
    server.settings["messages"] |= {"send_interval_min": 3600, "send_interval_max": 3600}
    async with fleet_of(server) as fleet:
        await configured(fleet)
        first = await server.send(server.device)
        await fleet.wait_until(lambda: fleet.ledger.message_ids() == {first})
        await server.send(server.device)
        urgent = await server.send(server.device, priority=100)
        await fleet.wait_until(lambda: fleet.stats.messages == 3 and urgent in fleet.ledger.message_ids())
        assert fleet.ledger.message_ids() == {first, urgent}


async def test_a_new_pace_holds_from_the_next_send(server: ReferenceServer) -> None:
    server.settings["messages"] |= {"send_interval_min": 3600, "send_interval_max": 3600}
    async with fleet_of(server) as fleet:
        await configured(fleet)
        first, second = server.put(server.device), server.put(server.device)
        await server.tell(server.device, "MessageEnqueued")
        await fleet.wait_until(lambda: fleet.ledger.message_ids() == {first})
        await fleet.wait_until(lambda: fleet.stats.messages == 2)
        fleet.phones[0].behaviour = Behaviour(**QUICK, keeps_pace=False)
        await server.tell(server.device, "SettingsUpdated")
        await fleet.wait_until(lambda: fleet.ledger.message_ids() == {first, second})


async def test_limit_per_period_is_kept(server: ReferenceServer) -> None:
    server.settings["messages"] |= {"limit_period": "PerMinute", "limit_value": 3}
    async with fleet_of(server) as fleet:
        await configured(fleet)
        for _ in range(5):
            server.put(server.device)
        await server.tell(server.device, "MessageEnqueued")
        await fleet.wait_until(lambda: fleet.stats.messages == 5 and fleet.stats.delivered == 3)
        assert len(fleet.ledger) == 3
        assert not fleet.idle


@pytest.mark.parametrize("order", ["FIFO", "LIFO"])
async def test_order_is_priority_then_age(server: ReferenceServer, order: str) -> None:
    async with fleet_of(server, send_time=0.05) as fleet:
        await configured(fleet)
        server.settings["messages"]["processing_order"] = order
        await server.tell(server.device, "SettingsUpdated")
        await fleet.wait_until(lambda: fleet.phones[0].settings.processing_order == order)
        for name, priority, age in [("mid", 0, 5), ("old", 0, 9), ("new", 0, 1), ("single", 50, 0)]:
            server.put(server.device, id=name, priority=priority, createdAt=from_now(-age))
        await server.tell(server.device, "MessageEnqueued")
        await fleet.wait_until(lambda: len(fleet.ledger) == 4)
        by_age = ["old", "mid", "new"]
        expected = ["single", *(by_age if order == "FIFO" else reversed(by_age))]
        assert [entry.message_id for entry in fleet.ledger] == expected


async def test_a_known_message_is_not_sent_again_but_told_again(server: ReferenceServer) -> None:
    async with fleet_of(server, parallel_reports=1) as fleet:
        message_id = await server.send(server.device)
        await fleet.wait_until(lambda: "Delivered" in server.device.states(message_id))
        server.put(server.device, id=message_id)
        fleet.phones[0].restart()
        await fleet.wait_until(lambda: len(server.device.reports[message_id]) == 4)
        assert server.device.states(message_id)[-1] == "Delivered"
        assert (len(fleet.ledger), fleet.stats.known) == (1, 1)


async def test_lost_answers_repeated_and_reordered_reports_lose_and_double_nothing(server: ReferenceServer) -> None:
    behaviour = {"lost_answers": 0.3, "duplicates": 0.3, "reorder": 0.3, "disorder": (0.0, 0.1), "time_factor": 0.002}
    async with fleet_of(server, count=3, **behaviour) as fleet:
        devices = [server.devices[phone.device_id] for phone in fleet.phones]
        sent = {await server.send(device) for device in devices for _ in range(40)}
        await fleet.wait_until(lambda: sent <= _delivered(server))
        assert not fleet.ledger.sent_twice()
        assert not fleet.ledger.missing(sent)
        reports = [device.states(message_id) for device in server.devices.values() for message_id in device.reports]
        assert any(len(states) > len(set(states)) for states in reports), "some were repeated"
        assert any(states[0] != "Processed" for states in reports), "some came out of order"


def _delivered(server: ReferenceServer) -> set[str]:
    return {
        message_id
        for device in server.devices.values()
        for message_id, reports in device.reports.items()
        if any(report["state"] == "Delivered" for report in reports)
    }


async def test_reports_are_repeated_while_the_server_refuses_and_given_up_after_ten_tries(
    server: ReferenceServer,
) -> None:
    async with fleet_of(server, parallel_reports=1, time_factor=0.0001) as fleet:
        server.faults["PATCH /message"].extend([503] * 9)
        message_id = await server.send(server.device, withDeliveryReport=False)
        await fleet.wait_until(lambda: set(server.device.states(message_id)) == {"Processed", "Sent"})
        assert fleet.stats.gave_up == 0
        server.faults["PATCH /message"].extend([503] * 500)
        lost = await server.send(server.device, withDeliveryReport=False)
        await fleet.wait_until(lambda: fleet.stats.gave_up >= 2)
        assert server.device.states(lost) == []
        assert lost in fleet.ledger.message_ids()


async def test_a_failed_pull_is_tried_again(server: ReferenceServer) -> None:
    async with fleet_of(server) as fleet:
        await fleet.wait_until(lambda: fleet.stats.pulls == 1)
        server.faults["GET /message"].extend([500, 401, 503])
        message_id = await server.send(server.device)
        await fleet.wait_until(lambda: message_id in fleet.ledger.message_ids())
        assert server.calls["POST /device"] == 1, "a 401 here does not make it register"


async def test_too_late_is_failed_and_not_sent(server: ReferenceServer) -> None:
    async with fleet_of(server) as fleet:
        late = await server.send(server.device, validUntil=from_now(-1))
        in_time = await server.send(server.device, validUntil=from_now(60))
        await fleet.wait_until(lambda: bool(server.device.states(late)) and in_time in fleet.ledger.message_ids())
        (report,) = server.device.reports[late]
        assert report["recipients"][0]["error"] == "TTL expired"
        assert fleet.ledger.message_ids() == {in_time}


async def test_a_missing_sim_and_a_failing_network_are_failed(server: ReferenceServer) -> None:
    async with fleet_of(server, sims=2) as fleet:
        missing = await server.send(server.device, simNumber=3)
        second = await server.send(server.device, simNumber=2)
        await fleet.wait_until(lambda: {"Delivered"} <= set(server.device.states(second)))
        (report,) = server.device.reports[missing]
        assert report["recipients"][0]["error"] == "Can't send message: SIM 3 not found"
        fleet.phones[0].behaviour = Behaviour(**QUICK, failure_rate=1.0, sims=2)
        failing = await server.send(server.device)
        await fleet.wait_until(lambda: "Failed" in server.device.states(failing))
        assert fleet.ledger.message_ids() == {second}


async def test_what_no_app_could_send_is_skipped_without_a_report(server: ReferenceServer) -> None:
    async with fleet_of(server) as fleet:
        for broken in (
            {"message": None, "textMessage": None},
            {"phoneNumbers": ["+1", "+1"]},
            {"phoneNumbers": []},
            {"validUntil": "soon"},
        ):
            server.put(server.device, **broken)
        good = await server.send(server.device)
        await fleet.wait_until(lambda: "Delivered" in server.device.states(good))
        assert (fleet.stats.unusable, len(fleet.ledger)) == (4, 1)


async def test_a_scheduled_message_waits_on_the_phone_if_its_app_knows_how(server: ReferenceServer) -> None:
    behaviours = [Behaviour(**QUICK), Behaviour(**QUICK, app_version="1.60.0")]
    async with Fleet(server.url, TOKEN, count=2, behaviour=behaviours.__getitem__) as fleet:
        for phone in fleet.phones:
            await server.send(server.devices[phone.device_id], phone.name, scheduleAt=from_now(0.5))
        await fleet.wait_until(lambda: len(fleet.ledger) == 2)
        first, second = fleet.ledger
        assert (first.phone, second.phone) == ("virtual/phone-0001", "virtual/phone-0000")
        assert second.wall - first.wall > 0.2


async def test_cancelling_before_and_after_sending_began(server: ReferenceServer) -> None:
    async with fleet_of(server, send_time=0.3) as fleet:
        begun = await server.send(server.device)
        by_event, by_pull = server.put(server.device), server.put(server.device)
        await server.tell(server.device, "MessageEnqueued")
        await fleet.wait_until(lambda: fleet.stats.messages == 3 and bool(server.device.states(begun)))
        for message_id in (begun, by_event, "unknown"):
            await server.tell(server.device, "MessageCancelled", f'{{"messageId":"{message_id}"}}')
        never_had = server.put(server.device, state="Cancelling")
        server.put(server.device, id=begun, state="Cancelling")
        await server.send(server.device, id=by_pull, state="Cancelling")
        cancelled = [by_event, by_pull, never_had]
        await fleet.wait_until(lambda: all(server.device.states(one) == ["Cancelled"] for one in cancelled))
        await fleet.wait_until(lambda: "Delivered" in server.device.states(begun))
        assert fleet.ledger.message_ids() == {begun}


async def test_an_app_before_1_67_sends_what_is_being_cancelled(server: ReferenceServer) -> None:
    async with fleet_of(server, app_version="1.66.2") as fleet:
        message_id = await server.send(server.device, state="Cancelling")
        await fleet.wait_until(lambda: message_id in fleet.ledger.message_ids())


async def test_an_unknown_token_makes_it_register_anew(server: ReferenceServer) -> None:
    async with fleet_of(server) as fleet:
        old = server.device
        fleet.phones[0].restart()
        await fleet.wait_until(lambda: old.announcements == 1 and fleet.phones[0].connected.is_set())
        server.forget(old)
        fleet.phones[0].restart()
        await fleet.wait_until(lambda: fleet.phones[0].device_id != old.id and fleet.phones[0].connected.is_set())
        new = server.devices[fleet.phones[0].device_id]
        message_id = await server.send(new)
        await fleet.wait_until(lambda: "Delivered" in new.states(message_id))


async def test_other_refusals_of_the_announcement_are_only_repeated(server: ReferenceServer) -> None:
    async with fleet_of(server) as fleet:
        server.faults["PATCH /device"].extend([403, 500])
        fleet.phones[0].restart()
        await fleet.wait_until(lambda: server.device.announcements == 1)
        assert server.calls["POST /device"] == 1


async def test_inbound_is_signed_and_repeated_under_the_same_id(server: ReferenceServer) -> None:
    async with fleet_of(server, lost_answers=0.0) as fleet:
        await configured(fleet)
        server.faults["POST /hooks"].extend([500, 404])
        event_id = await fleet.receive_inbound(0, "+15550001111", "Привет", sim=1)
        (post,) = server.posts[event_id]
        assert server.calls["POST /hooks"] == 3
        assert post["payload"]["message"] == "Привет"
        assert post["payload"]["sender"] == post["payload"]["phoneNumber"] == "+15550001111"
        assert post["payload"]["recipient"] == fleet.phones[0].number
        fleet.phones[0].behaviour = Behaviour(**QUICK, lost_answers=0.7)
        event_id = await fleet.receive_inbound(0, "+15550001111", "again")
        assert {post["id"] for post in server.posts[event_id]} == {event_id}


async def test_inbound_without_a_webhook_is_an_error(server: ReferenceServer) -> None:
    server.webhooks = []
    async with fleet_of(server) as fleet:
        with pytest.raises(PhoneError, match="knows no webhook"):
            await fleet.receive_inbound(0, "+1", "x")


async def test_a_list_with_an_event_the_app_does_not_know_fails_whole(server: ReferenceServer) -> None:
    server.webhooks = ["sms:received", "app:started"]
    async with fleet_of(server, app_version="1.65.0") as fleet:
        await fleet.wait_until(lambda: server.calls["GET /webhooks"] >= 3)
        assert fleet.phones[0].hooks.known == []


@pytest.mark.parametrize(("version", "knows"), [("1.68.0", False), ("1.75.0", True)])
async def test_batches_of_events_since_1_71(server: ReferenceServer, version: str, *, knows: bool) -> None:
    async with fleet_of(server, app_version=version) as fleet:
        await configured(fleet)
        server.webhooks = [
            "sms:batch:received",
            "sms:batch:data-received",
            "mms:batch:received",
            "mms:batch:downloaded",
        ]
        fetched = server.calls["GET /webhooks"]
        await server.tell(server.device, "WebhooksUpdated")
        if not knows:
            await fleet.wait_until(lambda: server.calls["GET /webhooks"] >= fetched + 2)
            assert [hook.event for hook in fleet.phones[0].hooks.known] == ["sms:received"], "the new list failed whole"
            return
        await fleet.wait_until(lambda: len(fleet.phones[0].hooks.known) == 4)
        event_id = await fleet.phones[0].receive_batch([("+15550001111", "one"), ("+15550002222", "two")])
        (post,) = server.posts[event_id]
        assert [item["message"] for item in post["payload"]["messages"]] == ["one", "two"]


@pytest.mark.parametrize(("version", "pushed"), [("1.68.0", []), ("1.75.0", [1, 1, 1])])
async def test_a_newer_app_pushes_a_copy_of_its_inbox(server: ReferenceServer, version: str, pushed: list[int]) -> None:
    async with fleet_of(server, app_version=version) as fleet:
        await configured(fleet)
        for number in range(3):
            await fleet.receive_inbound(0, "+15550001111", f"{number}")
            await fleet.wait_until(lambda: fleet.idle)
        assert server.inbox == pushed
        assert len(server.posts) == 3


async def test_a_refused_batch_of_the_inbox_is_halved_and_single_messages_are_dropped(server: ReferenceServer) -> None:
    async with fleet_of(server, app_version="1.75.0") as fleet:
        await configured(fleet)
        server.faults["POST /inbox"].extend([404, 404, 404, 404])
        await asyncio.gather(*(fleet.receive_inbound(0, "+15550001111", f"{number}") for number in range(5)))
        await fleet.wait_until(lambda: fleet.idle)
        stats = fleet.stats
        assert (stats.inbox_taken, stats.inbox_dropped, sum(server.inbox)) == (3, 2, 3), (
            "of five the first two alone, and three together"
        )


@pytest.mark.parametrize(("version", "waits"), [("1.68.0", False), ("1.75.0", True)])
async def test_a_newer_app_keeps_its_work_hours(server: ReferenceServer, version: str, *, waits: bool) -> None:
    local = datetime.now(UTC) + timedelta(minutes=Behaviour().utc_offset_minutes)
    server.settings["messages"] |= {
        "work_hours_enabled": True,
        "work_hours_start": f"{local + timedelta(hours=2):%H:%M}",
        "work_hours_end": f"{local + timedelta(hours=4):%H:%M}",
    }
    async with fleet_of(server, app_version=version) as fleet:
        await configured(fleet)
        message_id = await server.send(server.device)
        await fleet.wait_until(lambda: fleet.stats.messages == 1)
        urgent = await server.send(server.device, priority=100)
        await fleet.wait_until(lambda: urgent in fleet.ledger.message_ids())
        assert (message_id in fleet.ledger.message_ids()) is not waits
        server.settings["messages"]["work_hours_enabled"] = False
        await server.tell(server.device, "SettingsUpdated")
        await fleet.wait_until(lambda: message_id in fleet.ledger.message_ids())


async def test_an_old_android_west_of_utc_writes_odd_dates(server: ReferenceServer) -> None:
    server.date = OLD_DATE
    async with fleet_of(server, app_version="1.75.0", old_android=True, utc_offset_minutes=-300) as fleet:
        await configured(fleet)
        message_id = await server.send(server.device)
        await fleet.wait_until(lambda: "Delivered" in server.device.states(message_id))
        await fleet.receive_inbound(0, "+15550001111", "hi")
        await fleet.wait_until(lambda: server.inbox == [1])


async def test_pings_and_starts_are_posted_and_a_ping_pulls(server: ReferenceServer) -> None:
    server.webhooks = ["system:ping", "app:started"]
    async with fleet_of(server, sims=2) as fleet:
        await configured(fleet)
        pulls = fleet.stats.pulls
        fleet.phones[0].behaviour = Behaviour(**QUICK, sims=2, ping_every=0.05)
        fleet.phones[0].restart()
        await fleet.wait_until(lambda: len(server.posts) >= 3 and fleet.stats.pulls >= pulls + 2)
        (started,) = [post for (post,) in server.posts.values() if post["event"] == "app:started"]
        assert [card["phoneNumber"] for card in started["payload"]["simCards"]] == ["+998900000000", "+9989000000001"]
        assert any(
            post["payload"]["health"]["status"] == "pass" for (post,) in server.posts.values() if post != started
        )


async def test_a_dropped_stream_comes_back_and_pulls(server: ReferenceServer) -> None:
    async with fleet_of(server) as fleet:
        await fleet.wait_until(lambda: fleet.stats.pulls == 1)
        fleet.phones[0].disconnect()
        await fleet.wait_until(lambda: not server.device.streams)
        message_id = server.put(server.device)
        await fleet.wait_until(lambda: message_id in fleet.ledger.message_ids())
        assert fleet.stats.streams_opened == 2


async def test_streams_that_drop_by_themselves(server: ReferenceServer) -> None:
    async with fleet_of(server, disconnect_every=(0.01, 0.05)) as fleet:
        await fleet.wait_until(lambda: fleet.stats.streams_opened >= 5)
        message_id = await server.send(server.device)
        await fleet.wait_until(lambda: "Delivered" in server.device.states(message_id))


async def test_a_server_that_was_away_finds_its_phones_again(server: ReferenceServer) -> None:
    async with fleet_of(server, count=3) as fleet:
        await server.stop()
        await fleet.wait_until(lambda: not any(phone.connected.is_set() for phone in fleet.phones))
        sent = [server.put(device) for device in server.devices.values()]
        await server.__aenter__()
        await fleet.wait_until(lambda: not fleet.ledger.missing(set(sent)))
        assert len(server.devices) == 3


async def test_a_trigger_replaces_the_pull_in_flight_or_joins_it(server: ReferenceServer) -> None:
    server.delays["GET /message"] = 0.2
    for triggers, replaced in (("replace", 1), ("join", 0)):
        async with fleet_of(server, triggers=triggers) as fleet:
            await fleet.wait_until(lambda fleet=fleet: fleet.stats.pulls == 1)
            message_id = await server.send(server.devices[fleet.phones[0].device_id])
            await fleet.wait_until(lambda fleet=fleet, message_id=message_id: message_id in fleet.ledger.message_ids())
            assert fleet.stats.replaced_pulls == replaced


async def test_a_phone_that_only_pulls(server: ReferenceServer) -> None:
    async with fleet_of(server, uses_stream=False, ping_every=0.05) as fleet:
        message_id = server.put(server.device)
        await fleet.wait_until(lambda: message_id in fleet.ledger.message_ids())
        assert server.calls["GET /events"] == 0


async def test_death_is_for_good(server: ReferenceServer) -> None:
    async with fleet_of(server, count=2, send_time=0.05) as fleet:
        doomed, other = fleet.phones
        for phone in fleet.phones:
            for _ in range(20):
                server.put(server.devices[phone.device_id])
            await server.tell(server.devices[phone.device_id], "MessageEnqueued")
        await fleet.wait_until(lambda: fleet.ledger.counts()[doomed.name] >= 3)
        doomed.die()
        sent = fleet.ledger.counts()[doomed.name]
        reports = sum(map(len, server.devices[doomed.device_id].reports.values()))
        await fleet.wait_until(lambda: fleet.ledger.counts()[other.name] == 20)
        assert fleet.ledger.counts()[doomed.name] == sent < 20
        late = sum(map(len, server.devices[doomed.device_id].reports.values())) - reports
        assert late <= doomed.behaviour.parallel_reports, "only what was on its way may still arrive"
        assert fleet.stats.dead == 1


async def test_a_wrong_private_token_is_named(server: ReferenceServer) -> None:
    with pytest.raises(FleetError, match=r"1 of 1 phones are not connected.*answered with 401"):
        async with Fleet(server.url, "wrong", ready_within=3600):
            pass


async def test_reports_in_arrays_are_gathered() -> None:
    async with ReferenceServer(single_reports=False) as server, fleet_of(server, reports="array") as fleet:
        for _ in range(100):
            server.put(server.device)
        await server.tell(server.device, "MessageEnqueued")
        await fleet.wait_until(lambda: fleet.stats.delivered == 100 and fleet.idle)
        assert server.calls["PATCH /message"] < 30, "300 states"
        assert all("Delivered" in server.device.states(entry.message_id) for entry in fleet.ledger)
        assert server.violations == []


async def test_the_fleet_in_a_thread_serves_synchronous_code(server: ReferenceServer) -> None:
    import anyio.to_thread

    def synchronous() -> None:
        with FleetThread(server.url, TOKEN, count=2, behaviour=Behaviour(**QUICK)) as thread:
            thread.wait_until(lambda: all(_is_configured(phone) for phone in thread.phones))
            assert thread.receive_inbound(1, "+1", "hi") in server.posts
            thread.do(thread.phones[0].die)
            assert thread.stats.dead == 1
            assert len(thread.ledger) == 0

    await anyio.to_thread.run_sync(synchronous)
