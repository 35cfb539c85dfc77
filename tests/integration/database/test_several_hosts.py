"""A database at several addresses, of which some are gone without a word."""

import socket
import threading

import psycopg
import pytest
from sqlalchemy import create_engine, text

from app.core.database import get_engine
from app.core.settings import get_settings
from app.local import doctor
from app.local.servers import EmbeddedPostgres
from app.migrations.role import NETWORK_SETTINGS, set_up_role
from tests.support.waiting import until


class Silent:
    """Takes connections, says nothing on any, and counts them."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.taken = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self):
        while True:
            try:
                self.taken.append(self.listener.accept()[0])
            except OSError:  # closed
                return

    def close(self):
        self.listener.close()
        for connection in self.taken:
            connection.close()


def test_a_host_that_is_silent_is_not_asked_by_each_connection(moved_to, database):
    where = psycopg.conninfo.conninfo_to_dict(database.postgres.url)
    silent = Silent()
    login = f"{where['user']}:{where['password']}"
    moved_to(f"postgresql://{login}@/{where['dbname']}?host=127.0.0.1,{where['host']}&port={silent.port},5432")
    try:
        first = get_engine().connect()
        asked = len(silent.taken)  # by others of this process too, who began before one had found who answers
        assert asked
        connections = [first, *(get_engine().connect() for _ in range(5))]
        assert len(silent.taken) == asked
        for connection in connections:
            assert connection.execute(text("SELECT 1")).scalar() == 1
            connection.close()
    finally:
        silent.close()


def test_hosts_without_ports(moved_to, database):
    where = psycopg.conninfo.conninfo_to_dict(database.postgres.url)
    login = f"{where['user']}:{where['password']}"
    moved_to(f"postgresql://{login}@/{where['dbname']}?host=/nowhere,{where['host']}&target_session_attrs=read-write")
    for connection in [get_engine().connect() for _ in range(3)]:
        assert connection.execute(text("SELECT 1")).scalar() == 1
        connection.close()


class Listening(EmbeddedPostgres):
    """By network."""

    def __init__(self, folder, port):
        super().__init__(folder, durable=False)
        self.port = port

    @property
    def program(self):
        plain = super().program
        flags = ("-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}")
        return type(plain)(plain.name, (*plain.command, *flags), plain.env, plain.cwd, account=plain.account)

    def url_of(self, database):
        return f"{super().url_of(database)}&port={self.port}"


def test_sessions_of_a_machine_that_is_gone_end_on_the_server_too(tmp_path, free_port):
    with Listening(tmp_path, free_port()) as server:
        engine = create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.begin() as connection:
            set_up_role(connection)
        engine.dispose()
        with psycopg.connect(f"{server.url.partition('@')[0]}@127.0.0.1:{server.port}/smsfleet") as connection:
            shown = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in NETWORK_SETTINGS}
    assert shown == {**NETWORK_SETTINGS, "tcp_user_timeout": "20000"}


@pytest.fixture
def without_standby(owner):
    """Commits wait for a standby that is not there."""
    owner.execute("SET synchronous_commit = local")
    owner.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    owner.execute("SELECT pg_reload_conf()")
    yield
    owner.execute("ALTER SYSTEM RESET synchronous_standby_names")
    owner.execute("SELECT pg_reload_conf()")


def test_doctor_says_that_commits_wait_for_a_standby(client, without_standby, owner):
    sending = threading.Thread(
        target=client.post, args=("/api/sms",), kwargs={"json": {"recipient_number": "+998901112233", "message": "Hi"}}
    )
    sending.start()

    def said():
        return [found for found in doctor.examine(get_settings(), None) if found.what == "commits"]

    (found,) = until(said)
    assert not found.good
    assert "wait for a synchronous standby" in found.detail
    owner.execute("ALTER SYSTEM RESET synchronous_standby_names")
    owner.execute("SELECT pg_reload_conf()")
    sending.join()
    assert client.get("/api/sms").json()["data"], "what waited was committed"
