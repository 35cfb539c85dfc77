"""What the webhook tests share: loopback allowed, a receiver, a deliverer as a worker has one, rows to begin with."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from app.core.database import close_engines, transaction
from app.core.settings import get_settings
from app.webhooks import history, outbox
from app.webhooks.delivery import Deliverer
from app.webhooks.guard import check_address, origin_of
from tests.support.webhooks_receiver import Receiver


@pytest.fixture(scope="session")
def engine(servers) -> Iterator[None]:
    yield
    close_engines()


@pytest.fixture(autouse=True)
def loopback_allowed(database, engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SMSFLEET_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128")
    get_settings.cache_clear()
    check_address.cache_clear()
    yield
    get_settings.cache_clear()
    check_address.cache_clear()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def start_deliverer() -> Iterator[Callable[..., Deliverer]]:
    """Starts deliverers that are fed without end, each as a worker process under steady nudges would be."""
    running: list[tuple[Deliverer, threading.Thread]] = []

    def start(**options: Any) -> Deliverer:
        deliverer = Deliverer(**options)

        def feed() -> None:
            while not deliverer.stopping:
                deliverer.feed()

        thread = threading.Thread(target=feed)
        thread.start()
        running.append((deliverer, thread))
        return deliverer

    yield start
    for deliverer, thread in running:
        deliverer.stop()
        thread.join()
        deliverer.close()


@pytest.fixture
def deliverer(start_deliverer) -> Deliverer:
    return start_deliverer()


def make_user(email: str = "ali@example.com") -> int:
    with transaction() as session:
        user: int = session.scalar(
            text("INSERT INTO users (name, email) VALUES ('Ali', :email) RETURNING id"), {"email": email}
        )
    return user


def set_url(user: int, url: str, hook: str = "status") -> None:
    with transaction() as session:
        session.execute(
            text(
                "INSERT INTO webhook_urls (user_id, hook, url, origin) VALUES (:user, :hook, :url, :origin)"
                " ON CONFLICT (user_id, hook) DO UPDATE SET url = excluded.url, origin = excluded.origin"
            ),
            {"user": user, "hook": hook, "url": url, "origin": origin_of(url)},
        )


def callback(user: int, url: str, message_id: int | None = None, **data: Any) -> outbox.WebhookEvent:
    return outbox.WebhookEvent(user, "callback", "status", data, message_id, url)


def status(user: int, message_id: int | None = None, **data: Any) -> outbox.WebhookEvent:
    return outbox.WebhookEvent(user, "status", "status", data, message_id)


def write(*events: outbox.WebhookEvent) -> list[int]:
    with transaction() as session:
        return outbox.write(session, events)


def rows(statement: str, **values: Any) -> Sequence[Any]:
    with transaction() as session:
        return session.execute(text(statement), values).all()


def value(statement: str, **values: Any) -> Any:
    with transaction() as session:
        return session.scalar(text(statement), values)


def execute(statement: str, **values: Any) -> None:
    with transaction() as session:
        session.execute(text(statement), values)


def states() -> Counter[str]:
    """How many deliveries stand how, as their owners see them."""
    return Counter(row[0] for row in rows(f"SELECT {history.STATE} FROM {history.DELIVERIES}"))


def hasten() -> None:
    """Let every retry be due now, as if its time had come."""
    execute("UPDATE webhook_queue SET next_attempt_at = clock_timestamp() WHERE lease_id IS NULL")
    execute("UPDATE webhook_targets SET next_try_at = NULL")
