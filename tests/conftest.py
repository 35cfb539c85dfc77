"""Servers and a clean database for the tests that ask for them.

Each test process (one, or one of xdist's) has a PostgreSQL and a Valkey of its own, migrated once; `database` hands
them to a test empty. What a test starts is told where they are by the environment, as in real use.
"""

import itertools
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from app.core import outbound
from app.core.settings import get_settings
from app.local.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support import parts
from tests.support.parts import OtherPostgres
from tests.support.versions import PREVIOUS, has_version

pytest_plugins = ["tests.support.browser", "tests.support.phone_fixtures"]

_DEVICE_IDS = itertools.count(1000, 1000)


@dataclass(frozen=True)
class Servers:
    """The running servers of this test process."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Postgres, migrated, and Valkey; the settings of this process and of what it starts point at them."""
    from app.migrations.config import migrate

    folder: Path = tmp_path_factory.mktemp("servers")
    database = OtherPostgres if parts.POSTGRES in os.environ else EmbeddedPostgres
    with (
        database(folder, durable=False) as postgres,
        EmbeddedValkey(folder, durable=False) as valkey,
        ExitStack() as stack,
    ):
        url = postgres.url
        if parts.POOLER in os.environ:
            url = stack.enter_context(parts.pgbouncer(postgres, valkey.port + 1))
        os.environ["SMSFLEET_DATABASE_URL"] = url
        os.environ["SMSFLEET_REDIS_URL"] = valkey.url
        get_settings.cache_clear()
        migrate()
        yield Servers(postgres, valkey)
        if outbound.publisher.made:
            outbound.publisher.made.finish()


@pytest.fixture
def database(servers: Servers) -> Servers:
    """Empty tables and an empty broker."""
    empty(servers)
    return servers


def empty(servers: Servers) -> None:
    # The server's own background work, or a thread that has not ended yet, may hold a table for a moment. Where it then
    # wants another one that is locked here already, the database ends one of the two, which may be this.
    for tries_left in reversed(range(5)):
        try:
            _empty(servers)
        except psycopg.errors.DeadlockDetected:
            if not tries_left:
                raise
        except psycopg.OperationalError as error:
            if child := servers.postgres._child:
                error.add_note("\n".join(["The server said last:", *child.tail]))
            raise
        else:
            return


def _empty(servers: Servers) -> None:
    with psycopg.connect(servers.postgres.url, autocommit=True, options="-c lock_timeout=30s") as connection:
        # Of those alone that were written to: to truncate all of them takes ten times as long as many a test.
        names = connection.execute(
            "SELECT quote_ident(relname) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'"
            " AND pg_relation_size(oid) > 0"
        ).fetchall()
        if names:
            connection.execute(f"TRUNCATE {', '.join(name for (name,) in names)} CASCADE")
        connection.execute(
            "SELECT setval(format('%I', sequencename), start_value, false) FROM pg_sequences"
            " WHERE last_value IS NOT NULL"
        )
        # A stream of the test before may still be noted as seen; it must not be taken for a phone of this one.
        connection.execute("SELECT setval('devices_id_seq', %s)", [next(_DEVICE_IDS)])
    with redis.Redis.from_url(servers.valkey.url) as broker:
        broker.flushall()


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives ports that nobody listens on."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            return probe.getsockname()[1]

    return find


PROGRAMS = {
    "needs_browser": ("chromium", "chromium-browser", "google-chrome"),
    "needs_caddy": ("caddy",),
    "needs_curl": ("curl",),
    "needs_faketime": ("faketime",),
    "needs_hadolint": ("hadolint",),
    "needs_haproxy": ("haproxy",),
    "needs_node": ("node",),
    "needs_php": ("php",),
    "needs_pgbouncer": ("pgbouncer",),
    "needs_prometheus": ("prometheus",),
    "needs_rabbitmq": ("rabbitmq-server",),
    "needs_systemd": ("systemd-analyze",),
}
# What this machine lacks, as a reason, by the mark of the tests that need it.
MISSING = {
    mark: f"{names[0]} is not installed" for mark, names in PROGRAMS.items() if not any(map(shutil.which, names))
}
if not has_version(PREVIOUS):
    MISSING["needs_history"] = f"the commit {PREVIOUS}, of the version before, is not in this clone"


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: much of the longest tests is waiting."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a program that this machine lacks; the summary names it. Begin with what takes longest."""
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in MISSING)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.path.parent.name not in {"acceptance", "chaos", "update"})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for mark, reason in MISSING.items():
        terminalreporter.write_line(f"skipped (deselected): tests marked {mark}, because {reason}")
