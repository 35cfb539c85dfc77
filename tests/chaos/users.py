"""People who send, as careful clients do, and what they were answered."""

import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx

_AGAIN = {409, 429, 503}
_PATIENCE = 90.0
_PAUSE = 0.2


@dataclass
class Sent:
    """An accepted message: when it was asked for and answered, by the run's clock; whether its end is called back."""

    number: str
    asked: float
    answered: float
    single: bool
    callback: bool
    not_before: float = 0.0  # seconds since the epoch


@dataclass
class Campaign:
    """A campaign, the numbers of its recipients, and whether its owner has cancelled it."""

    id: int
    numbers: list[str]
    cancelled: bool = False


@dataclass
class User:
    """One account, its programs and its owner."""

    index: int
    url: str
    receivers: str
    began: float
    accepted: dict[str, Sent] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    retried: set[str] = field(default_factory=set)  # what was asked to be sent again
    wrong: list[str] = field(default_factory=list)  # answers that no client should ever see
    in_doubt: int = 0  # sends that were given up
    campaigns: list[Campaign] = field(default_factory=list)
    opted_out: dict[str, float] = field(default_factory=dict)  # numbers, and when that was answered

    def __post_init__(self) -> None:
        self._local = threading.local()
        self._numbers = iter(range(10_000_000))
        self._token = ""
        person = {"name": f"User {self.index}", "email": f"{uuid.uuid4().hex}@example.com"}
        password = {"password": "secret-1", "password_confirmation": "secret-1"}
        self._token = self.call("POST", "/api/register", {**person, **password})["token"]
        key = self.call("POST", "/api/tokens", {"name": "phones", "abilities": ["phone:enroll"]})
        self.enrolling_key: str = key["token"]
        self.set_urls()

    def set_urls(self) -> None:
        """Also what an owner does to have everything that waits for the receiver posted at once."""
        urls = {f"webhook_url_{hook}": f"{self.receivers}/{hook}" for hook in ("status", "incoming")}
        self.call("PUT", "/api/webhooks", urls)

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    def request(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response | None:
        """The first answer that says something; the same request with the same key until then. None: given up."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if key:
            headers["Idempotency-Key"] = key
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if not hasattr(self._local, "client"):
                self._local.client = httpx.Client(base_url=self.url, timeout=10, verify=False)
            try:
                answer = self._local.client.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                # The connection may lead to a process that hangs: another one for the next try.
                self._local.client.close()
                del self._local.client
            else:
                if answer.status_code >= 500 and answer.status_code not in _AGAIN:
                    self.wrong.append(f"{method} {path}: {answer.status_code}")
                elif answer.status_code not in _AGAIN:
                    return answer
            time.sleep(_PAUSE)
        return None

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The data of an answer that must come."""
        answer = self.request(method, path, body)
        assert answer is not None, f"{method} {path} was never answered"
        answer.raise_for_status()
        return answer.json()["data"]

    def _next_number(self) -> str:
        return f"+9989{self.index}{next(self._numbers):07d}"

    def send_single(self, later: float = 0.0) -> None:
        """Send one, after `later` seconds where that is more than nothing."""
        number, asked = self._next_number(), self.now
        body: dict[str, Any] = {
            "recipient_number": number,
            "message": f"Your code is {number[-6:]}",
            "device_id": "active",
            "callback_url": f"{self.receivers}/callback",
        }
        not_before = time.time() + later if later else 0.0
        if later:
            body["send_at"] = datetime.fromtimestamp(not_before, UTC).isoformat()
        answer = self.request("POST", "/api/sms", body, uuid.uuid4().hex)
        self._note(answer, asked, single=not later, callback=True, not_before=not_before)

    def send_bulk(self, count: int, *, callback: bool) -> None:
        asked = self.now
        recipients = [self._next_number() for _ in range(count)]
        body: dict[str, Any] = {"message": f"Campaign of {recipients[0]}", "recipients": recipients}
        body |= {"device_id": "active"}
        if callback:
            body["callback_url"] = f"{self.receivers}/callback"
        answer = self.request("POST", "/api/sms/bulk", body, uuid.uuid4().hex)
        self._note(answer, asked, single=False, callback=callback)

    def _note(
        self, answer: httpx.Response | None, asked: float, *, single: bool, callback: bool, not_before: float = 0.0
    ) -> None:
        if answer is None:
            self.in_doubt += 1
            return
        if answer.status_code != 201:
            self.wrong.append(f"send: {answer.status_code} {answer.text[:200]}")
            return
        data = answer.json()["data"]
        for item in data if isinstance(data, list) else [data]:
            sent = Sent(item["recipient_number"], asked, self.now, single, callback, not_before)
            self.accepted[item["message_id"]] = sent

    def cancel(self, name: str) -> None:
        answer = self.request("POST", f"/api/sms/{name}/cancel")
        if answer is not None and answer.status_code == 200:
            self.cancelled.add(name)

    def retry_failed(self, random: Random, most: int) -> None:
        """Send again what a phone said it could not send; never what is uncertain, which only its owner can judge."""
        found = self.call("GET", "/api/sms?status=failed&direction=outbound&per_page=50")
        certain = [item["message_id"] for item in found["data"] if not item["uncertain"]]
        for name in random.sample(certain, min(most, len(certain))):
            # Noted first: where the answer is lost, the next one says only that nothing is failed any more.
            self.retried.add(name)
            self.request("POST", f"/api/sms/{name}/retry")

    def make_campaign(self, recipients: int) -> Campaign:
        draft = {"name": "Chaos", "message": "Come and see us", "device_id": "active"}
        draft["callback_url"] = f"{self.receivers}/callback"
        numbers = [self._next_number() for _ in range(recipients)]
        made = Campaign(self.call("POST", "/api/campaigns", draft)["id"], numbers)
        self.call("PUT", f"/api/campaigns/{made.id}/recipients", {"recipients": numbers})
        self.campaigns.append(made)
        return made

    def ask(self, campaign: Campaign, verb: str) -> bool:
        answer = self.request("POST", f"/api/campaigns/{campaign.id}/{verb}", {})
        return answer is not None and answer.status_code == 200

    def counts(self, campaign: Campaign) -> dict[str, int]:
        found: dict[str, int] = self.call("GET", f"/api/campaigns/{campaign.id}")["counts"]
        return found

    def opt_out(self, number: str) -> None:
        answer = self.request("POST", "/api/opt-outs", {"phone_number": number})
        if answer is not None and answer.status_code in {200, 201}:
            self.opted_out[number] = self.now

    def devices(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("GET", "/api/devices")
        return found

    def messages(self, direction: str) -> list[dict[str, Any]]:
        """All of them, by the list that clients read."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.call("GET", f"/api/sms?direction={direction}&per_page=100{cursor}")
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = self.call("GET", "/api/account")["stats"]
        return found
