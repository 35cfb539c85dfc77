"""Twelve broken things, found by an operator who has only `smsfleet doctor`, the dashboard and the alerts.

All are really broken, in one installation, and at once where none hides another. What each channel said of them is
kept; and all three fall silent again once everything is mended.
"""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import httpx
import psycopg
import pytest
import redis

from app.local import servers
from app.local.home import open_home
from app.local.installation import LOOPBACK, Installation, Shape
from app.local.process import Program
from phones.behaviour import Behaviour
from phones.fleet import FleetThread
from tests.acceptance.prometheus import ALERTS, Prometheus
from tests.conftest import MISSING
from tests.support import certificates
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver, answer

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.needs_prometheus,
]

OPERATOR = {"name": "Operator", "email": "op@example.com", "password": "secret-1", "password_confirmation": "secret-1"}
TOKEN = "token-of-metrics"


@dataclass(frozen=True)
class Thing:
    """Something that breaks: the check that finds it and how bad it is, words of finding and advice, and its alert."""

    name: str
    check: str
    severity: str
    detail: str
    advice: str
    alert: str


# fmt: off
THINGS = [
    Thing("dead worker", "queue webhooks", "broken", "no worker takes tasks from it", "worker -Q webhooks",
          "WorkersDown"),
    Thing("stuck worker", "queue dispatch", "broken", "dispatch-1@", "why it ended", "WorkersDown"),
    Thing("full disk", "disk", "broken", "GiB are free at", "make room", "DiskNearlyFull"),
    Thing("broken receiver", "webhook receivers", "warning", "failed one after the other", "webhook deliveries",
          "ReceiverFails"),
    Thing("silent phone", "phones", "warning", "away without a word: device", "charged, connected", "PhonesAway"),
    Thing("certificate about to end", "certificate", "warning", "localhost ends in 2 days", "does not renew it",
          "CertificateEnds"),
    Thing("queue that grows", "waiting messages", "broken", "have waited for up to 20 minutes", "dispatch worker",
          "MessagesWait"),
    Thing("broker that evicts", "eviction", "broken", "allkeys-lru", "maxmemory-policy noeviction", "BrokerEvicts"),
    Thing("missing migration", "schema", "broken", "but this version requires", "smsfleet migrate", "SchemaDiffers"),
    Thing("wrong password", "database", "broken", "password authentication failed", "with its password",
          "DatabaseDown"),
    Thing("clock off by an hour", "clocks", "warning", "differ by 1 hour", "synchronize both by NTP", "ClocksDiffer"),
    Thing("long snapshot", "oldest transaction", "warning", "forgotten (process", "pg_terminate_backend",
          "LongTransaction"),
]
# fmt: on
NAMED = {thing.name: thing for thing in THINGS}
# In the order in which they are broken; those at the end alone, since they hide others, or move the clock.
ALONE = ("missing migration", "wrong password", "clock off by an hour", "long snapshot")
ON_PAGE = {
    "dead worker": "No worker takes tasks from the queue webhooks.",
    "stuck worker": "No worker takes tasks from the queue dispatch.",
    "wrong password": "The database cannot be reached.",  # of whoever asks, since nobody can be known
}
NEEDS = {
    "full disk": pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk"),
    "clock off by an hour": pytest.mark.needs_faketime,
    "long snapshot": pytest.mark.needs_faketime,
}


@dataclass
class Seen:
    """What the channels said at one moment: the doctor to programs and to people, the dashboard, the alerts."""

    found: list[dict[str, str]]
    exit_code: int
    text: str
    page: str
    alerts: set[str]

    def of(self, thing: Thing) -> dict[str, str]:
        """The doctor's finding."""
        return next((one for one in self.found if one["check"] == thing.check and one["severity"] != "ok"), {})


