"""`make test-parts`: the tests that touch database, pooler or broker, against each kind of it that this machine has.

What is not installed is named and left out. In the suite itself stand PgBouncer and RabbitMQ in one test each
(`test_pgbouncer`, `test_brokers`), where they are installed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.parts import POOLER, POSTGRES

DATABASE = ("messages", "campaigns", "contacts", "optouts", "webhooks", "migrations", "test_schema.py")
THROUGH_POOLER = ("messages", "campaigns", "webhooks")


@dataclass(frozen=True)
class Part:
    name: str
    program: str
    tests: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def of_postgres(version: int) -> Part:
    folder = f"/usr/lib/postgresql/{version}/bin"
    return Part(f"PostgreSQL {version}", f"{folder}/postgres", DATABASE, {POSTGRES: folder})


PARTS = (
    *(of_postgres(version) for version in (15, 16, 17, 18)),
    Part("PostgreSQL of the wheel", sys.executable, DATABASE),
    Part("PgBouncer in transaction mode", "pgbouncer", THROUGH_POOLER, {POOLER: "1"}),
    Part("RabbitMQ, and a Valkey apart, as brokers", "rabbitmq-server", ("workers/test_brokers.py",)),
)


def run(part: Part) -> bool:
    tests = [str(Path("tests/integration") / name) for name in part.tests]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--numprocesses",
        "auto",
        "--maxprocesses",
        "4",
        "--dist",
        "loadfile",
    ]
    return subprocess.run([*command, *tests], env={**os.environ, **part.env}, check=False).returncode == 0


def main(wanted: str) -> int:
    outcome = {}
    for part in PARTS:
        if wanted.lower() not in part.name.lower():
            continue
        if shutil.which(part.program) is None:
            outcome[part.name] = "left out: not installed"
            continue
        print(f"\n{part.name}", flush=True)
        outcome[part.name] = "passed" if run(part) else "FAILED"
    print("\n" + "\n".join(f"{name}: {what}" for name, what in outcome.items()))
    return int("FAILED" in outcome.values() or not outcome)


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
