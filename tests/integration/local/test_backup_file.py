"""The file of a backup: whose it is, and what else lies in the folder it is written to."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from app.local import backup
from tests.support.waiting import until


def test_it_follows_nobodys_link_and_is_its_owners_alone(database, tmp_path):
    """In a folder that others may write to, such as /tmp."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("x.zip", "x.zip.part", "x.zip.new", ".x.zip"):
        (tmp_path / name).symlink_to(victim)
    there = {path.name for path in tmp_path.iterdir()}
    backup.take(tmp_path / "x.zip")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "x.zip").is_symlink()
    assert (tmp_path / "x.zip").stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == there


def test_two_at_once_to_one_file_leave_a_whole_one(database, tmp_path):
    target = tmp_path / "x.zip"
    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(backup.take, [target] * 2))) == 2
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        backup.Manifest.model_validate_json(archive.read(backup.MANIFEST))
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


@pytest.mark.parametrize("stopped", [False, True])
def test_it_waits_for_a_table_and_leaves_nothing_when_it_is_stopped(database, sql, tmp_path, *, stopped: bool):
    command = [sys.executable, "-m", "app.cli", "backup", str(tmp_path / "x.zip")]
    with psycopg.connect(database.postgres.url) as other:
        other.execute("LOCK TABLE contacts IN ACCESS EXCLUSIVE MODE")
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
        until(lambda: sql.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (1,))
        time.sleep(0.5)  # longer than hot transactions wait
        assert process.poll() is None
        assert [path.name for path in tmp_path.iterdir()] != []
        if stopped:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 128 + signal.SIGTERM
    assert process.wait(30) == (128 + signal.SIGTERM if stopped else 0)
    assert [path.name for path in tmp_path.iterdir()] == ([] if stopped else ["x.zip"])
