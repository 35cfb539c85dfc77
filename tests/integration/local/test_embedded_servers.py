"""PostgreSQL and Valkey from their wheels."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.local import servers
from app.local.account import NAME, readable_code
from app.local.errors import LocalError
from app.local.home import open_home
from app.local.postmaster import repair_lock
from app.local.process import Child
from app.local.servers import READY_SECONDS, EmbeddedPostgres, EmbeddedValkey

as_root_only = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers run as himself")


def test_postgres_keeps_what_was_committed_when_it_is_killed(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    try:
        with postgres:
            with psycopg.connect(postgres.url) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
            postgres.kill()
            postgres.start()
            with psycopg.connect(postgres.url) as connection:
                assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
        with EmbeddedPostgres(tmp_path) as again, psycopg.connect(again.url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
    finally:
        postgres.home.remove()


def test_a_server_that_recovers_is_asked_a_few_times_a_second(tmp_path: Path) -> None:
    class Recovering(EmbeddedPostgres):
        asked = 0

        def answers(self) -> bool:
            self.asked += 1
            return time.monotonic() > began + 3

    postgres = Recovering(tmp_path, durable=False)
    postgres.prepare()
    began = time.monotonic()
    try:
        postgres.start()
        assert postgres.asked < 30
    finally:
        postgres.__exit__(None, None, None)


def test_a_server_that_recovers_is_waited_for_as_long_as_that_takes(tmp_path: Path, monkeypatch) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres:
        postgres.stop()
        data = postgres.home.folder / "data"
        with (data / "postgresql.conf").open("a") as file:
            file.write("hot_standby = off\n")
        (data / "standby.signal").touch()  # so it recovers until it is told that this is enough
        monkeypatch.setattr(servers, "READY_SECONDS", 2)
        child = postgres._child = Child(postgres.program, postgres.output)
        started = time.monotonic()

        def end_recovery() -> None:
            if time.monotonic() > started + 4 and not (data / "promote").exists():
                (data / "promote").touch()
                child.send(signal.SIGUSR1)

        postgres.wait_ready(child, end_recovery)
        with psycopg.connect(postgres.url) as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def test_an_error_of_a_statement_is_logged_in_one_line(tmp_path: Path) -> None:
    lines: list[str] = []
    with (
        EmbeddedPostgres(tmp_path, durable=False, output=lambda _, line: lines.append(line)) as postgres,
        psycopg.connect(postgres.url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.DivisionByZero),
    ):
        connection.execute("SELECT\n1 / 0")
    assert "ERROR:  division by zero" in lines
    assert [line for line in lines if "SELECT" in line or "1 / 0" in line] == []


def test_postgres_outlives_the_data_folder_as_far_as_it_lies_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = EmbeddedPostgres(folder)
    try:
        with first, psycopg.connect(first.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        outlives = not first.home.folder.is_relative_to(folder)
        shutil.rmtree(folder)
        with EmbeddedPostgres(folder) as again, psycopg.connect(again.url) as connection:
            assert connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchone() == (outlives,)
    finally:
        first.home.remove()


def test_a_password_that_does_not_fit_is_named_at_once(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres:
        postgres.stop()
        postgres.home.password_file.write_text("wrong")
        started = time.monotonic()
        with pytest.raises(LocalError, match=f"a password other than the one in {postgres.home.password_file}"):
            postgres.start()
        assert time.monotonic() - started < READY_SECONDS / 2


def test_postgres_listens_in_a_private_folder_only(database) -> None:
    postgres = database.postgres
    assert stat.S_IMODE(postgres.home.folder.stat().st_mode) & 0o007 == 0
    assert stat.S_IMODE(postgres._sockets.stat().st_mode) == 0o700
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace(postgres._secret(), "wrong"))


def test_a_long_data_path_gets_a_short_socket_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with EmbeddedPostgres(folder, durable=False) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_valkey_wants_its_password_and_never_evicts(database) -> None:
    with redis.Redis.from_url(database.valkey.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    impatient = Retry(NoBackoff(), 0)
    with redis.Redis(port=database.valkey.port, retry=impatient) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_valkey_keeps_its_queue_over_a_restart(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    try:
        with valkey:
            with redis.Redis.from_url(valkey.url) as client:
                client.lpush("queue", "nudge")
            valkey.stop()
            valkey.start()
            with redis.Redis.from_url(valkey.url) as client:
                assert client.lrange("queue", 0, -1) == [b"nudge"]
    finally:
        valkey.home.remove()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres:
        postgres.stop()
        (postgres.home.folder / "data" / "PG_VERSION").unlink()
        with pytest.raises(LocalError, match="not a valid data directory"):
            postgres.start()


def test_what_does_not_last_is_removed(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres, EmbeddedValkey(tmp_path, durable=False) as valkey:
        homes = [postgres.home.folder, valkey.home.folder]
    assert not any(home.exists() for home in homes)


def _as_the_account(*command: object) -> int:
    """Run it as any process of the unprivileged account could; the exit status."""
    entry = pwd.getpwnam(NAME)
    return subprocess.run(
        [str(part) for part in command],
        user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], capture_output=True, check=False,
    ).returncode  # fmt: skip


@as_root_only
def test_the_account_cannot_change_names_that_root_follows(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres, EmbeddedValkey(tmp_path, durable=False) as valkey:
        for home in (postgres.home.folder, valkey.home.folder):
            assert _as_the_account("test", "-x", home) == 0
            assert _as_the_account("ln", "-s", tmp_path, home / "link") != 0
            assert _as_the_account("mv", home / "data", home / "away") != 0


@as_root_only
@pytest.mark.parametrize(("server", "name"), [(EmbeddedPostgres, "sockets"), (EmbeddedValkey, "data")])
def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path, server: type, name: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    home = server(tmp_path / "server", durable=False).home.folder
    try:
        (home / name).symlink_to(victim)
        with pytest.raises(LocalError, match=str(home / name)):
            server(tmp_path / "server", durable=False).__enter__()
        assert (victim.stat().st_uid, stat.S_IMODE(victim.stat().st_mode)) == (0, 0o755)
        (home / name).unlink()
        with server(tmp_path / "server", durable=False) as again:
            assert again.answers()
        assert not home.exists()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _kill_without_reaping(child: Child) -> None:
    """As where a whole process tree was killed and init reaps late, or never."""
    child.send(signal.SIGKILL)
    stat_file = Path(f"/proc/{child.pid}/stat")
    while stat_file.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)


def test_postgres_starts_beside_an_unreaped_postmaster(tmp_path: Path) -> None:
    first = EmbeddedPostgres(tmp_path)
    first.prepare()
    first.start()
    try:
        with psycopg.connect(first.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        _kill_without_reaping(first._child)
        os.kill(first._child.pid, 0)  # for PostgreSQL it runs
        with EmbeddedPostgres(tmp_path) as again, psycopg.connect(again.url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
    finally:
        first.stop()
        first.home.remove()


def test_postgres_starts_where_another_program_has_the_number_of_the_old_one(tmp_path: Path) -> None:
    """In a container every start gives out the same small numbers."""
    postgres = EmbeddedPostgres(tmp_path)
    postgres.prepare()
    postgres.start()
    postgres.kill()
    account = postgres.home.account
    as_account = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    sleeper = subprocess.Popen(["sleep", "100"], **as_account)
    try:
        lock = postgres.home.folder / "data" / "postmaster.pid"
        lines = lock.read_text().split("\n")
        lock.write_text("\n".join([str(sleeper.pid), *lines[1:]]))
        with EmbeddedPostgres(tmp_path) as again:
            assert again.answers()
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
        postgres.home.remove()


def test_the_lock_of_a_server_that_runs_is_left_alone(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres:
        lock = postgres.home.folder / "data" / "postmaster.pid"
        before = lock.read_bytes()
        repair_lock(lock)
        assert lock.read_bytes() == before
        assert postgres.answers()


def test_no_lock_is_mended_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("999999\n")
    (tmp_path / "soft").symlink_to(tmp_path / "victim")
    (tmp_path / "hard").hardlink_to(tmp_path / "victim")
    for name in ("soft", "hard"):
        with pytest.raises(LocalError, match="remove it"):
            repair_lock(tmp_path / name)
    assert (tmp_path / "victim").read_text() == "999999\n"


MAKING = """
from app.local import account
account.NAME = "smsfleet-nobody"
account._MAKING = (("sh", "-c", "echo begins >> {log}; sleep 0.5; echo ends >> {log}"),)
account.find_account()
"""


def test_of_several_first_starts_one_makes_the_account(tmp_path: Path) -> None:
    """`useradd` twice at once gives a name one number and then another, and the first is nobody's."""
    log = tmp_path / "log"
    command = [sys.executable, "-c", MAKING.format(log=log)]
    starts = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for start in starts:
        assert "cannot be created here" in start.communicate(timeout=60)[1]
    assert log.read_text().split() == ["begins", "ends"] * 3


