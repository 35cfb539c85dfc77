"""An installation on six machines: a proxy, two that run smsfleet, PostgreSQL with a synchronous standby, Valkey."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import redis

from app.local.home import write_private
from app.local.installation import Shape, answers
from app.local.process import Program, run
from app.local.servers import EmbeddedPostgres, EmbeddedValkey, quiet
from tests.chaos.installation import Mortal
from tests.chaos.machines import Lan, Machine
from tests.support.waiting import until

APPLICATIONS, DATABASES = ("a", "b"), ("db1", "db2")
MACHINES = ("proxy", *APPLICATIONS, *DATABASES, "valkey")
PORT = 8000
AWAY_SECONDS = 30.0  # a database's machine that died; nobody answers at its address meanwhile
_PROXY = Path("deploy/haproxy/haproxy.cfg")
_STANDBY = "standby"
_SHAPE = Shape(flower=False)
_SYNCHRONOUS = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"


class Database(EmbeddedPostgres):
    """PostgreSQL on a machine of its own: its clients come by the network, its administrator by the socket."""

    def __init__(self, machine: Machine, folder: Path, lan: str) -> None:
        super().__init__(folder, durable=True, temporary=True)
        self.machine = machine
        self._lan = lan

    @property
    def program(self) -> Program:
        plain = super().program
        settings = {
            "listen_addresses": self.machine.address,
            "wal_sender_timeout": "10s",
            "wal_receiver_timeout": "10s",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Program(
            plain.name, (*plain.command, *flags), plain.env, plain.cwd, plain.stop_signal, plain.grace, plain.account
        )

    def start(self) -> None:
        with self.machine.inside():
            super().start()

    def admit(self) -> None:
        """Whoever is in the network and knows the password."""
        with (self.home.folder / "data" / "pg_hba.conf").open("a") as file:
            file.writelines(f"host {what} all {self._lan} scram-sha-256\n" for what in ("all", "replication"))

    def copy(self, primary: "Database") -> None:
        """Become its standby, from nothing, as the database's administrator would set one up."""
        write_private(self.home.password_file, primary.home.password_file.read_text())
        subprocess.run(["rm", "-rf", str(self.home.folder / "data")], check=True)
        data = self.home.make_private("data")
        source = psycopg.conninfo.make_conninfo(
            host=primary.machine.address, user="smsfleet", password=primary.home.password_file.read_text(),
            application_name=_STANDBY, keepalives_idle=5, keepalives_interval=2, keepalives_count=3,
        )  # fmt: skip
        program = self.home.program("postgres").removesuffix("postgres") + "pg_basebackup"
        command = (program, "-R", "-c", "fast", "-D", str(data), "-d", source)
        with self.machine.inside():
            run(Program("pg_basebackup", command, {"PATH": ""}, self.home.folder, account=self.home.account), quiet)
        self.start()
        self.set_standbys("")

    def set_standbys(self, names: str) -> None:
        """Which standbys a commit waits for, once this is the primary."""
        with self.administrator() as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        with self.administrator() as connection:
            connection.execute("SELECT pg_promote(wait_seconds => 60)")

    def has_standby(self) -> bool:
        with self.administrator() as connection:
            found = connection.execute(_SYNCHRONOUS).fetchone()
            return bool(found and found[0])

    def administrator(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True, options="-c synchronous_commit=local")

    def die(self) -> None:
        """Its machine has no power any more."""
        self.machine.kill()
        assert self._child
        self._child.wait()
        self._child.release()
        self.machine.wait_dead()


