"""The process group: everything that `smsfleet up` runs, started in order, kept alive, ended in order.

An `Installation` can be embedded: the demo, benchmarks and tests start one in a folder of their own and end or break
single parts of it by name.
"""

import http.client
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import psycopg
from pydantic import AnyHttpUrl

from app.core import operator_link
from app.core.security import digest
from app.core.settings import Settings, is_loopback
from app.core.watchdog import STOPPED_SECONDS
from app.local import commands
from app.local.account import NAME, Code, readable_code
from app.local.errors import LocalError
from app.local.exposure import lan_address
from app.local.folder import DataFolder, Recorded, Runtime, process_start, process_state
from app.local.forkserver import READY
from app.local.home import Home, open_home, write_private
from app.local.lines import Lines
from app.local.ports import BACKLOG, is_listening, listen, renew, share, url_of
from app.local.process import Child, Output, Program, run, stop_together
from app.local.servers import EmbeddedPostgres, EmbeddedServer, EmbeddedValkey

READY_SECONDS = 90
MIN_PAUSE, MAX_PAUSE = 0.5, 30.0  # seconds before a process that died is started again
HEALTHY_SECONDS = 60  # one that lived this long starts with the shortest pause again
EVERYWHERE = "0.0.0.0"  # noqa: S104 - where the operator asks for it
LOOPBACK = "127.0.0.0/8,::1/128"
WORKER_GRACE, FORKSERVER_GRACE = 25, 30
_WORK = "work"  # where the account's processes stand
_MAKE_LINK = "INSERT INTO sign_in_links (secret_hash, expires_at) VALUES (%s, clock_timestamp() + %s)"
FORKSERVER = "forkserver"
STOPPING_ORDER = ("beat", "api", "worker", "flower", FORKSERVER, "valkey", "postgres")


@dataclass(frozen=True)
class Shape:
    """How many processes of each kind."""

    api: int = 1
    dispatch: int = 1
    webhooks: int = 1
    upkeep: int = 1
    all_queues: int = 0  # workers of everything, each with beat inside it
    beat: bool = True
    flower: bool = True

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings ask for."""
        api, is_small = settings.api_processes, settings.size == "small"
        flower = not is_small if settings.flower is None else settings.flower
        if is_small:
            return cls(api=api, dispatch=0, webhooks=0, upkeep=0, all_queues=1, beat=False, flower=flower)
        return cls(api=api, flower=flower)


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The start was called off by `request_stop`."""