class MovedPostgres(servers.EmbeddedPostgres):
    """With a clock that is as far ahead as a file says."""

    clock: ClassVar[Path]

    @property
    def program(self) -> Program:
        plain = super().program
        [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
        # Not for the guard, which is root's and becomes this.
        moved = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": self.clock, "FAKETIME_CACHE_DURATION": 1}
        moved["FAKETIME_DONT_FAKE_MONOTONIC"] = 1
        return replace(
            plain, command=("/usr/bin/env", *(f"{name}={value}" for name, value in moved.items()), *plain.command)
        )


class World:
    """The installation, its operator's browser, and Prometheus."""

    timeline: str  # of a message that waits for the stuck worker

    def __init__(self, installation: Installation, data_dir: Path, prometheus: Prometheus, lines: deque[str]) -> None:
        self.installation, self._data_dir, self._prometheus = installation, data_dir, prometheus
        self.lines = lines  # that its processes wrote
        self._browser = httpx.Client(base_url=installation.url, timeout=30, follow_redirects=True)
        self._browser.event_hooks["response"].append(lambda _: self._send_cookies_plainly())
        link = httpx.URL(installation.sign_in_link()).path
        shown = self._browser.get(link)
        [token] = re.findall(r'name="form_token" value="(\w+)"', shown.text)
        assert self._browser.post(link, data={**OPERATOR, "form_token": token}).status_code == 200
        self.api = httpx.Client(base_url=f"{installation.url}/api", timeout=30)
        self.api.headers["Authorization"] = "Bearer " + self.call("POST", "/login", OPERATOR)["token"]
        self._key = self.call("POST", "/tokens", {"name": "Phones", "abilities": ["phone:enroll"]})["token"]

    def end(self) -> None:
        self._browser.close()
        self.api.close()

    def _send_cookies_plainly(self) -> None:
        """As the proxy at the public address does."""
        for cookie in self._browser.cookies.jar:
            cookie.secure = False

    def call(self, method: str, path: str, body: object = None) -> Any:
        answer = self.api.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json().get("data")

    def phone(self, name: str) -> FleetThread:
        behaviour = Behaviour(send_time=0.01, delivery_delay=0.01)
        return FleetThread(self.installation.url, self._key, behaviour=behaviour, name=name)

    def send(self, device: object, number: int = 1) -> None:
        sent = {"recipient_number": f"+9989000000{number:02d}", "message": "Hello", "device_id": device}
        self.call("POST", "/sms", sent)

    def sql(self, statement: str) -> list[tuple]:
        with psycopg.connect(self.installation.database_url, autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def doctor(self, *options: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "SMSFLEET_DATA_DIR": str(self._data_dir)}
        command = [sys.executable, "-m", "app.cli", "doctor", *options]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def page(self) -> str:
        answer = self._browser.get("/operators")
        assert answer.status_code in {200, 503}, "\n".join(line for line in self.lines if '"error"' in line)
        return html.unescape(answer.text)

    def alerts(self) -> set[str]:
        """Those whose expression holds now; how long it has to is left out."""
        return {rule["alert"].removeprefix("Smsfleet") for rule in ALERTS if self._prometheus.finds(rule["expr"])}

    def shows(self, thing: Thing) -> bool:
        return ON_PAGE.get(thing.name, thing.detail) in self.page() and thing.alert in self.alerts()

    def look(self) -> Seen:
        ran = self.doctor("--json")
        return Seen(
            json.loads(ran.stdout)["findings"], ran.returncode, self.doctor().stdout, self.page(), self.alerts()
        )

    def look_for(self, *names: str) -> dict[str, Seen]:
        """What was said once dashboard and alerts show all of these things, or after a while."""
        deadline = time.monotonic() + 75
        while not all(self.shows(NAMED[name]) for name in names) and time.monotonic() < deadline:
            time.sleep(0.2)
        return dict.fromkeys(names, self.look())

    def is_well(self) -> bool:
        """Nothing is told but, for some minutes, which processes died."""
        troubles = re.findall(r'role="alert".*?</p>', self.page(), re.DOTALL)
        return all("died and was started again" in one for one in troubles) and not self.alerts()


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    """A folder for an installation whose data folder, `data`, is on a small disk where that may be mounted."""
    with tempfile.TemporaryDirectory(prefix="smsfleet-broken-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "data").mkdir(mode=0o700)
        if os.geteuid() != 0:
            yield folder
            return
        home = open_home(folder / "data", "app", temporary=True).folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=0710", "tmpfs", str(home)], check=True)
        yield folder
        subprocess.run(["umount", str(home)], check=True)
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def clock(small_disk: Path) -> Path | None:
    """A file that says how far ahead the database's clock is; none where nothing can move it."""
    if "needs_faketime" in MISSING:
        return None
    file = small_disk / "clock"
    file.write_text("+0")
    file.chmod(0o644)
    return file


@pytest.fixture(scope="module")
def certificate(small_disk: Path) -> Path:
    """What the public address shows; all that it will ever show is trusted."""
    good, ending = (certificates.make(small_disk, days) for days in (60, 3))
    (small_disk / "trusted.pem").write_text(good.read_text() + ending.read_text())
    (small_disk / "trusted.pem").chmod(0o644)
    shown = small_disk / "shown.pem"
    shown.write_text(good.read_text())
    return shown


@pytest.fixture(scope="module")
def world(small_disk: Path, clock: Path | None, certificate: Path, _own_installations) -> Iterator[World]:
    lines: deque[str] = deque(maxlen=1000)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("SSL_CERT_FILE", str(small_disk / "trusted.pem"))
        if clock:
            MovedPostgres.clock = clock
            patch.setattr("app.local.installation.EmbeddedPostgres", MovedPostgres)
        port = stack.enter_context(certificates.served(certificate))
        installation = stack.enter_context(
            Installation(
                small_disk / "data", shape=Shape(flower=False), durable=False, port="0",
                output=lambda _, line: lines.append(line), webhook_allowed_networks=LOOPBACK,
                public_url=f"https://localhost:{port}", metrics_token=TOKEN,
            )
        )  # fmt: skip
        (small_disk / "prometheus").mkdir()
        prometheus = Prometheus(
            installation.url.removeprefix("http://"), servers._free_port(), small_disk / "prometheus", token=TOKEN
        )
        stack.callback(prometheus.end)
        world = World(installation, small_disk / "data", prometheus, lines)
        stack.callback(world.end)
        yield world


def _break_all_but_the_database(
    world: World, receiver: Receiver, certificate: Path, small_disk: Path, mend: ExitStack
) -> dict[str, Seen]:
    """What is said of it; `mend` is given what mends it."""
    with world.phone("silent"):
        pass  # which is the last that is heard of it
    one, silent = (device["id"] for device in sorted(world.call("GET", "/devices"), key=itemgetter("device_name")))
    world.send(silent)
    mend.callback(world.call, "DELETE", f"/devices/{silent}")

    receiver.behaviour = answer(500)
    hook = {"webhook_url_status": receiver.url("/status")}
    world.call("PUT", "/webhooks", hook)
    mend.callback(world.call, "PUT", "/webhooks", hook)  # as its owner has what waits posted at once
    mend.callback(setattr, receiver, "behaviour", answer(200))
    for number in range(5):
        world.send(one, number)
    until(lambda: world.sql("SELECT 1 FROM webhook_targets WHERE fail_count >= 3"))

    mend.enter_context(_dead(world.installation, "worker-webhooks-1"))
    mend.enter_context(_stuck(world.installation.processes["worker-dispatch-1"].pid))
    bulk = {"message": "Hello", "recipients": ["+998901000001", "+998901000002"], "device_id": "active"}
    waiting = world.call("POST", "/sms/bulk", bulk)
    world.sql("UPDATE message_queue SET since = since - interval '20 minutes' WHERE device_id = 0")  # time passes
    mend.enter_context(_evicting(world.installation.redis_url))
    mend.callback(certificate.write_text, certificate.read_text())
    certificate.write_text((small_disk / "3-days.pem").read_text())
    if has_disk := os.geteuid() == 0:
        mend.callback(_fill(small_disk).unlink)

    found = world.look_for(*(name for name in NAMED if name not in ALONE and (has_disk or name != "full disk")))
    world.timeline = json.dumps(world.call("GET", f"/sms/{waiting[0]['id']}/timeline"))
    return found


@contextmanager
def _dead(installation: Installation, name: str) -> Iterator[None]:
    """A process that was killed, and that nobody starts again."""
    with installation._lock:
        installation._held.add(name)
        installation.kill(name)
    yield
    installation._held.discard(name)


@contextmanager
def _stuck(pid: int) -> Iterator[None]:
    """A process that stands still with its watchdog, as where a disk or a swapping machine holds both."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in (*map(int, children), pid):
        os.kill(one, signal.SIGSTOP)
    yield
    for one in (pid, *map(int, children)):
        os.kill(one, signal.SIGCONT)


@contextmanager
def _evicting(url: str) -> Iterator[None]:
    with redis.Redis.from_url(url) as broker:
        broker.config_set("maxmemory-policy", "allkeys-lru")
        yield
        broker.config_set("maxmemory-policy", "noeviction")


def _fill(small_disk: Path) -> Path:
    home = open_home(small_disk / "data", "app", temporary=True).folder
    ballast = home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while shutil.disk_usage(home).free > 2 * 2**20:
            file.write(bytes(2**20))
    return ballast


@pytest.fixture(scope="module")
def seen(world: World, certificate: Path, clock: Path | None, small_disk: Path) -> dict[str, Seen]:
    """Everything breaks, is looked at, and is mended."""
    until(world.is_well)
    before = world.look()
    with Receiver() as receiver, world.phone("one"):
        with ExitStack() as mend:
            found = _break_all_but_the_database(world, receiver, certificate, small_disk, mend)
        until(world.is_well)
        after = world.look()

    [(revision,)] = world.sql("SELECT version_num FROM alembic_version")
    world.sql("UPDATE alembic_version SET version_num = '0012'")
    found |= world.look_for("missing migration")
    world.sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    found |= {"before": before, "after": after}
    return found | _with_another_password(world) | (_with_a_snapshot(world, clock) if clock else {})


def _with_another_password(world: World) -> dict[str, Seen]:
    installation = world.installation
    with psycopg.connect(installation.database_url, autocommit=True) as session:
        [(kept,)] = session.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'smsfleet'").fetchall()
        session.execute("ALTER ROLE smsfleet PASSWORD 'another'")
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        found = world.look_for("wrong password")
        session.execute(f"ALTER ROLE smsfleet PASSWORD '{kept}'")
    until(lambda: httpx.get(f"{installation.url}/health/ready").status_code == 200)
    return found


def _with_a_snapshot(world: World, clock: Path) -> dict[str, Seen]:
    with psycopg.connect(world.installation.database_url, application_name="forgotten") as session:
        session.execute("SET idle_in_transaction_session_timeout = 0")
        session.commit()
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("SELECT count(*) FROM messages")
        clock.write_text("+3601")
        return world.look_for("clock off by an hour", "long snapshot")


@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in NAMED])
def test_an_operator_finds_what_is_broken(seen: dict[str, Seen], name: str) -> None:
    thing, said = NAMED[name], seen[name]
    finding = said.of(thing)
    assert finding["severity"] == thing.severity, finding
    assert thing.detail in finding["detail"]
    assert thing.advice in finding["advice"]
    assert said.exit_code >= (2 if thing.severity == "broken" else 1)
    assert re.search(rf"^(BAD |WARN) {re.escape(thing.check)}: .*\n     → ", said.text, re.MULTILINE), said.text
    assert ON_PAGE.get(name, thing.detail) in said.page
    assert thing.alert in said.alerts


def test_the_timeline_of_a_message_blames_the_worker_and_no_phone(seen: dict[str, Seen], world: World) -> None:
    assert "A phone is free, but no worker has assigned the message to it" in world.timeline


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_doctor_finds_nothing_where_nothing_is_broken(seen: dict[str, Seen], moment: str) -> None:
    assert seen[moment].exit_code == 0, seen[moment].text


def test_a_process_is_named_by_what_holds_it(seen: dict[str, Seen]) -> None:
    assert "BAD  worker-webhooks-1: is not running" in seen["dead worker"].text
    assert re.search(r"BAD  worker-dispatch-1: process \d+ is stopped", seen["stuck worker"].text)


def test_the_documents_say_where_each_is_seen() -> None:
    rows = [line for line in Path("docs/operating/operation.md").read_text().splitlines() if line.startswith("| ")]
    for thing in THINGS:
        assert any(thing.name in row and thing.check in row and f"Smsfleet{thing.alert}" in row for row in rows), thing
