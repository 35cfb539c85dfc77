"""Phones of a user, on the gateway over real HTTP."""

import socketserver
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default
from typing import Any

import httpx
import pytest

from tests.support.strict_phone import StrictPhone


@pytest.fixture
def enroll(gateway, ali) -> Iterator[Callable[..., StrictPhone]]:
    """Make a phone and enroll it with a private token of Ali's, or of the account given."""
    phones = []

    def make(account: Any = None, **options: Any) -> StrictPhone:
        phone = StrictPhone(gateway.url, **options)
        phones.append(phone)
        private = (account or ali).token("phone:enroll")["Authorization"].removeprefix("Bearer ")
        phone.register(private)
        return phone

    yield make
    for phone in phones:
        phone.close()


@pytest.fixture
def phone(enroll) -> StrictPhone:
    made: StrictPhone = enroll()
    return made


@pytest.fixture
def client(api: httpx.Client, ali) -> httpx.Client:
    """Ali's client of the public API."""
    api.headers.update(ali.headers)
    return api


@pytest.fixture
def device_number(client) -> Callable[[StrictPhone], int]:
    """The public number of a phone."""

    def number(phone: StrictPhone) -> int:
        found: int = client.get(f"/api/devices/{phone.device_id}").json()["data"]["id"]
        return found

    return number


@pytest.fixture
def send(client, phone) -> Callable[..., dict[str, Any]]:
    """Send through the phone, or another one, which the request names."""

    def post(message: str = "Hello", **fields: Any) -> dict[str, Any]:
        body = {"message": message, "recipient_number": "+998901112233", "device_id": phone.device_id} | fields
        answer = client.post("/api/sms", json=body)
        assert answer.status_code == 201, answer.text
        sent: dict[str, Any] = answer.json()["data"]
        return sent

    return post


@pytest.fixture
def status_of(client) -> Callable[[dict[str, Any]], str]:
    def status(message: dict[str, Any]) -> str:
        shown: str = client.get(f"/api/sms/{message['id']}").json()["data"]["status"]
        return shown

    return status


@pytest.fixture
def settings_of(client) -> Callable[..., None]:
    """Set settings of a phone over the API."""

    def change(phone: StrictPhone, **values: Any) -> None:
        answer = client.patch(f"/api/devices/{phone.device_id}", json=values)
        assert answer.status_code == 200, answer.text

    return change


@pytest.fixture
def work() -> Callable[..., Any]:
    """Run one batch of a task's work, as its worker would."""
    from workers.base import in_transaction

    return in_transaction


@pytest.fixture
def later(sql) -> Callable[[float], None]:
    """Let time pass: move everything that the queue, the ledger and the phones' states know into the past."""

    def shift(seconds: float) -> None:
        for table, columns in {
            "device_state": "last_release_at next_slot_at measured_since seen_at pulled_at stream_opened_at"
            " stream_seen_at woken_at held_until offline_alert_at rests_until quiet_since failing_alert_at",
            "device_health": "last_sent_at failing_since rests_until",
            "messages": "valid_until scheduled_at",
            "message_queue": "since valid_until released_at offered_at accepted_at due_at",
            "device_releases": "released_at",
        }.items():
            moved = ", ".join(f"{column} = {column} - make_interval(secs => {seconds})" for column in columns.split())
            sql.execute(f"UPDATE {table} SET {moved}")
        sql.execute(
            "UPDATE device_state SET sim_rests = (SELECT jsonb_object_agg(key, value::float8 - %s)"
            " FROM jsonb_each_text(sim_rests)) WHERE sim_rests IS NOT NULL",
            (seconds,),
        )

    return shift


class Mailbox(socketserver.ThreadingTCPServer):
    """Speaks enough SMTP to take mails."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Session)
        self.mails = []


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 hello\r\n")
        for line in self.rfile:
            command = line[:4].upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                mail = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(message_from_bytes(mail, policy=default))
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")


@pytest.fixture
def mailbox(configured):
    with Mailbox() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        configured(SMTP_URL=f"smtp://127.0.0.1:{server.server_address[1]}")
        yield server
        server.shutdown()
        thread.join()
