# ruff: noqa: RUF001 - letters that look alike are what it is about
"""The migration of accounts to normalized addresses, on a database that the version before has filled."""

import psycopg
import pytest
from alembic import command

from app.accounts import sessions
from app.core.database import transaction
from app.migrations.config import alembic_config

USERS = (
    (1, "lİvİa@example.com", "x", None),
    (2, "li̇vi̇a@example.com", None, "1000"),
    (3, "Ali@Example.com", "x", None),
    (4, "ａｌｉ@example.com", "x", None),
    (5, "both@example.com", "x", "2000"),
    (6, "ﷺ" * 80 + "@example.com", "x", None),
)


@pytest.fixture
def before(servers, configured):
    """A database of its own, as the version before left it."""
    with psycopg.connect(servers.postgres.url, autocommit=True) as owner:
        owner.execute("DROP DATABASE IF EXISTS moving")
        owner.execute("CREATE DATABASE moving")
        url = servers.postgres.url_of("moving")
        configured(DATABASE_URL=url)
        command.upgrade(alembic_config(), "0007")
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection
        owner.execute("DROP DATABASE moving WITH (FORCE)")


def test_what_the_version_before_has_is_brought_over(before):
    for user in USERS:
        before.execute(
            "INSERT INTO users (id, name, email, password_hash, google_subject) VALUES (%s, 'x', %s, %s, %s)", user
        )
    tokens = [("session", ["*"], None), ("key", ["sms:send", "sms:other"], None), ("key", ["typo"], None)]
    tokens += [("session", ["*"], "2100-01-01"), ("key", ["*"], None)]
    for kind, abilities, end in tokens:
        before.execute(
            "INSERT INTO tokens (user_id, kind, name, secret_hash, abilities, expires_at)"
            " VALUES (1, %s, 'x', 'x', %s, %s)",
            [kind, abilities, end],
        )
    command.upgrade(alembic_config(), "head")
    rows = before.execute("SELECT id, email_key, email_verified_at IS NOT NULL FROM users ORDER BY id").fetchall()
    assert rows == [
        (1, "user-1", False),  # Google knows the other one
        (2, "li̇vi̇a@example.com", True),
        (3, "ali@example.com", False),
        (4, "user-4", False),
        (5, "both@example.com", False),
        (6, "user-6", False),
    ]
    kept = before.execute(
        "SELECT abilities, expires_at BETWEEN now() + interval '29 days' AND now() + interval '31 days'"
        " FROM tokens ORDER BY id"
    ).fetchall()
    assert kept == [(["*"], True), (["sms:send"], None), ([], None), (["*"], False), (["*"], None)]
    # The version before goes on for a while: what it writes is found, and kept apart.
    before.execute("INSERT INTO users (id, name, email) VALUES (7, 'x', 'New@example.com')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        before.execute("INSERT INTO users (id, name, email, email_key) VALUES (8, 'x', 'x', 'new@example.com')")
    command.downgrade(alembic_config(), "0007")
    assert before.execute("SELECT count(*) FROM users").fetchone() == (7,)


def test_a_session_without_an_end_is_given_one(ali, sql):
    """As the version before makes them, while both serve; nobody may ever use it again."""
    sql.execute("UPDATE tokens SET expires_at = NULL")
    ali.token()
    with transaction() as session:
        sessions.clean(session)
    found = sql.execute(
        "SELECT kind, expires_at BETWEEN now() + interval '29 days' AND now() + interval '31 days' FROM tokens"
        " ORDER BY kind"
    ).fetchall()
    assert found == [("key", None), ("session", True)]
