"""The units in `deploy/systemd`: systemd takes them, and they run the commands of `smsfleet up`."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.task_names import QueueName
from app.local import commands

UNITS = {path.stem: path for path in Path("deploy/systemd").glob("*.service")}


def started(unit: str) -> list[str]:
    """What it runs, after the interpreter."""
    [line] = [line for line in UNITS[unit].read_text().splitlines() if line.startswith("ExecStart=")]
    return shlex.split(line.removeprefix("ExecStart=").replace("%%", "%"))[1:]


def test_they_run_the_commands_of_up() -> None:
    where = ("--host", "${SMSFLEET_HOST}", "--port", "${SMSFLEET_PORT}")
    assert started("smsfleet") == ["up"]
    assert started("smsfleet-migrate") == list(commands.MIGRATE[1:])
    assert started("smsfleet-api") == list(commands.api(*where)[1:])
    assert started("smsfleet-beat") == list(commands.BEAT[1:])
    for queue in QueueName:
        assert started(f"smsfleet-worker-{queue}") == list(commands.worker(queue, f"{queue}-1")[1:])


def test_whatever_ends_is_started_again() -> None:
    for name, path in UNITS.items():
        kind = "on-failure" if name == "smsfleet-migrate" else "always"
        assert f"\nRestart={kind}\n" in path.read_text(), name
        assert "\nStartLimitIntervalSec=0\n" in path.read_text(), name  # else not after five ends within ten seconds


def test_what_cannot_be_migrated_now_keeps_nothing_from_starting() -> None:
    """The database may be away as the machine starts, or newer, amid an update: the processes see for themselves."""
    for name, path in UNITS.items():
        if name not in {"smsfleet", "smsfleet-migrate"}:
            assert "After=network-online.target smsfleet-migrate.service\n" in path.read_text(), name
            assert "Requires=" not in path.read_text(), name


@pytest.mark.needs_systemd
def test_systemd_takes_them(tmp_path: Path) -> None:
    program = os.fsdecode(sys.executable)
    for path in UNITS.values():
        text = path.read_text()
        for name in ("smsfleet", "python"):
            text = text.replace(f"/opt/smsfleet/bin/{name} ", f"{program} ")
        (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.glob("*.service"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
