"""A database that becomes read-only, ends its sessions, recovers, or is replaced by its standby."""

import os
import shutil
import socket
import socketserver
import struct
import threading
import time
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from app.core import connecting
from app.core.database import get_engine
from app.core.settings import get_settings
from app.local import doctor
from app.local.home import write_private
from app.local.process import Program, run
from app.local.servers import EmbeddedPostgres, quiet
from app.migrations.config import migrate


@contextmanager
def read_only(owner):
    """Open sessions too, from their next transaction on, as of a primary that was made a replica."""
    owner.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    owner.execute("SELECT pg_reload_conf()")
    with get_engine().connect() as look:
        while look.exec_driver_sql("SHOW transaction_read_only").scalar() == "off":
            look.rollback()
            time.sleep(0.01)
    try:
        yield
    finally:
        owner.execute("SET default_transaction_read_only = off")
        owner.execute("ALTER SYSTEM RESET default_transaction_read_only")
        owner.execute("SELECT pg_reload_conf()")


def test_what_cannot_be_written_says_to_come_back(client, phone, owner, database, traffic):
    traffic.run(3)
    with read_only(owner):
        body = {"recipient_number": "+998901112233", "message": "Hello"}
        for call in (
            lambda: client.post("/api/sms", json=body),
            lambda: client.post("/api/sms/bulk", json={"recipients": ["+998901112233"], "message": "Hello"}),
            lambda: client.put("/api/settings", json={"keep_inbound": False}),
            lambda: client.post("/api/contacts", json={"name": "Vali", "phone_number": "+998901112234"}),
            lambda: phone.client.get("/message", headers=phone.headers),
        ):
            answer = call()
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), answer.text
        assert client.get("/api/sms").status_code == 200, "what only reads is served"
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["database"]) == (503, "down")
        [found] = [finding for finding in doctor.examine(get_settings(), None) if finding.what == "database"]
        assert not found.good
        assert "is read-only" in found.detail
    deadline = time.monotonic() + 10
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    traffic.run(3)
    assert traffic.failures == []


def test_sessions_that_were_ended_are_replaced(traffic, owner, client):
    traffic.run(5)
    for _ in range(3):
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert client.get("/api/sms").status_code == 200
        assert client.post("/api/sms", json={"recipient_number": "+998901112233", "message": "Hi"}).status_code == 201
    assert traffic.failures == []


@pytest.fixture
def pair(tmp_path, moved_to):
    """A primary with our schema, its standby, and the URL that finds whichever takes writes."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with EmbeddedPostgres(tmp_path / "a", durable=False) as primary:
        moved_to(primary.url)
        migrate()
        standby = EmbeddedPostgres(tmp_path / "b", durable=False)
        write_private(standby.home.password_file, primary.home.password_file.read_text())
        data = standby.home.make_private("data")
        copy = ("pg_basebackup", "-R", "-c", "fast", "-D", str(data), "-d", primary.url)
        program = standby.home.program("postgres").removesuffix("postgres") + copy[0]
        env = {"PATH": os.defpath}
        run(Program(copy[0], (program, *copy[1:]), env, standby.home.folder, account=standby.home.account), quiet)
        standby.start()
        try:
            hosts = ",".join(psycopg.conninfo.conninfo_to_dict(one.url)["host"] for one in (primary, standby))
            yield primary, standby, f"{primary.url.partition('?')[0]}?host={hosts}&target_session_attrs=read-write"
        finally:
            standby.stop()
            shutil.rmtree(standby.home.folder)


def test_a_standby_takes_over(pair, moved_to, new_account, api, gateway):
    from tests.integration.database.conftest import Traffic
    from tests.support.strict_phone import StrictPhone

    primary, standby, url = pair
    moved_to(url)
    vali = new_account("vali@example.com")
    api.headers.update(vali.headers)
    phone = StrictPhone(gateway.url)
    phone.register(vali.token("phone:enroll")["Authorization"].removeprefix("Bearer "))
    phone.sync()
    traffic = Traffic(api, phone)
    traffic.run(5)
    assert traffic.failures == []
    with (
        psycopg.connect(primary.url, autocommit=True) as old,
        psycopg.connect(standby.url, autocommit=True) as new,
        read_only(old),
    ):
        written = old.execute("SELECT pg_current_wal_lsn()").fetchone()[0]
        while not new.execute("SELECT pg_last_wal_replay_lsn() >= %s", [written]).fetchone()[0]:
            time.sleep(0.01)
        assert api.post("/api/sms", json={"recipient_number": "+998901112233", "message": "Hi"}).status_code == 503
        assert new.execute("SELECT pg_promote()").fetchone()[0]
        deadline = time.monotonic() + 10
        while api.get("/health/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        traffic.run(10)
        assert traffic.failures == []
        assert (
            new.execute("SELECT count(*) FROM messages").fetchone()
            > old.execute("SELECT count(*) FROM messages").fetchone()
        )
    phone.close()


class Recovering(socketserver.ThreadingTCPServer):
    """Answers each connection as PostgreSQL does until it has recovered, and counts them."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        self.asked = 0
        super().__init__(("127.0.0.1", 0), self._answer)

    def _answer(self, connection, _address, _server):
        with connection:
            connection.recv(1000)
            fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
            self.asked += 1
            connection.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)


def test_a_database_that_recovers_is_asked_now_and_then(api, moved_to):
    with Recovering() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        moved_to(f"postgresql://x@127.0.0.1:{server.server_address[1]}/x?sslmode=disable")
        statuses = []
        began = time.monotonic()

        def ask():
            with httpx.Client(base_url=api.base_url) as client:
                while time.monotonic() < began + 3:
                    statuses.append(client.get("/health/ready").status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.shutdown()
    assert set(statuses) == {503}
    assert len(statuses) > 100
    # Those that came together at the beginning, some of the gateway's own among them, and then one a second.
    assert server.asked <= 12 + (time.monotonic() - began) / connecting.RECONNECT_SECONDS


def test_nothing_waits_where_nobody_listens(api, moved_to):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        moved_to(f"postgresql://x@127.0.0.1:{closed.getsockname()[1]}/x")
        began = time.monotonic()
        assert {api.get("/health/ready").status_code for _ in range(5)} == {503}
        assert time.monotonic() < began + 10