class Valkey(EmbeddedValkey):
    """On a machine of its own."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        super().__init__(folder, durable=True, temporary=True)
        self.machine = machine

    def prepare(self) -> None:
        super().prepare()
        conf = self.home.folder / "valkey.conf"
        write_private(conf, conf.read_text().replace("127.0.0.1", self.machine.address), self.home.account)

    @property
    def url(self) -> str:
        return super().url.replace("127.0.0.1", self.machine.address)

    def start(self) -> None:
        with self.machine.inside():
            super().start()

    def answers(self) -> bool:
        with self.machine.inside():
            return super().answers()

    def die(self) -> None:
        self.machine.kill()
        assert self._child
        self._child.wait()
        self._child.release()


class Hosts:
    """All of them, started in order. `database_url` is that of the database which is the primary now."""

    def __init__(self, folder: Path, lan: Lan, output: Callable[[str, str], None]) -> None:
        self.lan = lan
        self._folder = folder
        self._output = output
        network = f"{lan.network}.0/24"
        self.databases = [Database(lan[name], folder / name, network) for name in DATABASES]
        self.valkey = Valkey(lan["valkey"], folder / "valkey")
        self.applications: dict[str, Mortal] = {}
        self._repairs = ThreadPoolExecutor(1, thread_name_prefix="repairs")
        self._redundant = threading.Event()
        self._proxy: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.lan['proxy'].address}:{PORT}"

    @property
    def database_url(self) -> str:
        return self.primary.url

    @property
    def primary(self) -> Database:
        return self.databases[0]

    @property
    def standby(self) -> Database:
        return self.databases[1]

    def start(self) -> None:
        self.primary.prepare()
        self.primary.admit()
        self.primary.start()
        self.valkey.prepare()
        self.valkey.start()
        self._attach()
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.boot, APPLICATIONS))
        self.start_proxy()

    def _attach(self) -> None:
        self.standby.copy(self.primary)
        self.primary.set_standbys(_STANDBY)
        until(self.primary.has_standby)
        self._redundant.set()

    def repair(self) -> None:
        """Make the machine that is no primary a standby again, while everything runs: for a while it is away."""
        self._redundant.clear()
        self._repairs.submit(self._repair)

    def _repair(self) -> None:
        try:
            time.sleep(AWAY_SECONDS)
            self.standby.machine.plug_in()
            self._attach()
        except Exception as error:
            self._output("hosts", f"the standby could not be set up: {error!r}")
            raise

    def promote(self) -> None:
        self.standby.promote()
        self.databases.reverse()

    def fail_over(self) -> None:
        """The standby takes over from a primary that is dead, whose machine will be its standby."""
        self.promote()
        self.repair()

    def wait_redundant(self) -> None:
        assert self._redundant.wait(120), "no standby"

    def kill(self, name: str) -> None:
        """A machine that runs smsfleet loses its power."""
        self.lan[name].unplug()
        self.applications.pop(name).crash()
        self.lan[name].kill()
        self.lan[name].wait_dead()

    def boot(self, name: str) -> None:
        """Start smsfleet on a machine, and again until it runs, as what supervises it would."""
        machine = self.lan[name]
        machine.plug_in()
        data = self._folder / name
        data.mkdir(mode=0o700, exist_ok=True)
        password = self.primary.home.password_file.read_text()
        hosts = ",".join(self.lan[database].address for database in DATABASES)
        settings = {
            "host": machine.address,
            "port": str(PORT),
            "database_url": f"postgresql://smsfleet:{password}@/smsfleet?host={hosts}&target_session_attrs=read-write",
            "redis_url": self.valkey.url,
            "trusted_proxies": self.lan["proxy"].address,
            "webhook_allowed_networks": f"{self.lan.network}.0/24",
            "registration": "open",
            "max_enrollments_per_minute": "1000",
        }
        deadline = time.monotonic() + 120
        with machine.inside():
            while True:
                made = Mortal(data, shape=_SHAPE, temporary=False, output=self._named(name), **settings)
                try:
                    made.start()
                except Exception:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(1)
                else:
                    self.applications[name] = made
                    return

    def _named(self, machine: str) -> Callable[[str, str], None]:
        return lambda name, line: self._output(f"{machine}: {name}", line)

    def start_proxy(self) -> None:
        """HAProxy, with the file that is published, on other addresses and without TLS."""
        text = _PROXY.read_text()
        text = text.replace(":443 ssl crt /etc/haproxy/sms.example.com.pem", f"{self.lan['proxy'].address}:{PORT}")
        text = text.replace("X-Forwarded-Proto https", "X-Forwarded-Proto http")
        for number, name in enumerate(APPLICATIONS, 11):
            text = text.replace(f"10.0.0.{number}:8000", f"{self.lan[name].address}:{PORT}")
        path = self._folder / "haproxy.cfg"
        path.write_text(text)
        with self.lan["proxy"].inside():
            self._proxy = subprocess.Popen(
                ["haproxy", "-db", "-f", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        until(lambda: answers(f"{self.url}/health/ready"))

    def kill_proxy(self) -> None:
        assert self._proxy
        self._proxy.kill()
        self._proxy.wait()

    def stop(self) -> None:
        """End everything, however it is."""
        self._repairs.shutdown()
        if self._proxy:
            self.kill_proxy()
        for machine in self.lan.machines.values():
            machine.plug_in()
        for name, application in self.applications.items():
            with self.lan[name].inside():
                application.stop()
        for server in (self.valkey, *reversed(self.databases)):
            with contextlib.suppress(redis.RedisError):
                server.stop()

    def remove(self) -> None:
        for application in self.applications.values():
            application.remove()
        for server in (self.valkey, *self.databases):
            server.home.remove()