@as_root_only
def test_data_of_an_earlier_versions_account_is_taken_over(tmp_path: Path) -> None:
    """Earlier versions ran the servers as `nobody`."""
    nobody = pwd.getpwnam("nobody").pw_uid
    victim = tmp_path / "victim"
    victim.touch()
    postgres, valkey = EmbeddedPostgres(tmp_path / "data"), EmbeddedValkey(tmp_path / "data")
    try:
        with postgres, valkey, psycopg.connect(postgres.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        for folder in (postgres.home.folder / "data", postgres._sockets, valkey.home.folder / "data"):
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, nobody, nobody, follow_symlinks=False)
        (postgres.home.folder / "data" / "hard").hardlink_to(victim)
        (postgres.home.folder / "data" / "soft").symlink_to(victim)
        with EmbeddedPostgres(tmp_path / "data") as again, EmbeddedValkey(tmp_path / "data") as other:
            assert other.answers()
            with psycopg.connect(again.url) as connection:
                assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
            left = [path for path in again.home.folder.rglob("*") if path.lstat().st_uid == nobody]
            assert left == []
        assert victim.stat().st_uid == 0
    finally:
        postgres.home.remove()
        valkey.home.remove()


@as_root_only
def test_the_account_can_import_what_it_runs(tmp_path: Path) -> None:
    """From where it is installed, or from a copy that is kept as long as the packages are the same."""
    home = open_home(tmp_path, "app", temporary=True)
    try:
        code = readable_code(home.account, home.folder / "code", home.programs.parent)
        kept = [path.stat().st_ino for path in home.programs.parent.glob("code-*/made-from")]
        assert readable_code(home.account, home.folder / "code", home.programs.parent) == code
        assert [path.stat().st_ino for path in home.programs.parent.glob("code-*/made-from")] == kept
        done = subprocess.run(
            [code.python if code else sys.executable, "-c", "import app.main, workers.app, workers.beat"],
            env={"PATH": os.defpath, "SMSFLEET_REDIS_URL": "redis://127.0.0.1:1/0", **(code.env if code else {})},
            cwd=home.folder, capture_output=True, text=True, user=home.account.uid, group=home.account.gid,
            extra_groups=[], check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if code:  # nothing in it is the account's to change
            assert {path.stat().st_uid for path in (home.folder / "code").rglob("*")} == {0}
    finally:
        home.remove()
