"""Settings, read from the environment (prefix `SMSFLEET_`)."""

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, AnyHttpUrl, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.core.sizes import SizeName

# What a plan may give: API keys, webhooks, bulk sends.
Feature = Literal["api", "webhooks", "bulk"]
FEATURES: tuple[Feature, ...] = get_args(Feature)

_REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys")
_BROKER_SCHEMES = (*_REDIS_SCHEMES, "sentinel", "amqp", "amqps")
# What speaks the protocol knows the older names alone.
_OLDER_NAMES = {"valkey": "redis", "valkeys": "rediss"}
# As SQLAlchemy takes it apart.
_POSTGRES = re.compile(
    r"postgres(ql(\+psycopg)?)?://([^:/]*(:[^@]*)?@)?(\[[^/?]+\]|[^/:?]+)?(:\d*)?(/[^?]*)?(?P<options>\?.*)?", re.DOTALL
)
# Of settings with such names, what was given is not repeated: it may hold a password.
_PRIVATE = ("_url", "_endpoint", "_password", "_token", "_key")

_DATA_DIR = Path(".smsfleet")
# Added to a time, or taken from one, longer ones end where PostgreSQL and Python know no date any more.
_LONGEST = timedelta(days=36525)


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _empty_is_unset(value: object) -> object:
    return None if value == "" else value


def _seconds(value: object) -> object:
    return float(value) if isinstance(value, str) and value.isdigit() else value


def _host_name(value: str) -> str:
    name = value.removeprefix("*").strip(".").lower()
    try:
        name = name.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise ValueError("a host name, an address or a network is expected")
    return name


def _network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"an address or a network is expected ({error})") from None


def _refused(value: object) -> object:
    try:
        return _network(value)
    except ValueError:
        return _host_name(str(value))


def _span(value: timedelta) -> timedelta:
    if not timedelta() < value <= _LONGEST:
        raise ValueError("more than nothing is expected, and at most a hundred years")
    return value


def _at_least_a_day(value: timedelta) -> timedelta:
    if value < timedelta(days=1):
        raise ValueError("at least a day is expected, in seconds or as ISO 8601: 86400 or P1D")
    return value


def _url_of(*schemes: str) -> Callable[[SecretStr], SecretStr]:
    def check(value: SecretStr) -> SecretStr:
        scheme, _, rest = value.get_secret_value().partition("://")
        if scheme not in schemes:
            raise ValueError(f"it begins with one of {', '.join(f'{one}://' for one in schemes)}")
        try:
            for server in re.split(r";\w+://", rest):
                urlsplit(f"//{server}").port  # noqa: B018 - reading it raises
        except ValueError:
            raise ValueError(
                "its host or port cannot be made out; of a user and a password the characters / ? # are written as"
                " %2F %3F %23"
            ) from None
        if scheme in {*_REDIS_SCHEMES, "sentinel"} and not re.fullmatch(r"(/\d*)?", urlsplit(f"//{server}").path):
            raise ValueError("its database, behind the host, is a number: redis://:password@host:6379/0")
        return SecretStr(f"{_OLDER_NAMES.get(scheme, scheme)}://{rest}")

    return check


def _postgres_url(value: SecretStr) -> SecretStr:
    parts = _POSTGRES.fullmatch(value.get_secret_value())
    if not parts:
        raise ValueError("it must have the form postgresql://user:password@host:5432/database")
    if options := parts["options"]:
        _check_options(options)
    return value


def _check_options(options: str) -> None:
    from psycopg import ProgrammingError, conninfo  # noqa: PLC0415 - a process without a database need not have it

    try:
        conninfo.timeout_from_conninfo(conninfo.conninfo_to_dict(f"postgresql:///{options}"))
    except ProgrammingError:
        raise ValueError(
            "PostgreSQL does not know what stands behind its ?, which is to be like ?sslmode=require&connect_timeout=5"
        ) from None


def _key_of_age(value: str) -> str:
    import pyrage  # noqa: PLC0415 - only who encrypts backups holds it in memory

    try:
        pyrage.x25519.Recipient.from_str(value)
    except pyrage.RecipientError:
        raise ValueError("it is not a public key of age, which begins with age1") from None
    return value


Price = Annotated[float, Field(ge=0, le=1_000_000_000)]
OptionalUrl = Annotated[AnyHttpUrl | None, BeforeValidator(_empty_is_unset)]
Duration = Annotated[timedelta, BeforeValidator(_seconds), AfterValidator(_span)]
# How long something is kept; less than a day would take what is still under way.
KeptFor = Annotated[Duration, AfterValidator(_at_least_a_day)]
OptionalKeptFor = Annotated[KeptFor | None, BeforeValidator(_empty_is_unset)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_empty_is_unset)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
RedisUrl = Annotated[SecretStr, AfterValidator(_url_of(*_REDIS_SCHEMES))]
BrokerUrl = Annotated[SecretStr, AfterValidator(_url_of(*_BROKER_SCHEMES))]
SmtpUrl = Annotated[SecretStr, AfterValidator(_url_of("smtp", "smtps"))]
BackupKey = Annotated[str, AfterValidator(_key_of_age)]

Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Refused = Annotated[IPv4Network | IPv6Network | str, BeforeValidator(_refused)]


def is_loopback(host: str) -> bool:
    """Whether a host name or an address is this machine's own, as far as its text shows."""
    try:
        address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


