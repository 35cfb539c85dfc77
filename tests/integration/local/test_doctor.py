"""Each check of `smsfleet doctor`, with the thing broken that it looks at."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from app.checks import database as database_checks
from app.checks import machine
from app.checks.finding import Finding, Severity
from app.core import heartbeat
from app.core.settings import Settings, get_settings
from app.local import doctor, processes
from app.local.folder import Recorded, Runtime, process_start, process_state
from app.migrations.config import migrate
from tests.support import certificates, small_disk
from tests.support.waiting import until

Look = Callable[..., Finding]


@pytest.fixture
def broker(database) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(database.valkey.url) as client:
        yield client


@pytest.fixture
def look(broker) -> Look:
    """What the doctor says of one thing, in an installation in which all else is well."""
    for kind in heartbeat.NEEDED:
        heartbeat.note(broker, kind, f"{kind}-1@here")

    def examine(what: str, settings: Settings | None = None) -> Finding:
        found = doctor.examine(settings or get_settings(), None)
        [finding] = [one for one in found if one.what == what]
        others = [one for one in found if one.what != what and one.severity > Severity.NOTE]
        assert others == [], "one thing is broken"
        return finding

    return examine


def is_broken(finding: Finding, word: str) -> bool:
    assert finding.advice
    assert word in finding.detail + finding.advice
    return finding.severity is Severity.BROKEN


def is_warned_of(finding: Finding, word: str) -> bool:
    assert finding.advice
    assert word in finding.detail
    return finding.severity is Severity.WARNING


def test_nothing_is_found_where_all_is_well(look) -> None:
    assert look("database").severity is Severity.OK
    assert look("waiting messages").severity is Severity.OK


@pytest.mark.parametrize("queue", ["dispatch", "webhooks", "upkeep"])
def test_a_worker_that_died_or_takes_nothing(look, broker, queue: str) -> None:
    now, _ = broker.time()
    broker.zadd(f"alive:{queue}", {f"{queue}-1@here": now - 200})
    assert is_broken(look(f"queue {queue}"), f"{queue}-1@here did 3 minutes ago")
    broker.delete(f"alive:{queue}")
    assert is_broken(look(f"queue {queue}"), f"-Q {queue}")


def test_beat_that_does_not_tick(look, broker) -> None:
    broker.delete("alive:beat")
    assert is_broken(look("ticks"), "celery … beat")


def test_a_queue_that_grows(look, broker) -> None:
    broker.rpush("smsfleet:webhooks", *range(1001))
    assert is_warned_of(look("length of queue webhooks"), "1001 tasks")


def test_a_broker_that_evicts(look, broker) -> None:
    broker.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert is_broken(look("eviction"), "allkeys-lru")
    finally:
        broker.config_set("maxmemory-policy", "noeviction")


def test_a_broker_that_is_nearly_full(look, broker) -> None:
    broker.config_set("maxmemory", int(broker.info("memory")["used_memory"] * 1.2))
    try:
        assert is_warned_of(look("broker's memory"), "% of its limit")
    finally:
        broker.config_set("maxmemory", 0)


def test_a_migration_that_is_missing(look, sql) -> None:
    [(current,)] = sql.execute("SELECT version_num FROM alembic_version").fetchall()
    try:
        sql.execute("UPDATE alembic_version SET version_num = '0001'")
        assert is_broken(look("schema"), "run `smsfleet migrate`")
        sql.execute("UPDATE alembic_version SET version_num = '9999'")
        assert is_broken(look("schema"), "is of a newer smsfleet")
    finally:
        sql.execute("UPDATE alembic_version SET version_num = %s", [current])


def test_a_role_without_its_settings(look, sql) -> None:
    name = sql.info.dbname
    sql.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {name} RESET statement_timeout")
    assert is_warned_of(look("role's settings"), "statement_timeout is 0")
    migrate()
    assert look("role's settings").severity is Severity.OK


def test_a_wrong_password_of_the_database(look, database) -> None:
    url = database.postgres.url.replace("://smsfleet:", "://smsfleet:not-")
    assert is_broken(look("database", Settings(database_url=url)), "password authentication failed")


def test_a_clock_that_is_off(look, monkeypatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3700)
    assert is_warned_of(look("clocks"), "differ by 1 hour")


def test_a_clock_of_a_worker_that_is_off(look, broker, monkeypatch) -> None:
    """It says that it works, and takes no tick."""
    assert look("clocks of workers").severity == Severity.OK
    real = time.time
    with monkeypatch.context() as of_the_worker:
        of_the_worker.setattr(time, "time", lambda: real() + 3600)
        heartbeat.note(broker, "upkeep", "upkeep-2@there")
    assert is_broken(look("clocks of workers"), "upkeep-2@there by 1 hour")


def test_a_transaction_that_stays_open(look, database, monkeypatch) -> None:
    monkeypatch.setattr(database_checks, "MAX_SNAPSHOT_SECONDS", 0)
    with psycopg.connect(database.postgres.url, application_name="pg_dump") as connection:
        connection.execute("SELECT 1")
        assert is_warned_of(look("oldest transaction"), f"pg_dump (process {connection.info.backend_pid}")


def _add_phone(sql, user: int, seen: str) -> int:
    [(device,)] = sql.execute(
        "INSERT INTO devices (user_id, device_id, device_name, registered_name, sms_rate, hook_secret, signing_key)"
        " VALUES (%s, 'one', 'One', 'One', 1, 'hook', 'key') RETURNING id",
        [user],
    ).fetchall()
    sql.execute(
        "INSERT INTO device_state (device_id, seen_at) VALUES (%s, clock_timestamp() - CAST(%s AS interval))",
        [device, seen],
    )
    return device


def test_a_phone_that_went_silent(look, sql, ali) -> None:
    device = _add_phone(sql, ali.id, "5 hours")
    assert is_warned_of(look("phones"), f"device {device}")


def test_messages_that_wait_though_a_phone_is_free(look, sql, ali) -> None:
    _add_phone(sql, ali.id, "1 second")
    sql.execute(
        "INSERT INTO message_queue (message_id, user_id, device_id, lane, stage, since)"
        " VALUES (1, %s, 0, 0, 0, clock_timestamp() - interval '1 hour')",
        [ali.id],
    )
    assert is_broken(look("waiting messages"), "for up to 1 hour")


def test_a_receiver_that_fails(look, sql, ali) -> None:
    sql.execute(
        "INSERT INTO webhook_targets (user_id, origin, fail_count, failing_since)"
        " VALUES (%s, 'https://hooks.example.com', 7, clock_timestamp() - interval '2 days')",
        [ali.id],
    )
    assert is_warned_of(look("webhook receivers"), "7 calls of https://hooks.example.com")


def test_webhooks_that_nobody_posts(look, sql, ali) -> None:
    sql.execute(
        "INSERT INTO webhook_queue (delivery_id, user_id, hook, origin, url, next_attempt_at)"
        " VALUES (1, %s, 'status', 'http://one.example', 'http://one.example/', clock_timestamp() - interval '1 hour')",
        [ali.id],
    )
    assert is_warned_of(look("waiting webhooks"), "overdue, by up to 1 hour")


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with small_disk.mounted(tmp_path, 32 * 2**20):
        assert machine.disk(tmp_path / "not" / "made").severity is Severity.OK
        (tmp_path / "file").write_bytes(bytes(30 * 2**20))
        assert is_warned_of(machine.disk(tmp_path), "are free")
        (tmp_path / "more").write_bytes(bytes(2**20))
        assert is_broken(machine.disk(tmp_path), "are free")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificates")
@pytest.mark.parametrize(
    ("days", "severity"), [(1, Severity.BROKEN), (10, Severity.WARNING), (60, Severity.OK)], ids=str
)
def test_a_certificate_that_is_about_to_end(tmp_path: Path, days: int, severity: Severity) -> None:
    shown = certificates.make(tmp_path, days)
    with certificates.served(shown) as port:
        assert machine.certificate("localhost", port, str(shown)).severity is severity
        if severity is Severity.OK:
            unknown = machine.certificate("localhost", port)
            assert is_broken(unknown, "is not accepted")
    assert is_broken(machine.certificate("localhost", port), "cannot be reached")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"session_idle": "P400D"}, "SMSFLEET_SESSION_IDLE"),
        ({"public_url": "http://sms.example.com", "allowed_hosts": "sms.example.com"}, "no effect"),
        ({"public_url": "http://sms.example.com"}, "SMSFLEET_METRICS_TOKEN is not set"),
        ({"public_url": "https://sms.example.com", "host": "0.0.0.0"}, "trusts no proxy"),
        ({"host": "0.0.0.0", "registration": "open"}, "no address is confirmed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_contradict_each_other(settings: dict[str, str], word: str) -> None:
    assert any(word in finding.detail for finding in machine.contradictions(Settings(**settings)))


def test_default_settings_do_not_contradict_each_other() -> None:
    assert list(machine.contradictions(Settings())) == []


def test_a_process_that_is_stopped_or_gone(gateway) -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        recorded = Recorded("beat", child.pid, process_start(child.pid), 15)
        runtime = Runtime(recorded, url=gateway.url, processes=[recorded])

        def beat() -> Finding:
            return list(processes.processes(runtime))[-1]

        assert beat().severity is Severity.OK
        child.send_signal(signal.SIGSTOP)
        try:
            until(lambda: process_state(child.pid) == "T")  # not at once where it has yet to run
            assert is_broken(beat(), "is stopped")
        finally:
            child.kill()
        child.wait()
        assert is_broken(beat(), "is not running")


def _run(*options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "doctor", *options],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_tells_programs_and_its_exit_code_how_bad_it_is(look, broker, sql, ali) -> None:
    well = _run("--json")
    assert (well.returncode, json.loads(well.stdout)["status"]) == (0, "note"), well.stdout
    device = _add_phone(sql, ali.id, "5 hours")
    warned = _run("--json")
    [phones] = [one for one in json.loads(warned.stdout)["findings"] if one["check"] == "phones"]
    assert (warned.returncode, phones["severity"]) == (1, "warning")
    assert phones["detail"].endswith(f"device {device}")
    broker.delete("alive:beat")
    bad = _run()
    assert bad.returncode == 2
    assert "BAD  ticks: none from beat for 30 seconds\n     → start" in bad.stdout


def test_a_report_to_share_names_nobody_and_no_secret(database) -> None:
    url = "postgresql://smsfleet:s3cret-word@db.internal.example:5432/smsfleet?connect_timeout=1"
    told = Settings(database_url=url, metrics_token="token-of-metrics", public_url="https://sms.example.com")
    lines = [
        f"connection to {url} failed, and to db at 192.0.2.77: s3cret-word, token-of-metrics",
        "device of ali@example.com, +998901112233, 998901112233",
        "https://hooks.example.org:8443 does not answer; sms.example.com shows one that is not accepted",
        "failed to resolve host 'db.internal.example'; http://[2001:db8::77]:8000 and fd00:0:0:0:0:0:0:77, at 16:20:33",
    ]
    shared = doctor.shareable("\n".join(lines), told)
    for hidden in ("s3cret-word", "token-of", "ali@", "9989", "192.0.2", "hooks.example", "sms.example", "internal"):
        assert hidden not in shared
    assert shared.endswith("failed to resolve host '<host>'; http://<host>:8000 and <address>, at 16:20:33")
    done = _run("--share", SMSFLEET_METRICS_TOKEN="token-of-metrics", SMSFLEET_PUBLIC_URL="https://127.0.0.1:1")
    assert "127.0.0.1" not in done.stdout
    assert "BAD  certificate: <host>:1 cannot be reached" in done.stdout


def test_the_last_backup_is_old(look, sql) -> None:
    assert look("backup").severity is Severity.NOTE
    sql.execute(
        "INSERT INTO audit_events (action, by, created_at) VALUES ('backup_made', 'command', now() - '9 d'::interval)"
    )
    assert is_warned_of(look("backup"), "9 days old")
    sql.execute("INSERT INTO audit_events (action, by) VALUES ('backup_made', 'command')")
    assert look("backup").severity is Severity.OK
