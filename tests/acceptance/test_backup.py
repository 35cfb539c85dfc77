"""An installation lost in the middle of a campaign, restored elsewhere: its operator's commands, from end to end."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pyrage
import pytest

from app.local.folder import find_running
from app.local.home import open_home
from phones.ledger import Ledger
from tests.acceptance.running import Up
from tests.support.waiting import until

PERSON = {"name": "Ali", "email": "ali@example.com", "password": "secret-1", "password_confirmation": "secret-1"}
RECIPIENTS = 2000

pytestmark = pytest.mark.timeout(300)


def start(data_dir: Path, *words: str, **env: str) -> subprocess.Popen[str]:
    """The command as a user gives it, in an environment with no settings but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SMSFLEET_")}
    return subprocess.Popen(
        [sys.executable, "-m", "app.cli", *words],
        env={"PYTHONPATH": str(Path.cwd()), **inherited, "SMSFLEET_DATA_DIR": str(data_dir), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(data_dir: Path, *words: str, **env: str) -> Iterator[None]:
    process = start(data_dir, *words, **env)
    try:
        yield
    finally:
        process.terminate()
        process.communicate()


def done(data_dir: Path, *words: str, **env: str) -> str:
    process = start(data_dir, *words, **env)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out + err


def refused(data_dir: Path, *words: str) -> str:
    """The one line that it says."""
    process = start(data_dir, *words)
    out, err = process.communicate()
    assert (process.returncode, out, err.count("\n")) == (1, "", 1), err
    return err


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A data folder that a command fills, and nobody else removes."""
    made = []

    def make(name: str) -> Path:
        made.append(tmp_path / name)
        return made[-1]

    yield make
    for folder in made:
        for server in ("postgres", "valkey", "app"):  # as root they lie outside of the data folder
            open_home(folder, server, temporary=True).remove()


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, Path]:
    """What the gateway has, and the file that its operator keeps."""
    secret = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{secret}\n")
    return str(secret.to_public()), tmp_path / "key.txt"


class Phones:
    """Simulated phones, and the ledger of what they sent."""

    def __init__(self, folder: Path) -> None:
        self.ledger, self._state = folder / "ledger", folder / "phones"

    @contextmanager
    def at(self, data_dir: Path, token: str = "") -> Iterator[None]:
        words = ["--phones", "3", "--send-time", "0.1", "--delivery-delay", "0.1-0.5", "--ledger", str(self.ledger)]
        env = {"SMSFLEET_TOKEN": token} if token else {}
        with running(data_dir, "phones", "simulate", *words, "--state", str(self._state), **env):
            yield

    def on_air(self) -> Ledger:
        return Ledger.read(self.ledger) if self.ledger.exists() else Ledger()


def test_nothing_goes_out_twice_and_figures_are_right_after_a_restore(
    up: Callable[..., Up], place: Callable[[str], Path], keys: tuple[str, Path], tmp_path: Path
) -> None:
    public, secret = keys
    plain, encrypted = tmp_path / "backup.zip", tmp_path / "backup.age"
    phones = Phones(tmp_path)
    lost = up(data_dir=tmp_path / "lost", SMSFLEET_SIZE="small")
    url = lost.ready()
    session = httpx.post(f"{url}/api/register", json=PERSON).json()["data"]["token"]
    mine = {"Authorization": f"Bearer {session}"}
    key = httpx.post(f"{url}/api/tokens", headers=mine, json={"name": "cli"}).json()["data"]["token"]
    invited = httpx.post(f"{url}/api/devices/enrollment", headers=mine).json()["data"]
    people = tmp_path / "people.csv"
    people.write_text("phone\n" + "".join(f"+9989011{number:05}\n" for number in range(RECIPIENTS)))
    with phones.at(lost.data_dir, invited["private_token"]):
        until(lambda: len(httpx.get(f"{url}/api/devices", headers=mine).json()["data"]) == 3)
        words = ["campaign", "send", str(people), "--text", "We open at nine", "--yes"]
        with running(lost.data_dir, *words, SMSFLEET_API_KEY=key):
            until(lambda: len(phones.on_air()) > 20)
            assert " rows as of " in done(lost.data_dir, "backup", str(plain))
            assert " rows as of " in done(lost.data_dir, "backup", str(encrypted), SMSFLEET_BACKUP_KEY=public)
            at_backup = len(phones.on_air())
            until(lambda: len(phones.on_air()) > at_backup + 20)
            assert len(phones.on_air()) < RECIPIENTS
            lost.crash()

    found = place("found")
    assert "is encrypted" in refused(found, "restore", str(encrypted))
    whole = encrypted.read_bytes()
    (tmp_path / "spoilt.age").write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    assert "was cut short or changed" in refused(found, "restore", str(tmp_path / "spoilt.age"), "--key", str(secret))
    told = done(found, "restore", str(encrypted), "--key", str(secret))
    assert "may have been sent since, and are marked as failed, uncertain" in told
    assert "1 campaigns wait for their owners" in told
    assert "not empty" in refused(found, "restore", str(plain))

    here = up(data_dir=found, SMSFLEET_SIZE="small")
    url = here.ready()
    before = len(phones.on_air())
    with phones.at(found):
        sent = {"recipient_number": "+998901112233", "message": "Hello again"}
        new = httpx.post(f"{url}/api/sms", headers=mine, json=sent).json()["data"]["message_id"]
        until(lambda: new in phones.on_air().message_ids())
        until(lambda: httpx.get(f"{url}/api/account", headers=mine).json()["data"]["stats"]["total_pending"] == 0)
    air = phones.on_air()
    assert air.sent_twice() == air.same_text_twice() == {}
    assert len(air) > before >= at_backup + 20
    judge(found, url, mine, air)


def judge(data_dir: Path, url: str, mine: dict[str, str], air: Ledger) -> None:
    """Everything is known or marked as uncertain, and figures are the recount."""
    with psycopg.connect(find_running(data_dir).database_url) as sql:
        rows = dict(sql.execute("SELECT CAST(message_id AS text), status FROM messages").fetchall())
        certain = sql.execute("SELECT count(*) FROM messages WHERE status = 'failed' AND NOT uncertain").fetchone()
        [not_made] = sql.execute("SELECT count(*) FROM campaign_recipients WHERE message_id IS NULL").fetchone()
    counted = Counter(rows.values())
    assert counted.keys() <= {"delivered", "sent", "failed"}
    assert counted["failed"] > 0
    assert certain == (0,)
    assert {name for name, status in rows.items() if status in {"delivered", "sent"}} <= air.message_ids()
    stats = httpx.get(f"{url}/api/account", headers=mine).json()["data"]["stats"]
    told = {"total_sent": len(rows), "total_delivered": counted["delivered"], "total_failed": counted["failed"]}
    assert {name: stats[name] for name in told} == told
    [shown] = httpx.get(f"{url}/api/campaigns", headers=mine).json()["data"]["data"]
    assert (shown["status"], shown["paused_by"]) == ("paused", "restore")
    assert (shown["counts"]["recipients"], shown["counts"]["not_made"]) == (RECIPIENTS, not_made)
