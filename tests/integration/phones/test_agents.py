"""The agents for Termux and USB modems as processes, with stand-ins for the commands and the module they use."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.phones_server import TOKEN, ReferenceServer
from tests.support.waiting import until_later

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
STANDINS = ROOT / "tests" / "support" / "standins"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def server() -> AsyncIterator[ReferenceServer]:
    async with ReferenceServer() as server:
        yield server
        assert server.violations == []


class AgentProcess:
    """An agent that can be started, killed and started again on the same state file."""

    def __init__(self, module: str, folder: Path, url: str) -> None:
        self.folder = folder
        self.options: list[str] = []
        self.environment: dict[str, str] = {}
        self._module = module
        self._url = url
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, **environment: str) -> None:
        state = str(self.folder / "agent.db")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", f"phones.{self._module}", "--server", self._url, "--token", TOKEN),
                *("--state", state, "--poll-every", "5", "--patience", "0.01", *options),
            ],
            cwd=ROOT,
            env=os.environ
            | {
                "PATH": f"{STANDINS / 'termux'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONPATH": f"{STANDINS / 'gammu'}:{ROOT}",
                "STANDIN_FOLDER": str(self.folder),
                "TZ": "Asia/Tashkent",
            }
            | environment,
        )

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()

    def sent(self) -> list[dict[str, Any]]:
        file = self.folder / "sent.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def put_inbox(self, number: int, body: str, *, kind: int = 1) -> None:
        row = {"_id": number, "type": kind, "number": "+15550001111", "received": "2026-11-22 12:28:40", "body": body}
        with (self.folder / "inbox.jsonl").open("a") as inbox:
            inbox.write(json.dumps(row) + "\n")

    def put_modem(self, message: dict[str, Any]) -> None:
        modem = self.folder / "modem"
        modem.mkdir(exist_ok=True)
        location = max((int(file.stem) for file in modem.glob("*.json")), default=50) + 1
        half = modem / f"{location}.half"
        half.write_text(json.dumps(message))
        half.rename(modem / f"{location}.json")

    def unplug(self) -> None:
        (self.folder / "unplugged").touch()

    def plug_in(self) -> None:
        with (self.folder / "plugs").open("a") as plugs:
            plugs.write("\n")
        (self.folder / "unplugged").unlink()

    def missed(self) -> int:
        file = self.folder / "missed"
        return len(file.read_text()) if file.exists() else 0


@pytest.fixture
def termux(server: ReferenceServer, tmp_path: Path) -> Iterator[AgentProcess]:
    agent = AgentProcess("termux", tmp_path, server.url)
    yield agent
    agent.kill()


@pytest.fixture
def modem(server: ReferenceServer, tmp_path: Path) -> Iterator[AgentProcess]:
    agent = AgentProcess("gammu_modem", tmp_path, server.url)
    yield agent
    agent.kill()


async def enrolled(server: ReferenceServer) -> None:
    await until_later(lambda: server.devices and server.device.streams and server.calls["GET /webhooks"], "the agent")


def states(server: ReferenceServer, message_id: str) -> list[str]:
    return [state for state in server.device.states(message_id) if state != "Pending"]


async def test_termux_hands_over_and_claims_no_more(server: ReferenceServer, termux: AgentProcess) -> None:
    termux.start("--sims", "2")
    await enrolled(server)
    message_id = await server.send(server.device, "+1 (555) 123-45", "Line 'one'\n$(two) дунё", simNumber=2)
    await until_later(lambda: states(server, message_id) == ["Processed"])
    assert termux.sent() == [{"numbers": ["+155512345"], "slot": 1, "text": "Line 'one'\n$(two) дунё"}]
    assert server.device.reports[message_id][0]["recipients"][0]["phoneNumber"] == "+1 (555) 123-45"


async def test_termux_counts_handover_as_sent_where_told_to(server: ReferenceServer, termux: AgentProcess) -> None:
    termux.start("--count-handover-as-sent")
    await enrolled(server)
    message_id = await server.send(server.device)
    await until_later(lambda: "Sent" in states(server, message_id))
    last = server.device.reports[message_id][-1]
    assert list(last["states"]) == ["Pending", "Processed", "Sent"]


async def test_termux_failures_are_told(server: ReferenceServer, termux: AgentProcess) -> None:
    termux.start()
    await enrolled(server)
    late = (datetime.now(UTC) - timedelta(seconds=1)).isoformat(timespec="milliseconds")
    expired = await server.send(server.device, validUntil=late)
    no_sim = await server.send(server.device, simNumber=2)
    await until_later(lambda: states(server, expired) == ["Failed"] and states(server, no_sim) == ["Failed"])
    (termux.folder / "refuse").touch()
    refused = await server.send(server.device)
    await until_later(lambda: "Failed" in states(server, refused))
    errors = [server.device.reports[one][-1]["recipients"][0]["error"] for one in (expired, no_sim, refused)]
    assert errors == [
        "TTL expired",
        "Can't send message: SIM 2 not found",
        "sendSMS: termux-sms-send ended with 1: Permission denied",
    ]
    assert termux.sent() == []


async def test_termux_hands_on_new_sms_once_and_no_old_ones(server: ReferenceServer, termux: AgentProcess) -> None:
    termux.put_inbox(7, "old")
    termux.start("--own-number", "+998901112233")
    await enrolled(server)
    await _first_look(termux)
    server.faults["POST /hooks"].append(500)
    termux.put_inbox(8, "Salom")
    termux.put_inbox(9, "my own", kind=2)
    await until_later(lambda: len(server.posts) == 1)
    termux.kill()
    termux.put_inbox(10, "Second")
    termux.start()
    await until_later(lambda: len(server.posts) == 2)
    first, second = (posts[0]["payload"] for posts in server.posts.values())
    assert (first["message"], second["message"]) == ("Salom", "Second")
    assert first["sender"] == first["phoneNumber"] == "+15550001111"
    assert first["recipient"] == "+998901112233"
    assert first["receivedAt"] == "2026-11-22T07:28:40.000Z", "local time of the phone"
    assert server.calls["POST /device"] == 1, "it remembered who it is"
    assert server.device.announcements == 1


async def _first_look(agent: AgentProcess) -> None:
    """Wait until the agent knows from which SMS on it is to hand on."""
    import sqlite3

    def known() -> bool:
        with sqlite3.connect(agent.folder / "agent.db", timeout=5) as journal:
            return journal.execute("SELECT 1 FROM facts WHERE key = 'termux_last_id'").fetchone() is not None

    await until_later(known)


async def test_termux_that_cannot_look_goes_on_sending(server: ReferenceServer, termux: AgentProcess) -> None:
    (termux.folder / "refuse").touch()
    termux.start()
    await enrolled(server)
    (termux.folder / "refuse").unlink()
    message_id = await server.send(server.device)
    await until_later(lambda: states(server, message_id) == ["Processed"])


@pytest.mark.parametrize("moment", ["STANDIN_BEFORE", "STANDIN_AFTER"])
async def test_killed_while_sending_it_never_sends_again(
    server: ReferenceServer, termux: AgentProcess, moment: str
) -> None:
    termux.start(**{moment: "0.5"})
    await enrolled(server)
    server.faults["PATCH /message"].extend([503] * 10_000)
    message_id = await server.send(server.device)
    on_its_way = termux.sent if moment == "STANDIN_AFTER" else lambda: _begun(termux, message_id)
    await until_later(on_its_way, "sending")
    termux.kill()
    server.faults["PATCH /message"].clear()
    termux.start()
    await until_later(lambda: states(server, message_id) == ["Processed"])
    follow_up = await server.send(server.device, text="next")
    await until_later(lambda: states(server, follow_up) == ["Processed"])
    await until_later(lambda: any(one["text"] == "next" for one in termux.sent()), "the next message")
    times = Counter(one["text"] for one in termux.sent())
    assert times["next"] == 1
    # A kill between the note and the hand-over leaves a message that never goes; none goes twice.
    assert times["Hello"] == 1 if moment == "STANDIN_AFTER" else times["Hello"] <= 1


def _begun(agent: AgentProcess, message_id: str) -> bool:
    import sqlite3

    with sqlite3.connect(agent.folder / "agent.db", timeout=5) as journal:
        row = journal.execute("SELECT state FROM messages WHERE id = ?", (message_id,)).fetchone()
    return row is not None and row[0] == "Processed"


async def test_killed_again_and_again_it_sends_nothing_twice(server: ReferenceServer, termux: AgentProcess) -> None:
    termux.start()
    await enrolled(server)
    sent = {server.put(server.device, text=f"message {number}"): f"message {number}" for number in range(40)}
    await server.tell(server.device, "MessageEnqueued")
    chance = random.Random(4)
    for _ in range(4):
        await anyio.sleep(chance.uniform(0.05, 0.5))
        termux.kill()
        termux.start()
    await until_later(lambda: all("Processed" in states(server, message_id) for message_id in sent))
    times = Counter(one["text"] for one in termux.sent())
    assert set(times.values()) == {1}
    assert len(set(sent.values()) - set(times)) <= 4, "at most the one that was being handed over at each kill"


async def test_pace_priority_cancel_and_known_messages(server: ReferenceServer, termux: AgentProcess) -> None:
    server.settings["messages"] |= {"send_interval_min": 1, "send_interval_max": 1}
    termux.start()
    await enrolled(server)
    first = await server.send(server.device, text="first")
    await until_later(lambda: "Processed" in states(server, first))
    doomed = server.put(server.device, text="doomed", priority=1)
    doomed_too = server.put(server.device, text="doomed too", priority=1)
    later = server.put(server.device, text="later")
    urgent = await server.send(server.device, text="urgent", priority=100)
    await until_later(lambda: "Processed" in states(server, urgent))
    await server.tell(server.device, "MessageCancelled", json.dumps({"messageId": doomed}))
    never_had = server.put(server.device, state="Cancelling")
    server.put(server.device, id=first)
    await server.send(server.device, id=doomed_too, state="Cancelling")
    cancelled = [doomed, doomed_too, never_had]
    await until_later(lambda: all(states(server, message_id) == ["Cancelled"] for message_id in cancelled))
    await until_later(lambda: "Processed" in states(server, later))
    assert [one["text"] for one in termux.sent()] == ["first", "urgent", "later"]
    assert states(server, first) == ["Processed", "Processed"]


async def test_a_stale_registration_is_replaced(server: ReferenceServer, termux: AgentProcess) -> None:
    termux.start()
    await enrolled(server)
    old = server.device
    termux.kill()
    server.forget(old)
    termux.start()
    await until_later(lambda: len(server.devices) == 2)
    assert {device.name for device in server.devices.values()} == {old.name}
    assert old.name.startswith("termux/phone-")


async def test_modem_sends_in_parts_and_learns_of_the_arrival(server: ReferenceServer, modem: AgentProcess) -> None:
    modem.start()
    await enrolled(server)
    long = await server.send(server.device, "+1555", "x" * 200)
    await until_later(lambda: "Delivered" in states(server, long))
    # On a busy machine one report tells several steps; its history has them all.
    assert set(server.device.reports[long][-1]["states"]) >= {"Sent", "Delivered"}
    assert [len(part["Text"]) for part in modem.sent()] == [153, 47]
    unicode = await server.send(server.device, "+1555", "дунё `")
    quiet = await server.send(server.device, "+1666", "no report", withDeliveryReport=False)
    await until_later(lambda: "Delivered" in states(server, unicode) and "Sent" in states(server, quiet))
    assert [part["Coding"].partition("_")[0] for part in modem.sent()] == ["Default", "Default", "Unicode", "Default"]
    assert modem.sent()[-1]["Type"] == "Submit"
    await until_later(lambda: not list((modem.folder / "modem").glob("*.json")), "an empty modem")


async def test_modem_failures(server: ReferenceServer, modem: AgentProcess) -> None:
    modem.start("--device", "/dev/modem")
    await enrolled(server)
    refused = await server.send(server.device, "+1599")
    undelivered = await server.send(server.device, "+1597")
    unclear = await server.send(server.device, "+1598")
    waiting = await server.send(server.device, "+1596")
    await until_later(lambda: "Failed" in states(server, refused) and "Failed" in states(server, undelivered))
    await until_later(lambda: "Sent" in states(server, waiting))
    assert "the network refused" in server.device.reports[refused][-1]["recipients"][0]["error"]
    assert server.device.reports[undelivered][-1]["recipients"][0]["error"] == "Delivery result: 70"
    assert states(server, unclear) == ["Processed"], "nobody knows whether it left"
    assert set(states(server, waiting)) <= {"Processed", "Sent"}


async def test_modem_that_is_plugged_in_later(server: ReferenceServer, modem: AgentProcess) -> None:
    modem.unplug()
    modem.start()
    await enrolled(server)
    early = await server.send(server.device)
    missed = modem.missed()
    await until_later(lambda: modem.missed() > missed + 2)
    assert states(server, early) == []
    modem.plug_in()
    later = await server.send(server.device)
    await until_later(lambda: "Delivered" in states(server, early) and "Delivered" in states(server, later))


async def test_modem_that_is_unplugged_makes_messages_wait(server: ReferenceServer, modem: AgentProcess) -> None:
    modem.start("--poll-every", "100000")
    await enrolled(server)
    first = await server.send(server.device, "+1551")
    await until_later(lambda: "Sent" in states(server, first))
    modem.unplug()
    waiting = [await server.send(server.device, f"+155{number}") for number in (2, 3)]
    await until_later(lambda: modem.missed() > 2)
    modem.plug_in()
    await until_later(lambda: all("Sent" in states(server, message_id) for message_id in waiting))
    modem.unplug()
    modem.plug_in()
    last = await server.send(server.device, "+1554")
    refused = await server.send(server.device, "+1599")
    await until_later(lambda: "Sent" in states(server, last) and "Failed" in states(server, refused))
    for message_id in (first, *waiting, last):
        assert set(states(server, message_id)) <= {"Processed", "Sent"}
        assert list(server.device.reports[message_id][-1]["states"]) == ["Pending", "Processed", "Sent"]
    assert Counter(part["Number"] for part in modem.sent()) == {"+1551": 1, "+1552": 1, "+1553": 1, "+1554": 1}


async def test_modem_that_is_plugged_in_again_is_looked_at(server: ReferenceServer, modem: AgentProcess) -> None:
    modem.start()
    await enrolled(server)
    modem.unplug()
    await until_later(lambda: modem.missed() > 0)
    modem.plug_in()
    modem.put_modem({"Type": "Deliver", "Number": "+15550001111", "Text": "back", "UDH": {"AllParts": -1}})
    await until_later(lambda: len(server.posts) == 1)


async def test_modem_joins_inbound_parts_and_deletes_only_what_is_kept(
    server: ReferenceServer, modem: AgentProcess
) -> None:
    sms = {"Type": "Deliver", "Number": "+15550001111", "DateTime": "2026-11-22T12:28:40"}
    modem.put_modem(sms | {"Text": "world", "UDH": {"AllParts": 2, "PartNumber": 2, "ID8bit": 5}})
    modem.put_modem(sms | {"Text": "short", "UDH": {"AllParts": -1}})
    modem.start("--own-number", "+998901112233")
    await until_later(lambda: len(server.posts) == 1)
    assert [post["payload"]["message"] for (post,) in server.posts.values()] == ["short"]
    modem.put_modem(sms | {"Text": "Hello, ", "UDH": {"AllParts": 2, "PartNumber": 1, "ID8bit": 5}})
    await until_later(lambda: len(server.posts) == 2)
    long = list(server.posts.values())[1][0]["payload"]
    assert long["message"] == "Hello, world"
    assert long["receivedAt"] == "2026-11-22T07:28:40.000Z"
    modem.put_modem(sms | {"Text": "short", "UDH": {"AllParts": -1}})
    await until_later(lambda: not list((modem.folder / "modem").glob("*.json")), "an empty modem")
    assert len(server.posts) == 2, "the same SMS shown again is known"


def test_modem_without_gammu_says_what_to_install(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "phones.gammu_modem", "--server", "http://127.0.0.1:9", "--token", "x"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert "pip install python-gammu" in result.stderr
