"""PostgreSQL and Valkey from their wheels, run by us: private, on this machine only, ended with their starter."""

import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.core.sizes import SizeName
from app.local.errors import LocalError
from app.local.home import Home, open_home, write_private
from app.local.postmaster import repair_lock
from app.local.process import Child, Output, Program, run

READY_SECONDS = 60
POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.25  # a database that recovers logs every question as an error
FIRST_PORT, LAST_PORT = 20000, 32000  # below the range from which the kernel takes ports for outgoing connections
_DATABASE = "smsfleet"
# Of PostgreSQL, whose cache and processes are half of what a small installation holds.
_SMALL = {
    "shared_buffers": "40MB",
    "wal_buffers": "2MB",
    "min_wal_size": "80MB",
    "max_wal_size": "512MB",
    "work_mem": "2MB",
    "maintenance_work_mem": "16MB",
    "io_method": "sync",
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "1",
}


def quiet(_name: str, _line: str) -> None:
    """Output that nobody reads."""


class EmbeddedServer:
    """What the two servers share. A context manager: prepared and started on entry, ended on exit."""

    name: ClassVar[str]

    def __init__(
        self,
        data_dir: Path,
        *,
        durable: bool = True,
        temporary: bool | None = None,
        size: SizeName = "default",
        output: Output = quiet,
    ) -> None:
        """`durable=False` is faster and may lose what was stored when the machine dies: for tests.

        What is `temporary` is removed on exit; what is not durable is temporary unless said otherwise.
        """
        self.data_dir = data_dir
        self.durable = durable
        self.size = size
        self.temporary = not durable if temporary is None else temporary
        self.output = output
        self._is_recovering = False  # as it said of itself when it was last asked
        self._home: Home | None = None
        self._child: Child | None = None

    @property
    def home(self) -> Home:
        if self._home is None:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._home = open_home(self.data_dir, self.name, temporary=self.temporary)
        return self._home

    def prepare(self) -> None:
        """Make what the server needs to start; changes nothing that is there already."""
        raise NotImplementedError

    @property
    def program(self) -> Program:
        raise NotImplementedError

    @property
    def url(self) -> str:
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether the server takes a query; LocalError where it never will."""
        raise NotImplementedError

    def wait_ready(self, child: Child, interrupted: Callable[[], None] = lambda: None) -> None:
        """Return when the server of `child` takes queries; LocalError with its last lines where it ended instead.

        One that recovers is waited for as long as that takes: ended, it would have to begin anew at each start.
        """
        deadline = time.monotonic() + READY_SECONDS
        pause = POLL_SECONDS
        while not self.answers():
            interrupted()
            if child.status is not None:
                child.wait()
                raise LocalError("\n".join([f"{self.name} ended at its start (status {child.status}):", *child.tail]))
            if time.monotonic() > deadline and not self._is_recovering:
                raise LocalError("\n".join([f"{self.name} did not answer within {READY_SECONDS} s:", *child.tail]))
            time.sleep(pause)
            pause = min(pause * 1.5, MAX_POLL_SECONDS)

    def start(self) -> None:
        self._child = Child(self.program, self.output)
        try:
            self.wait_ready(self._child)
        except BaseException:
            self._child.stop()
            raise

    def stop(self) -> None:
        if self._child:
            self._child.stop()

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._child
        self._child.send(signal.SIGKILL)
        self._child.wait()
        self._child.release()

    def __enter__(self) -> Self:
        self.prepare()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.temporary:
            self.home.remove()

    def _secret(self) -> str:
        """The server's password: made at the first call, kept in its home for the owner of the installation only."""
        path = self.home.password_file
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL on a Unix socket in a private folder; it listens on no network address."""

    name = "postgres"
    locale: ClassVar[tuple[str, ...]] = ("--no-locale", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8")

    def prepare(self) -> None:
        cluster = self.home.folder / "data"
        if cluster.exists():
            self.home.make_private("data")
            repair_lock(cluster / "postmaster.pid")
            repair_lock(self._sockets / ".s.PGSQL.5432.lock")
            return
        shutil.rmtree(self.home.folder / "data.new", ignore_errors=True)
        half_made = self.home.make_private("data.new")
        password_file = self.home.folder / "initial-password"
        write_private(password_file, self._secret(), self.home.account)
        # fmt: off
        run(self._program(
            "initdb", self.home.program("initdb"), "--pgdata", str(half_made), "--username", _DATABASE,
            "--pwfile", str(password_file), "--auth", "scram-sha-256", "--encoding", "UTF8", *self.locale,
            "--no-instructions", *([] if self.durable else ["--no-sync"]),
        ), quiet)
        # fmt: on
        password_file.unlink()
        half_made.rename(cluster)

    @property
    def program(self) -> Program:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "256MB" if self.durable else "64MB",
            "wal_buffers": "16MB",
            "min_wal_size": "256MB" if self.durable else "80MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "15min",
            "wal_compression": "on" if self.durable else "off",
            "log_checkpoints": "off",
            "log_line_prefix": "",
            "log_error_verbosity": "terse",  # its details are values of rows: numbers, texts, addresses
            # Statements have up to a hundred lines, and one whose lock another holds fails many times a second.
            "log_min_error_statement": "panic",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if self.size == "small":
            settings |= _SMALL
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._program("postgres", self.home.program("postgres"), "-D", str(self.home.folder / "data"), *flags)

    @property
    def url(self) -> str:
        return self.url_of(_DATABASE)

    def url_of(self, database: str) -> str:
        """URL of one of the server's databases."""
        return f"postgresql://{_DATABASE}:{self._secret()}@/{database}?host={self._sockets}"

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=5, autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone()
                if not found:
                    connection.execute(f"CREATE DATABASE {_DATABASE}")
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):  # it looks at passwords only once it is ready
                raise LocalError(
                    f"the database in {self.home.folder} was created with a password other than the one in"
                    f" {self.home.password_file}: put its own into that file, or move the folder away to begin with an"
                    " empty database"
                ) from None
            self._is_recovering = "the database system is " in str(error)
            return False
        return True

    @property
    def _sockets(self) -> Path:
        return self.home.socket_folder("sockets")

    def _program(self, name: str, *command: str) -> Program:
        # SIGINT is PostgreSQL's fast shutdown: it ends open sessions instead of waiting for them.
        return Program(
            name, command, _plain_environment(), self.home.folder, signal.SIGINT, grace=30, account=self.home.account
        )


class EmbeddedValkey(EmbeddedServer):
    """Valkey on a loopback port of our choice, behind a generated password."""

    name = "valkey"

    def prepare(self) -> None:
        folder = self.home.folder
        data = self.home.make_private("data")
        self.port = _free_port()
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self._secret()}",
            f"dir {data}",
            f"appendonly {'yes' if self.durable else 'no'}",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "loglevel warning",
            "daemonize no",
        ]
        write_private(folder / "valkey.conf", "\n".join(lines) + "\n", self.home.account)

    @property
    def program(self) -> Program:
        folder = self.home.folder
        command = (self.home.program("valkey-server"), str(folder / "valkey.conf"))
        return Program(self.name, command, _plain_environment(), folder, account=self.home.account)

    @property
    def url(self) -> str:
        return f"redis://:{self._secret()}@127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.RedisError as error:
            self._is_recovering = isinstance(error, redis.BusyLoadingError)
            return False


def _free_port() -> int:
    for _ in range(100):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise LocalError(f"no free port between {FIRST_PORT} and {LAST_PORT}")


def _plain_environment() -> dict[str, str]:
    """No settings of ours, and no PG* variables, reach the servers."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
