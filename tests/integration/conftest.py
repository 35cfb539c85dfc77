"""The gateway over real HTTP, in a thread of the test process, and users of it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import httpx
import psycopg
import pytest
import uvicorn

from app.core.settings import get_settings
from tests.conftest import Servers


@dataclass(frozen=True)
class Gateway:
    """A running server of the API."""

    url: str
    port: int


@pytest.fixture(scope="session")
def gateway(servers: Servers) -> Iterator[Gateway]:
    from app.core.database import close_engines

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            "app.main:create_app",
            factory=True,
            http="app.core.connections:Connection",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Gateway(f"http://127.0.0.1:{port}", port)
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
    close_engines()


@pytest.fixture
def api(gateway: Gateway, database: Servers) -> Iterator[httpx.Client]:
    """A client without a token, on an empty database."""
    with httpx.Client(base_url=gateway.url, timeout=60) as client:
        yield client


@pytest.fixture
def sql(database: Servers) -> Iterator[psycopg.Connection]:
    """A look into the database, beside the gateway."""
    with psycopg.connect(database.postgres.url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set settings of the running gateway for this test: `configured(REGISTRATION="closed")`."""

    def configure(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"SMSFLEET_{name}", value)
        get_settings.cache_clear()

    yield configure
    monkeypatch.undo()
    get_settings.cache_clear()


@dataclass(frozen=True)
class Account:
    """A user with a session; more tokens by `token`."""

    id: int
    email: str
    headers: dict[str, str]

    def token(self, *abilities: str, kind: str = "key", expires_in: timedelta | None = None) -> dict[str, str]:
        """Headers with a new token; `expires_in` may be negative."""
        from app.accounts import tokens
        from app.core.database import transaction

        with transaction() as session:
            made = tokens.issue(session, self.id, kind, "test", abilities=abilities or ("*",))
        if expires_in is not None:
            from sqlalchemy import text

            with transaction() as session:
                values = {"id": made.id, "expires_in": expires_in}
                session.execute(
                    text("UPDATE tokens SET expires_at = clock_timestamp() + :expires_in WHERE id = :id"), values
                )
        return {"Authorization": f"Bearer {made.plain}"}


@pytest.fixture
def new_account(database: Servers) -> Callable[..., Account]:
    """Make a user, without the work of hashing a password."""
    from app.accounts import plans, signin
    from app.accounts.tokens import issue
    from app.core.database import transaction

    def make(email: str = "ali@example.com", name: str = "Ali", *, months: int = 0) -> Account:
        with transaction() as session:
            user = signin.add_user(session, name=name, email=email, password_hash=None)
            assert user is not None
            if months:
                plans.add_premium(session, user.id, months)
            token = issue(session, user.id, "session", "test")
        return Account(user.id, email, {"Authorization": f"Bearer {token.plain}"})

    return make


@pytest.fixture
def ali(new_account: Callable[..., Account]) -> Account:
    return new_account()


@pytest.fixture
def other(new_account: Callable[..., Account]) -> Account:
    """Somebody else, whose rows nobody may see."""
    return new_account("other@example.com", "Other")