class Settings(BaseSettings):
    """Everything an operator may set. Unset `DATABASE_URL` and `REDIS_URL` mean embedded servers."""

    model_config = SettingsConfigDict(env_prefix="SMSFLEET_", extra="ignore", hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: OptionalUrl = None
    # Host names for links where there is no public URL; none: whatever the request names.
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_separated)] = ()
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_comma_separated)] = ()
    data_dir: Annotated[Path, BeforeValidator(lambda given: given or _DATA_DIR)] = _DATA_DIR
    # Public key of age, `age1…`, that `smsfleet backup` encrypts for.
    backup_key: Annotated[BackupKey | None, BeforeValidator(_empty_is_unset)] = None
    database_url: Annotated[PostgresUrl | None, BeforeValidator(_empty_is_unset)] = None
    redis_url: Annotated[RedisUrl | None, BeforeValidator(_empty_is_unset)] = None
    # Of Celery's tasks alone; unset: the server of limits and wakes is their broker too.
    broker_url: Annotated[BrokerUrl | None, BeforeValidator(_empty_is_unset)] = None
    database_prepared_statements: bool = True
    # "small": fewer processes and connections, smaller caches, for a Raspberry Pi or a server of 1 GB.
    size: SizeName = "default"
    api_processes: int = Field(default=1, ge=1, le=64)
    connections_per_address: int = Field(default=4096, ge=1)
    # Unset: unless the size is small.
    flower: Annotated[bool | None, BeforeValidator(_empty_is_unset)] = None
    flower_port: int = Field(default=5555, ge=0, le=65535)
    flower_password: OptionalSecret = None
    # Where the dashboard finds Flower, with its user and password; `smsfleet up` sets it.
    flower_url: OptionalSecret = None
    metrics_token: OptionalSecret = None
    # Where workers and beat show theirs; unset: nowhere.
    metrics_port: Annotated[Annotated[int, Field(ge=1, le=65535)] | None, BeforeValidator(_empty_is_unset)] = None
    # Of an OTLP/HTTP collector, `http://host:4318`; unset: nothing is traced.
    otlp_endpoint: OptionalUrl = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    free_features: Annotated[tuple[Feature, ...], NoDecode, BeforeValidator(_comma_separated)] = FEATURES
    # A sign-in ends when it was not used for so long, and after so long in all.
    session_idle: Duration = timedelta(days=30)
    session_lifetime: Duration = timedelta(days=365)
    max_devices: int = Field(default=200, ge=1)
    max_enrollments_per_minute: int = Field(default=30, ge=1)
    registration: Annotated[Literal["open", "closed"] | None, BeforeValidator(_empty_is_unset)] = None
    sms_rate: Price = 100
    price_monthly: Price = 5
    price_yearly: Price = 50
    price_currency: str = "USD"
    payment_wallet: str = ""
    payment_asset: str = ""
    payment_network: str = ""
    payment_telegram: str = ""

    google_client_id: str = ""
    google_tokeninfo_url: str = "https://oauth2.googleapis.com/tokeninfo"
    smtp_url: Annotated[SmtpUrl | None, BeforeValidator(_empty_is_unset)] = None
    mail_from: str = "smsfleet@localhost"

    message_validity: Duration = timedelta(hours=24)
    # Unset: for good.
    keep_messages: OptionalKeptFor = None
    keep_incoming: OptionalKeptFor = None
    keep_recipients: OptionalKeptFor = None
    keep_deliveries: KeptFor = timedelta(days=7)
    keep_failed_deliveries: KeptFor = timedelta(days=30)
    keep_audit_log: KeptFor = timedelta(days=365)
    attachment_storage_mb: int = Field(default=1024, ge=0)
    webhook_allowed_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_comma_separated)] = ()
    webhook_refused_hosts: Annotated[tuple[Refused, ...], NoDecode, BeforeValidator(_comma_separated)] = ()

    @property
    def is_local(self) -> bool:
        """Only programs of this machine can call: it listens on loopback, and nothing passes on calls of others."""
        return is_loopback(self.host) and self.public_url is None and not self.trusted_proxies

    @property
    def database_dsn(self) -> str:
        """SQLAlchemy URL of the database, always with the psycopg 3 driver."""
        if self.database_url is None:
            raise RuntimeError("SMSFLEET_DATABASE_URL is not set and no running installation was found")
        url = self.database_url.get_secret_value()
        scheme, _, rest = url.partition("://")
        return f"postgresql+psycopg://{rest}" if scheme in {"postgres", "postgresql"} else url

    @property
    def redis_dsn(self) -> str:
        """URL of the Redis-protocol server of limits, wakes and marks of life."""
        if self.redis_url is None:
            raise RuntimeError("SMSFLEET_REDIS_URL is not set and no running installation was found")
        return self.redis_url.get_secret_value()

    @property
    def broker_dsn(self) -> str:
        """URL of the broker that carries Celery's tasks."""
        return self.broker_url.get_secret_value() if self.broker_url else self.redis_dsn


def explain(error: ValidationError) -> str:
    """A sentence about each setting that is wrong, for the operator."""
    return "\n".join(_explain(str(one["loc"][0]), one["input"], one["msg"]) for one in error.errors())


def _explain(name: str, given: object, reason: str) -> str:
    shown = "" if name.endswith(_PRIVATE) else f"={given}"
    return f"SMSFLEET_{name.upper()}{shown}: {reason.removeprefix('Value error, ')}"


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read once. Ends a process whose settings are wrong, with a sentence about each."""
    try:
        return Settings()
    except ValidationError as error:
        sys.exit(explain(error))
