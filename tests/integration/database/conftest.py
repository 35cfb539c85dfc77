"""What a database can do to a gateway under traffic: phones that pull and report, clients that send and list."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from app.core.database import close_engines
from tests.support.strict_phone import StrictPhone


@pytest.fixture
def client(api: httpx.Client, ali) -> httpx.Client:
    api.headers.update(ali.headers)
    return api


@pytest.fixture
def phone(gateway, ali) -> Iterator[StrictPhone]:
    made = StrictPhone(gateway.url)
    made.register(ali.token("phone:enroll")["Authorization"].removeprefix("Bearer "))
    made.sync()
    yield made
    made.close()


@pytest.fixture
def moved_to(configured) -> Iterator[Callable[[str], None]]:
    """Let the running gateway find its database elsewhere; afterwards it is back where it was."""
    own = os.environ["SMSFLEET_DATABASE_URL"]

    def move(url: str) -> None:
        configured(DATABASE_URL=url)
        close_engines()

    yield move
    move(own)


@pytest.fixture
def owner(database) -> Iterator[psycopg.Connection]:
    """The database's owner, who is no part of the gateway and keeps to none of its limits."""
    with psycopg.connect(database.postgres.url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET lock_timeout = '10s'")
        yield connection


class Traffic:
    """The status of every answer, by what was asked for."""

    def __init__(self, client: httpx.Client, phone: StrictPhone) -> None:
        self.answers: list[tuple[str, int]] = []
        self._client, self._phone = client, phone
        self._stop = threading.Event()

    def run(self, times: int) -> None:
        """Every kind of call, `times` times over, in six threads."""
        threads = [threading.Thread(target=self._repeat, args=(work, times)) for work in self._kinds()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, args=(1_000_000,))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def wait_for(self, answers: int) -> None:
        """Return when so many more have come."""
        wanted, deadline = len(self.answers) + answers, time.monotonic() + 60
        while len(self.answers) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _repeat(self, work: Callable[[], None], times: int) -> None:
        for _ in range(times):
            if self._stop.is_set():
                return
            work()

    def _kinds(self) -> list[Callable[[], None]]:
        return [self._send, self._send, self._read, self._account, self._bulk, self._serve]

    def _note(self, kind: str, answer: httpx.Response) -> None:
        self.answers.append((kind, answer.status_code))

    def _send(self) -> None:
        body = {"recipient_number": "+998901112233", "message": "Hello", "device_id": self._phone.device_id}
        answer = self._client.post("/api/sms", json=body)
        self._note("send", answer)
        if answer.status_code == httpx.codes.CREATED:
            number = answer.json()["data"]["id"]
            self._note("show", self._client.get(f"/api/sms/{number}"))
            self._note("timeline", self._client.get(f"/api/sms/{number}/timeline"))

    def _read(self) -> None:
        for path in ("/api/sms", "/api/devices", "/api/sms/inbox", "/api/webhooks/deliveries"):
            self._note(path, self._client.get(path))

    def _account(self) -> None:
        self._note("account", self._client.get("/api/account"))
        self._note("contact", self._client.get("/api/contacts"))

    def _bulk(self) -> None:
        numbers = [f"+99890111{n:04}" for n in range(5)]
        body = {"recipients": numbers, "message": "Hello all", "device_id": self._phone.device_id}
        self._note("bulk", self._client.post("/api/sms/bulk", json=body))

    def _serve(self) -> None:
        phone = self._phone
        answer = phone.client.get("/message", headers=phone.headers)
        self._note("pull", answer)
        names = [message["id"] for message in answer.json()] if answer.is_success else []
        for state in ("Processed", "Sent", "Delivered"):
            items = [{"id": name, "state": state, "recipients": [], "states": {}} for name in names]
            self._note("report", phone.client.patch("/message", headers=phone.headers, json=items))
        self._note("hook", httpx.Response(phone.receive("+998901112233", phone.now())))

    @property
    def failures(self) -> list[tuple[str, int]]:
        return [(kind, status) for kind, status in self.answers if status >= httpx.codes.BAD_REQUEST]

    @property
    def kinds(self) -> set[str]:
        return {kind for kind, _ in self.answers}


@pytest.fixture
def traffic(client, phone) -> Traffic:
    return Traffic(client, phone)
