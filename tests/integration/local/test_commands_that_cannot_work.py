"""Where settings or the machine are wrong, each process ends with a sentence that says so, and without a trace."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from app.local import backup, commands

CLI = (sys.executable, "-m", "app.cli")
HEARTBEAT = (sys.executable, "-m", "app.core.heartbeat")
OF_THE_DATABASE = [
    "user list", "user create ali@example.com --name Ali", "user link", "audit list", "promo list", "release list",
    "phones pair", "backup x.zip",
]  # fmt: skip


def run(folder: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    given = {f"SMSFLEET_{name}": value for name, value in settings.items()}
    env = {"PYTHONPATH": str(Path.cwd()), **os.environ, "SMSFLEET_DATA_DIR": str(folder / "data"), **given}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize(
    "command",
    [(*CLI, "up"), (*CLI, "doctor"), commands.worker("dispatch", "d-1"), commands.BEAT, commands.api("--port", "0")],
    ids=["up", "doctor", "worker", "beat", "api"],
)
def test_every_process_names_a_setting_that_is_wrong_and_tells_no_password(tmp_path: Path, command) -> None:
    done = run(tmp_path, *command, REDIS_URL="amq:s3cret@h:5672", TRUSTED_PROXIES="abc")
    assert done.returncode == 1
    proxies, server = done.stderr.splitlines()
    assert proxies.startswith("SMSFLEET_TRUSTED_PROXIES=abc: an address or a network is expected")
    assert server == "SMSFLEET_REDIS_URL: it begins with one of redis://, rediss://, valkey://, valkeys://"
    assert done.stdout == ""


@pytest.mark.parametrize("words", OF_THE_DATABASE)
def test_a_database_that_is_away(tmp_path: Path, words: str) -> None:
    nowhere = {"DATABASE_URL": "postgresql://u:s3cret@127.0.0.1:1/x", "REDIS_URL": "redis://:s3cret@127.0.0.1:1/0"}
    done = run(tmp_path, *CLI, *words.split(), **nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("the database cannot be reached: ")
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("words", OF_THE_DATABASE)
def test_a_database_that_was_never_migrated(tmp_path: Path, database, words: str) -> None:
    with psycopg.connect(database.postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE unmigrated TEMPLATE template0")
        try:
            done = run(tmp_path, *CLI, *words.split(), DATABASE_URL=connection_to(database.postgres.url, "unmigrated"))
        finally:
            connection.execute("DROP DATABASE unmigrated WITH (FORCE)")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("the database has the schema of no version")
    assert line.endswith("run `smsfleet migrate`")


def connection_to(url: str, name: str) -> str:
    place, _, options = url.partition("?")
    return f"{place.rpartition('/')[0]}/{name}{options and f'?{options}'}"


def test_a_percent_sign_in_a_password(tmp_path: Path) -> None:
    done = run(tmp_path, *CLI, "backup", "x.zip", DATABASE_URL="postgresql://u:50%s3cret@127.0.0.1:1/x")
    assert (done.returncode, done.stderr) == (
        1, "SMSFLEET_DATABASE_URL cannot be made out: a % in its password is written as %25\n"
    )  # fmt: skip


def test_a_backup_goes_to_a_regular_file_alone(database, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name, told in {
        "fifo": "is no regular file: name one, or - for standard output",
        "folder": "is no regular file: name one, or - for standard output",
        "missing/x.zip": "cannot be written (No such file or directory)",
    }.items():
        with pytest.raises(backup.LocalError) as refused:
            backup.take(tmp_path / name)
        assert str(refused.value) == f"{tmp_path / name} {told}"
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "folder"]


def test_a_file_of_settings_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("# für später\nSMSFLEET_PORT=8001\n".encode("latin-1"))
    done = run(tmp_path, *CLI, "user", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path}/.env is not in UTF-8: save it in that encoding\n"


def test_the_check_of_a_container(tmp_path: Path, database) -> None:
    away = run(tmp_path, *HEARTBEAT, "beat", REDIS_URL="redis://:s3cret@127.0.0.1:1/0")
    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr.startswith("Valkey cannot be reached: ")
    assert "s3cret" not in away.stderr
    assert run(tmp_path, *HEARTBEAT).stderr.startswith("name what is to work, one of dispatch, ")
    assert (run(tmp_path, *HEARTBEAT, "beat").returncode, run(tmp_path, *HEARTBEAT, "beat").stderr) == (1, "")