class Installation:
    """A gateway with all its processes. A context manager: started on entry, ended on exit."""

    def __init__(
        self,
        data_dir: Path,
        *,
        shape: Shape | None = None,
        durable: bool = True,
        temporary: bool | None = None,
        output: Output | None = None,
        lan: bool = False,
        **settings: Any,
    ) -> None:
        """`settings` go before the environment's; `durable` and `temporary` as for the embedded servers.

        `lan`: listen on the network, and give this machine's address there to phones, unless settings name others.
        """
        self.settings = Settings(**settings)
        if lan and is_loopback(self.settings.host):
            settings["host"] = EVERYWHERE
            self.settings = Settings(**settings)
        self._lan = lan
        self.shape = shape or Shape.of(self.settings)
        self.processes: dict[str, Child] = {}
        self.url = ""
        self.flower_url = ""
        self._overrides = {
            f"SMSFLEET_{name.upper()}": str(value) for name, value in settings.items() if value is not None
        }
        self._output = output or Lines()
        self._data_dir = data_dir
        self._durable = durable
        self._temporary = not durable if temporary is None else temporary
        self._servers: dict[str, EmbeddedServer] = {}
        self._folder: DataFolder | None = None
        self._figures: Path | None = None  # what all processes have counted since this start
        self._home: Home | None = None  # of what the account writes and reads, where we are root
        self._code: Code | None = None
        self._listeners: dict[str, socket.socket] = {}  # of the API processes, by name
        self._control: tuple[socket.socket, ...] = ()  # ours, and that of the parent of our processes
        self._is_warm = False
        self._stopped_since: dict[str, float] = {}
        self._runtime: Runtime | None = None
        self._lock = threading.RLock()
        self._held: set[str] = set()
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._stop_requested = threading.Event()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep_alive, name="keeper", daemon=True)

    # Starting

    def start(self) -> None:
        """Return when the gateway answers; where anything fails, end what was started and raise."""
        self._folder = DataFolder(self._data_dir)
        try:
            for name in self._folder.end_left_overs():
                self._say(f"ended {name}, left over from an earlier run")
            self._open_ports()
            self._prepare_account()
            self._start_servers()
            self._wait_warm()
            run(self._program("migrate", commands.MIGRATE, is_forked=True), self._output)
            self._check_interrupted()
            for program in self._own_programs():
                self._spawn(program)
            self._wait_ready()
            self._record(url=self.url, flower_url=self.flower_url)
            self._keeper.start()
        except BaseException:
            self.stop()
            if self._temporary:
                self.remove()
            raise

    def request_stop(self) -> None:
        """Call off a start that is under way, and wake `wait`; safe in a signal handler."""
        self._stop_requested.set()

    def wait(self) -> None:
        """Return when a stop is requested."""
        self._stop_requested.wait()

    def stop(self) -> None:
        """End every process, in order. Safe to call again, and after a start that failed."""
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with self._lock:
            for kind in STOPPING_ORDER:
                stop_together(
                    [self.processes.pop(name) for name in list(self.processes) if name.partition("-")[0] == kind]
                )
                if kind == "flower":
                    self._close_control()  # which ends the parent of them all
                if kind == "api":
                    while self._listeners:
                        self._listeners.popitem()[1].close()
        if self._folder:
            self._folder.close()
            self._folder = None

    def _close_control(self) -> None:
        for end in self._control:
            end.close()

    def remove(self) -> None:
        """Delete everything a stopped installation stored."""
        for home in [*(server.home for server in self._servers.values()), *([self._home] if self._home else [])]:
            home.remove()
        shutil.rmtree(self._data_dir)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._temporary:
            self.remove()

    # Breaking single parts, for tests

    def kill(self, name: str) -> int:
        """End one process as a crash would; it is started again like any that dies. The id it had."""
        with self._lock:
            child = self.processes[name]
            child.send(signal.SIGKILL)
            return child.pid

    def hold(self, name: str) -> None:
        """End one process and keep it down until `let_go`."""
        with self._lock:
            self._held.add(name)
            self.processes[name].stop()
            self._pass_on_connections(name)

    def let_go(self, name: str) -> None:
        """Start a held process again; a server answers when this returns."""
        with self._lock:
            self._held.discard(name)
            self._spawn(self.processes[name].program)
        if name in self._servers:
            self._servers[name].wait_ready(self.processes[name])

    def wait_restarted(self, name: str, pid: int, seconds: float = 30) -> None:
        """Return when the process runs under another id than `pid`."""
        deadline = time.monotonic() + seconds
        while (child := self.processes[name]).pid == pid or child.status is not None:
            if time.monotonic() > deadline:
                raise LocalError(f"{name} was not started again within {seconds:.0f} s")
            time.sleep(0.05)

    # What it consists of

    @property
    def database_url(self) -> str:
        found = self.settings.database_url
        return found.get_secret_value() if found else self._servers["postgres"].url

    @property
    def redis_url(self) -> str:
        found = self.settings.redis_url
        return found.get_secret_value() if found else self._servers["valkey"].url

    @property
    def broker_url(self) -> str:
        found = self.settings.broker_url
        return found.get_secret_value() if found else self.redis_url

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of this installation find in their environment."""
        env = {
            # A heap that one large request filled would stay filled: so there are few of them, and blocks from 128 KiB
            # on lie outside. glibc's own threshold rises with each such block that is freed, unless it is set.
            "MALLOC_ARENA_MAX": "2",
            "MALLOC_MMAP_THRESHOLD_": "131072",
            **os.environ,
            **self._overrides,
            "PYTHONUNBUFFERED": "1",
            "SMSFLEET_DATA_DIR": str(self._home.folder if self._home else self._data_dir.resolve()),
            "SMSFLEET_DATABASE_URL": self.database_url,
            "SMSFLEET_REDIS_URL": self.redis_url,
            "SMSFLEET_BROKER_URL": self.broker_url,
        }
        if self._home:
            env["HOME"] = str(self._home.folder / _WORK)
            env |= self._code.env if self._code else {}
        for listener in self._listeners.values():
            env["SMSFLEET_PORT"] = str(listener.getsockname()[1])
        may_reach_loopback = "postgres" in self._servers and self.settings.is_local
        if may_reach_loopback and "webhook_allowed_networks" not in self.settings.model_fields_set:
            env["SMSFLEET_WEBHOOK_ALLOWED_NETWORKS"] = LOOPBACK
        return env

    def _open_ports(self) -> None:
        first = self._listen(self.settings.host, "port")
        self._listeners["api-1"] = first
        self.url = url_of(first)
        if self._lan and self.settings.public_url is None:
            address = lan_address() if self.settings.host == EVERYWHERE else self.settings.host
            public = f"http://{address}:{first.getsockname()[1]}"
            self._overrides["SMSFLEET_PUBLIC_URL"] = public
            self.settings.public_url = AnyHttpUrl(public)
        for number in range(2, self.shape.api + 1):
            self._listeners[f"api-{number}"] = share(first)
            self._listeners[f"api-{number}"].listen(BACKLOG)
        if self.shape.flower:
            with self._listen("127.0.0.1", "flower_port") as probe:  # Flower opens its port itself
                self._flower_port = int(probe.getsockname()[1])
            self.flower_url = f"http://127.0.0.1:{self._flower_port}/flower/"

    def _listen(self, host: str, field: str) -> socket.socket:
        """On the port of a setting. One taken in place of the default is told, and kept for the next start."""
        assert self._folder
        name = f"SMSFLEET_{field.upper()}"
        chosen = field in self.settings.model_fields_set
        wanted = int(getattr(self.settings, field))
        if not chosen:
            wanted = self._folder.kept_ports().get(name, wanted)
        listener = listen(host, wanted, chosen=chosen, setting=name)
        port = listener.getsockname()[1]
        if not chosen and port != wanted:
            self._folder.keep_port(name, port)
            self._say(f"port {wanted} is taken: {port} is used instead, at the next start too; {name} sets another")
        return listener

    def _prepare_account(self) -> None:
        """As root: the account that everything runs as, and the folders where it finds what it needs."""
        assert self._folder
        if os.geteuid() != 0:
            return
        home = self._home = open_home(self._folder.path, "app", temporary=self._temporary)
        assert home.account
        home.make_private(_WORK)
        self._code = readable_code(home.account, home.folder / "code", home.programs.parent)
        if self._code:
            self._say(f"the account {NAME} cannot read where smsfleet is installed, and runs a copy in {home.folder}")
        published = self._folder.path / "releases"  # of a version that ran as root
        if published.is_dir() and not (home.folder / "releases").exists():
            shutil.copytree(published, home.folder / "releases")

    def _start_servers(self) -> None:
        assert self._folder
        options: dict[str, Any] = {
            "durable": self._durable, "temporary": self._temporary, "size": self.settings.size
        }  # fmt: skip
        if self.settings.redis_url is None:
            self._servers["valkey"] = EmbeddedValkey(self._folder.path, **options)
            self._servers["valkey"].prepare()  # which chooses its port
        if self.settings.database_url is None:
            self._servers["postgres"] = EmbeddedPostgres(self._folder.path, **options)
        # Both ends stay open: what is asked of a parent that has died is done by the next one.
        self._control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._spawn(self._forkserver())  # it imports while a new database is made
        for name, server in self._servers.items():
            if name == "postgres":
                server.prepare()
            self._spawn(server.program)
        for name, server in self._servers.items():
            server.wait_ready(self.processes[name], self._check_interrupted)

    def _forkserver(self) -> Program:
        theirs = self._control[1].fileno()
        return self._program(FORKSERVER, commands.forkserver(theirs), grace=FORKSERVER_GRACE, pass_fds=(theirs,))

    def _own_programs(self) -> Iterator[Program]:
        assert self._folder
        for name, listener in self._listeners.items():
            yield self._program(
                name,
                commands.api("--fd", str(listener.fileno())),
                grace=15,
                pass_fds=(listener.fileno(),),
                is_forked=True,
                **self._way_to_flower(),
            )
        for queue in ("dispatch", "webhooks", "upkeep"):
            for number in range(1, getattr(self.shape, queue) + 1):
                command = commands.worker(queue, f"{queue}-{number}")
                yield self._program(f"worker-{queue}-{number}", command, grace=WORKER_GRACE, is_forked=True)
        for number in range(1, self.shape.all_queues + 1):
            command = commands.worker(commands.ALL_QUEUES, f"all-{number}")
            yield self._program(f"worker-{number}", command, grace=WORKER_GRACE, is_forked=True)
        if self.shape.beat:
            yield self._program("beat", commands.BEAT, is_forked=True)
        if self.shape.flower:
            state = (self._home.folder / _WORK if self._home else self._folder.path) / "flower.state"
            command = commands.flower("127.0.0.1", self._flower_port, str(state))
            secret = f"smsfleet:{self.flower_password()}"
            yield self._program("flower", command, is_forked=True, FLOWER_BASIC_AUTH=secret)

    def _way_to_flower(self) -> dict[str, str]:
        """What the dashboard needs, to show Flower to operators."""
        if not self.shape.flower:
            return {}
        password = quote(self.flower_password(), safe="")
        return {"SMSFLEET_FLOWER_URL": f"http://smsfleet:{password}@127.0.0.1:{self._flower_port}"}

    def _empty_figures(self) -> Path:
        """An empty folder for the figures of all processes together, since this start."""
        assert self._folder
        where = self._home.folder if self._home else self._folder.path
        shutil.rmtree(where / "metrics", ignore_errors=True)
        if self._home:
            return self._home.make_private("metrics")
        (where / "metrics").mkdir(mode=0o700)
        return where / "metrics"

    def _program(
        self,
        name: str,
        command: tuple[str, ...],
        *,
        grace: float = 10,
        pass_fds: tuple[int, ...] = (),
        is_forked: bool = False,
        **env: str,
    ) -> Program:
        assert self._folder
        if self._figures is None:
            self._figures = self._empty_figures()
        place, account = self._folder.path, None
        if self._home:
            place, account = self._home.folder / _WORK, self._home.account
            if self._code and command[0] == sys.executable:
                command = (self._code.python, *command[1:])
        whole = {**self.environment, "PROMETHEUS_MULTIPROC_DIR": str(self._figures), **env}
        parent = self._control[0] if is_forked else None
        return Program(name, command, whole, place, grace=grace, account=account, pass_fds=pass_fds, forkserver=parent)

    def sign_in_link(self) -> str:
        """A new link that signs the operator in."""
        secret = operator_link.new_secret()
        with psycopg.connect(self.database_url.replace("+psycopg", "", 1), autocommit=True) as connection:
            connection.execute(_MAKE_LINK, [digest(secret), operator_link.VALID_FOR])
        return f"{str(self.settings.public_url or self.url).rstrip('/')}{operator_link.PATH}{secret}"

    def flower_password(self) -> str:
        """The operator's, else one made at the first start and kept in the data folder."""
        if self.settings.flower_password:
            return self.settings.flower_password.get_secret_value()
        if not self.flower_file.exists():
            write_private(self.flower_file, secrets.token_urlsafe(18))
        return self.flower_file.read_text()

    @property
    def flower_file(self) -> Path:
        """Where the password that was made is kept."""
        return self._data_dir / "flower.password"

    # Keeping it alive

    def _spawn(self, program: Program) -> None:
        self._check_interrupted()
        with self._lock:
            if self._ended.is_set():
                raise Interrupted
            if program.name == FORKSERVER:
                self._is_warm = False
            self.processes[program.name] = Child(program, self._output)
            self._due.pop(program.name, None)
            self._record()

    def _record(self, **addresses: str) -> None:
        """Write down what runs, so that other commands find it and the next start can end what a crash leaves."""
        assert self._folder
        if self._runtime is None:
            self._runtime = Runtime(Recorded("smsfleet", os.getpid(), process_start(os.getpid()), 0))
        for name, address in addresses.items():
            setattr(self._runtime, name, address)
        if addresses:
            self._runtime.database_url, self._runtime.redis_url = self.database_url, self.redis_url
            self._runtime.settings = {k: v for k, v in self.environment.items() if k.startswith("SMSFLEET_")}
        self._runtime.processes = [
            Recorded(name, child.pid, process_start(child.pid), int(child.program.stop_signal))
            for name, child in sorted(self.processes.items(), key=lambda item: _rank(item[0]))
        ]
        self._runtime.write(self._folder.path)

    def _look_warm(self) -> bool:
        """Whether the parent of our processes runs and has imported everything."""
        with suppress(BlockingIOError):
            self._control[0].recv(len(READY), socket.MSG_DONTWAIT)
            self._is_warm = True
        return self._is_warm and self.processes[FORKSERVER].status is None

    def _wait_warm(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        parent = self.processes[FORKSERVER]
        while not self._look_warm():
            self._check_interrupted()
            if parent.status is not None:
                raise _ended(FORKSERVER, parent)
            if time.monotonic() > deadline:
                raise LocalError(f"{FORKSERVER} was not ready within {READY_SECONDS} s")
            time.sleep(0.02)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not answers(self.url + "/health/ready"):
            self._check_interrupted()
            for name, child in self.processes.items():
                if child.status is not None:
                    raise _ended(name, child)
            if time.monotonic() > deadline:
                raise LocalError(f"{self.url}/health/ready did not answer within {READY_SECONDS} s")
            time.sleep(0.05)

    def _keep_alive(self) -> None:
        while not self._ended.wait(0.1):
            with self._lock:
                self._end_stopped()
                for name, child in list(self.processes.items()):
                    if child.status is not None and name not in self._held and self._may_revive(child):
                        try:
                            self._revive(name, child)
                        except Interrupted:
                            return
                        # Were this thread to die of it, nothing that dies would be started again any more.
                        except Exception as error:  # noqa: BLE001 - no memory, no thread, no room on the disk just now
                            self._say(f"trouble in starting {name} again: {error}")

    def _end_stopped(self) -> None:
        """Those that have no watchdog: stopped, a server would answer nothing, and the parent start nothing again."""
        now = time.monotonic()
        for name in {FORKSERVER, "flower", *self._servers} & self.processes.keys():
            child = self.processes[name]
            if child.status is not None or process_state(child.pid) != "T":
                self._stopped_since.pop(name, None)
            elif now - self._stopped_since.setdefault(name, now) > STOPPED_SECONDS:
                self._say(f"{name} was stopped: it is ended, to be started again")
                child.send(signal.SIGKILL)

    def _may_revive(self, child: Child) -> bool:
        return child.program.forkserver is None or self._look_warm()

    def _revive(self, name: str, child: Child) -> None:
        now = time.monotonic()
        if name not in self._due:
            child.release()
            self._forget_gauges(child.pid)
            lived = now - child.started
            pause = MIN_PAUSE if lived > HEALTHY_SECONDS else self._pauses.get(name, MIN_PAUSE)
            self._pauses[name] = min(pause * 2, MAX_PAUSE)
            self._due[name] = now + pause
            self._say(f"{name} ended with status {child.status}; it is started again in {pause:g} s")
            self._pass_on_connections(name)
        elif now >= self._due[name]:
            self._due[name] = now + MAX_PAUSE  # should it fail now
            self._spawn(child.program)

    def _forget_gauges(self, pid: int) -> None:
        """What the process that ended had at that moment counts no more; what it did goes on counting."""
        for path in self._figures.glob(f"gauge_live*_{pid}.db") if self._figures else ():
            path.unlink(missing_ok=True)

    def _pass_on_connections(self, name: str) -> None:
        """Of an API process that is down: to those that take some. Where there is none, connections wait for it."""
        takers = [
            listener
            for other, listener in self._listeners.items()
            if self.processes[other].status is None and is_listening(listener)
        ]
        if name in self._listeners and takers:
            renew(self._listeners[name], takers[0])

    def _check_interrupted(self) -> None:
        if self._stop_requested.is_set() and not self._keeper.is_alive():
            raise Interrupted

    def _say(self, line: str) -> None:
        self._output("smsfleet", line)


def _ended(name: str, child: Child) -> LocalError:
    child.wait()
    return LocalError("\n".join([f"{name} ended at its start (status {child.status}):", *child.tail]))


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=5)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _rank(name: str) -> int:
    return STOPPING_ORDER.index(name.partition("-")[0])
