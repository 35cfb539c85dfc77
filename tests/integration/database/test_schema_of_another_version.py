"""A program and a database of different versions: who goes on, who refuses, and what is said of it."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from app.local import backup
from app.local.errors import LocalError
from app.migrations.config import MIGRATION_LOCK, alembic_config
from app.migrations.revisions import refuse_older, revisions


@pytest.fixture
def schema(sql):
    @contextmanager
    def of(version):
        sql.execute("UPDATE alembic_version SET version_num = %s", (version,))
        try:
            yield
        finally:
            sql.execute("UPDATE alembic_version SET version_num = %s", (revisions()[0],))

    return of


def test_the_files_are_the_revisions_that_alembic_finds():
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(alembic_config())
    assert revisions() == tuple(one.revision for one in script.walk_revisions())


def test_an_older_program_does_not_migrate_a_newer_database_and_says_why(schema):
    with schema("9999"):
        ran = subprocess.run([sys.executable, "-m", "app.cli", "migrate"], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("the database has the schema 9999 of a newer smsfleet")
    assert "Traceback" not in ran.stderr


def test_a_newer_program_serves_no_older_database_and_says_what_to_do(schema, configured):
    refuse_older()
    with schema("0001"), pytest.raises(SystemExit, match="run `smsfleet migrate`"):
        refuse_older()
    with schema("9999"):  # during an update the version before serves on
        refuse_older()
    configured(DATABASE_URL="postgresql://127.0.0.1:1/nothing")  # which may come later
    refuse_older()


@pytest.mark.parametrize(("version", "reason"), [("0001", "run `smsfleet migrate`"), ("9999", "of a newer smsfleet")])
def test_a_backup_is_of_the_programs_own_schema_or_none(schema, tmp_path, version, reason):
    with schema(version), pytest.raises(LocalError, match=reason):
        backup.take(tmp_path / "b.zip")
    assert list(tmp_path.iterdir()) == []


def test_no_backup_is_taken_in_the_middle_of_a_migration(sql, tmp_path):
    sql.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
    with pytest.raises(LocalError, match="being migrated"):
        backup.take(tmp_path / "b.zip")
    sql.execute("SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
