"""Settings that are wrong: each is named, with what is expected, and no password is repeated."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.settings import Settings, explain

SECRET = "s3cret"


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        (
            "DATABASE_URL",
            f"mysql://u:{SECRET}@h/x",
            "it must have the form postgresql://user:password@host:5432/database",
        ),
        ("DATABASE_URL", f"postgresql://u:{SECRET}@h:port/x", "it must have the form postgresql://"),
        ("DATABASE_URL", f"postgresql://u@h/x?pasword={SECRET}", "PostgreSQL does not know what stands behind its ?"),
        ("DATABASE_URL", f"postgresql://h/x?connect_timeout={SECRET}", "PostgreSQL does not know what stands behind"),
        ("REDIS_URL", f"foo:{SECRET}", "it begins with one of redis://, rediss://, valkey://, valkeys://"),
        ("REDIS_URL", f"redis://:{SECRET}/2@h:6379/0", "its host or port cannot be made out"),
        ("REDIS_URL", f"redis://h/{SECRET}", "its database, behind the host, is a number"),
        ("BROKER_URL", f"sentinel://a:1;sentinel://b:2/{SECRET}?master_name=m", "its database, behind the host, is a"),
        ("BROKER_URL", f"amq:{SECRET}@h:5672", "it begins with one of"),
        ("BROKER_URL", f"sentinel://:{SECRET}@a:1;sentinel://b:x", "its host or port cannot be made out"),
        ("SMTP_URL", SECRET, "it begins with one of smtp://, smtps://"),
        ("OTLP_ENDPOINT", f"u:{SECRET}@h", "URL scheme should be 'http' or 'https'"),
        ("BACKUP_KEY", f"AGE-SECRET-KEY-{SECRET}", "it is not a public key of age, which begins with age1"),
    ],
)
def test_of_what_may_hold_a_password_nothing_is_repeated(monkeypatch, name: str, given: str, told: str) -> None:
    monkeypatch.setenv(f"SMSFLEET_{name}", given)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert explain(refused.value).startswith(f"SMSFLEET_{name}: {told}")
    assert SECRET not in explain(refused.value) + str(refused.value)


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("KEEP_MESSAGES", "60", "=60: at least a day is expected, in seconds or as ISO 8601: 86400 or P1D"),
        ("KEEP_MESSAGES", "P99999999D", "=P99999999D: more than nothing is expected, and at most a hundred years"),
        ("MESSAGE_VALIDITY", "P99999999D", "=P99999999D: more than nothing is expected, and at most a hundred years"),
        ("SESSION_IDLE", "0", "=0: more than nothing is expected"),
        ("SESSION_LIFETIME", "-P1D", "=-P1D: more than nothing is expected"),
        ("SMS_RATE", "inf", "=inf: Input should be less than or equal to 1000000000"),
        ("PRICE_MONTHLY", "nan", "=nan: Input should be "),
        ("PRICE_YEARLY", "-1", "=-1: Input should be greater than or equal to 0"),
        ("TRUSTED_PROXIES", "::1, abc", "=abc: an address or a network is expected ("),
        ("WEBHOOK_REFUSED_HOSTS", "a b,::1", "=a b: a host name, an address or a network is expected"),
        ("PORT", "none", "=none: Input should be a valid integer"),
    ],
)
def test_any_other_is_repeated_in_one_sentence(monkeypatch, name: str, given: str, told: str) -> None:
    monkeypatch.setenv(f"SMSFLEET_{name}", given)
    with pytest.raises(ValidationError) as refused:
        Settings()
    [line] = explain(refused.value).splitlines()
    assert line.startswith(f"SMSFLEET_{name}{told}")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("valkey://:p@h:6379/0", "redis://:p@h:6379/0"),
        ("valkeys://h", "rediss://h"),
        ("redis://u:p;q@[::1]:6379", "redis://u:p;q@[::1]:6379"),
    ],
)
def test_valkeys_own_name_is_taken(given: str, taken: str) -> None:
    settings = Settings(redis_url=given, broker_url=given)
    assert (settings.redis_dsn, settings.broker_dsn) == (taken, taken)


def test_brokers_that_stand_in_for_each_other() -> None:
    for given in ("amqp://u:p@a:5672;amqp://u:p@b:5672", "sentinel://:p@a:1;sentinel://b/0?master_name=m"):
        assert Settings(broker_url=given).broker_dsn == given


@pytest.mark.parametrize(
    "given",
    [
        "postgres://u:p#?@h:5432/x",
        "postgresql:///x?host=/run/postgresql",
        "postgresql+psycopg://u@/x?host=a,b&target_session_attrs=read-write",
        "postgresql://[::1]:5432",
        "postgresql://u:p?q@h/x?sslmode=require&connect_timeout=5",
    ],
)
def test_addresses_of_databases(given: str) -> None:
    assert Settings(database_url=given).database_dsn == f"postgresql+psycopg://{given.partition('://')[2]}"


def test_an_empty_data_folder_is_the_usual_one_and_not_the_working_folder(monkeypatch) -> None:
    monkeypatch.setenv("SMSFLEET_DATA_DIR", "")
    assert Settings().data_dir == Path(".smsfleet")
