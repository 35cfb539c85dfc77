"""An installation whose every part can be broken, with the network between the parts in our hands."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import redis

from app.local.installation import Installation, Shape
from tests.chaos.network import Network

LINKS = (
    "api - database", "workers - database", "api - broker", "workers - broker", "users - api", "phones - api",
    "workers - receivers",
)  # fmt: skip
SHAPE = Shape(api=2, dispatch=2, webhooks=2, flower=False)


class Mortal(Installation):
    """One that can die as a whole."""

    def crash(self) -> None:
        """As when the machine loses its power: everything is gone at once, the supervisor too."""
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with self._lock:
            for child in self.processes.values():
                child.send(signal.SIGKILL)
            for child in self.processes.values():
                child.wait()
                child.release()
            self.processes.clear()
        self._close_control()
        while self._listeners:
            self._listeners.popitem()[1].close()
        assert self._folder
        self._folder.close()


class Breakable(Mortal):
    """Its processes find database and broker at the ends of links."""

    def __init__(self, data_dir: Path, network: Network, output: Callable[[str, str], None], **settings: Any) -> None:
        super().__init__(data_dir, shape=SHAPE, temporary=True, output=output, port="0", **settings)
        self._network = network

    def start(self) -> None:
        super().start()
        for link in ("users - api", "phones - api"):
            parts = urlsplit(self.url)
            assert parts.hostname
            assert parts.port
            self._network[link].target = (parts.hostname, parts.port)

    def _program(self, name: str, command: tuple[str, ...], **options: Any) -> Any:
        return super()._program(name, command, **options, **self._places(name))

    def _places(self, name: str) -> dict[str, str]:
        if name == "migrate":
            return {}
        database, broker = urlsplit(self.database_url), urlsplit(self.redis_url)
        side = "api" if name.startswith("api") else "workers"
        to_database, to_broker = self._network[f"{side} - database"], self._network[f"{side} - broker"]
        to_database.target = parse_qs(database.query)["host"][0] + "/.s.PGSQL.5432"
        assert broker.port
        to_broker.target = ("127.0.0.1", broker.port)
        login = f"{database.username}:{database.password}"
        return {
            "SMSFLEET_DATABASE_URL": f"postgresql://{login}@127.0.0.1:{to_database.port}{database.path}",
            "SMSFLEET_BROKER_URL": "",
            "SMSFLEET_REDIS_URL": f"redis://:{broker.password}@127.0.0.1:{to_broker.port}{broker.path}",
        }

    def of_kind(self, kind: str) -> list[str]:
        return sorted(name for name in self.processes if name.startswith(kind))

    def signal(self, name: str, number: signal.Signals) -> None:
        with self._lock:
            self.processes[name].send(number)

    def backends(self) -> list[int]:
        """The database's processes that serve the gateway."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " ORDER BY pid"
            )
            return [pid for (pid,) in rows]

    def kill_backend(self, pid: int) -> None:
        """By force, which makes the database restart itself."""
        os.kill(pid, signal.SIGKILL)

    def terminate(self, pids: list[int]) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [pids])

    def open_transaction(self) -> Callable[[], None]:
        """Begin a transaction that stays open; what ends it.

        The queue is marked meanwhile, as it would be once a hundred times as much had gone from it (`dispatch.marks`).
        """
        ended = threading.Event()

        def hold() -> None:
            while not ended.wait(0.5):
                with suppress(psycopg.Error), psycopg.connect(self.database_url) as held:
                    held.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    while not ended.wait(0.5):
                        held.execute("SELECT count(*) FROM message_queue")
                        with psycopg.connect(self.database_url) as other:
                            other.execute("INSERT INTO queue_marks VALUES (0, 0, '{}') ON CONFLICT DO NOTHING")

        thread = threading.Thread(target=hold)
        thread.start()

        def end() -> None:
            ended.set()
            thread.join()

        return end

    def broker(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, socket_timeout=5)
