"""PostgreSQL and Valkey from their wheels."""

import stat
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.local.errors import LocalError
from app.local.servers import EmbeddedPostgres, EmbeddedValkey


def test_postgres_keeps_what_was_committed_when_it_is_killed(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path)
    try:
        with postgres:
            with psycopg.connect(postgres.url) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
            postgres.kill()
            postgres.start()
            with psycopg.connect(postgres.url) as connection:
                assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
        with EmbeddedPostgres(tmp_path) as again, psycopg.connect(again.url) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
    finally:
        postgres.home.remove()


def test_postgres_listens_in_a_private_folder_only(database) -> None:
    postgres = database.postgres
    assert stat.S_IMODE(postgres.home.folder.stat().st_mode) == 0o700
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace(postgres._secret(), "wrong"))


def test_a_long_data_path_gets_a_short_socket_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with EmbeddedPostgres(folder, durable=False) as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_valkey_wants_its_password_and_never_evicts(database) -> None:
    with redis.Redis.from_url(database.valkey.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    impatient = Retry(NoBackoff(), 0)
    with redis.Redis(port=database.valkey.port, retry=impatient) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_valkey_keeps_its_queue_over_a_restart(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    try:
        with valkey:
            with redis.Redis.from_url(valkey.url) as client:
                client.lpush("queue", "nudge")
            valkey.stop()
            valkey.start()
            with redis.Redis.from_url(valkey.url) as client:
                assert client.lrange("queue", 0, -1) == [b"nudge"]
    finally:
        valkey.home.remove()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres:
        postgres.stop()
        (postgres.home.folder / "data" / "PG_VERSION").unlink()
        with pytest.raises(LocalError, match="PG_VERSION"):
            postgres.start()


def test_what_does_not_last_is_removed(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as postgres, EmbeddedValkey(tmp_path, durable=False) as valkey:
        homes = [postgres.home.folder, valkey.home.folder]
    assert not any(home.exists() for home in homes)
