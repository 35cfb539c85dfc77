"""A phone written strictly from the protocol page of the stock app; it refuses what the app would stumble over.

It does nothing by itself; a test tells it each step, so that it can be late, repeat itself, or die at any point.
"""

import hashlib
import hmac
import json
import queue
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?(Z|[+-]\d\d:\d\d)")
KNOWN_EVENTS = {
    "sms:received": (0,),
    "sms:data-received": (0,),
    "mms:received": (0,),
    "sms:sent": (0,),
    "sms:delivered": (0,),
    "sms:failed": (0,),
    "system:ping": (0,),
    "mms:downloaded": (1, 56),
    "app:started": (1, 66),
    "sms:cancelled": (1, 67),
    "sms:batch:received": (1, 71),
    "sms:batch:data-received": (1, 71),
    "mms:batch:received": (1, 71),
    "mms:batch:downloaded": (1, 71),
}
SIMS = [{"slotIndex": 0, "simNumber": 1, "phoneNumber": "********4567", "carrierName": "****bile", "iccid": "****1234"}]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


class StrictPhone:
    """One install of the app. `held` are the messages it knows, by id; it never forgets one."""

    def __init__(self, url: str, *, version: str = "1.68.0", name: str = "samsung/a52qnsxx", sims: Any = None) -> None:
        self.url = url
        self.version = version
        self.name = name
        self.sims = SIMS if sims is None else sims
        self.client = httpx.Client(
            base_url=f"{url}/api/mobile/v1", timeout=10, headers={"User-Agent": f"me.capcom.smsgateway/{version}"}
        )
        self.device_id = ""
        self.token = ""
        self.signing_key = secrets.token_hex(4)
        self.hooks: list[dict[str, Any]] = []
        self.held: dict[str, dict[str, Any]] = {}
        self.on_air: list[str] = []

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def register(self, private_token: str, **body: Any) -> dict[str, Any]:
        told = {"name": self.name, **self._cards(), **self._keys(), **body}
        answer = self.client.post("/device", headers={"Authorization": f"Bearer {private_token}"}, json=told)
        assert answer.status_code == 201, answer.text
        told = answer.json()
        assert all(isinstance(told[key], str) and told[key] for key in ("id", "token", "login")), told
        assert len(told["id"]) <= 21
        self.device_id, self.token = told["id"], told["token"]
        return told

    def _cards(self) -> dict[str, Any]:
        return {"simCards": self.sims} if numbers(self.version) >= (1, 65) else {}

    def _keys(self) -> dict[str, Any]:
        """What newer apps tell for the encryption of their inbox."""
        return {"publicKey": "MFkwEwYHKoZIzj0CAQYI", "keyVersion": 1} if numbers(self.version) >= (1, 75) else {}

    def announce(self, **body: Any) -> int:
        told = {"id": self.device_id, **self._keys(), **body}
        return self.client.patch("/device", headers=self.headers, json=told).status_code

    def push_inbox(self, count: int) -> list[int]:
        """Push the inbox as newer apps do: in batches of 100, each halved on an error, down to single posts."""
        item = {"type": "SMS", "sender": "+15550001111", "content": "$aes", "createdAt": self.now()}
        items = [{"id": str(number), **item} for number in range(count)]
        waiting = [items[first : first + 100] for first in range(0, count, 100)]
        statuses = []
        while waiting:
            batch = waiting.pop()
            statuses.append(self.client.post("/inbox", headers=self.headers, json=batch).status_code)
            if not 200 <= statuses[-1] < 300 and len(batch) > 1:
                waiting += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        return statuses

    def pull(self, order: str = "lifo") -> list[dict[str, Any]]:
        """Pull, check what came as the app's parser would, and keep it."""
        answer = self.client.get("/message", params={"order": order}, headers=self.headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("application/json")
        messages: list[dict[str, Any]] = answer.json()
        assert len(messages) <= 100
        for message in messages:
            self._check(message)
            if message.get("state") != "Cancelling":
                self.held.setdefault(message["id"], message)
        return messages

    def _check(self, message: dict[str, Any]) -> None:
        assert 1 <= len(message["id"]) <= 36
        assert "|" not in message["id"]
        assert message["message"] == message["textMessage"]["text"]
        assert len(message["phoneNumbers"]) == len(set(message["phoneNumbers"])) == 1, "one message per recipient"
        assert message["simNumber"] in {None, 1, 2, 3}
        assert -128 <= message["priority"] < 100, "from 100 on the app ignores its pace"
        for key in ("validUntil", "createdAt"):
            assert re.fullmatch(r"[^.]+\.\d{3}(Z|[+-]\d\d:\d\d)", message[key])
            assert DATE.fullmatch(message[key])
        assert message.get("scheduleAt") is None or numbers(self.version) >= (1, 61)
        if message.get("state", "Pending") != "Pending":
            assert message["state"] == "Cancelling"
            assert numbers(self.version) >= (1, 67), "it would be sent instead"

    def report(self, name: str, state: str, *, error: str | None = None, states: dict[str, str] | None = None) -> int:
        return self.report_all([self.item(name, state, error=error, states=states)])

    def item(
        self, name: str, state: str, *, error: str | None = None, states: dict[str, str] | None = None
    ) -> dict[str, Any]:
        number = self.held[name]["phoneNumbers"][0] if name in self.held else "+15550000000"
        recipient = {"phoneNumber": number, "state": state} | ({"error": error} if error else {})
        return {"id": name, "state": state, "recipients": [recipient], "states": states or {state: self.now()}}

    def report_all(self, items: list[dict[str, Any]]) -> int:
        return self.client.patch("/message", headers=self.headers, json=items).status_code

    def send(self, name: str) -> None:
        """Put a message on air and say so, step by step."""
        self.on_air.append(name)
        for state in ("Processed", "Sent", "Delivered"):
            assert self.report(name, state) == 204

    @staticmethod
    def now(offset: float = 0) -> str:
        at = time.time() + offset
        zone = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at + 7 * 3600))
        return f"{zone}.{int(at % 1 * 1000):03d}+07:00"

    def sync(self) -> None:
        """Fetch webhooks and settings, as after the events that announce them."""
        hooks = self.client.get("/webhooks", headers=self.headers)
        assert hooks.status_code == 200, hooks.text
        self.hooks = hooks.json()
        ids = [hook["id"] for hook in self.hooks]
        assert len(ids) == len(set(ids))
        for hook in self.hooks:
            assert KNOWN_EVENTS[hook["event"]] <= numbers(self.version), "the app would fail the whole list"
        settings = self.client.get("/settings", headers=self.headers)
        assert settings.status_code == 200
        document: dict[str, Any] = settings.json()
        assert all(isinstance(section, dict) for section in document.values())
        messages = document.get("messages", {})
        periods = {"Disabled", "PerMinute", "Per30Minutes", "PerHour", "PerDay"}
        assert messages.get("limit_period", "Disabled") in periods
        assert messages.get("processing_order", "LIFO") in {"LIFO", "FIFO"}
        if numbers(self.version) >= (1, 69):
            assert messages.get("work_hours_enabled") is False, "messages would wait for the morning"
            for key in ("work_hours_start", "work_hours_end"):
                assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", messages.get(key, "00:00")), "the app would fail"
        self.settings = document
        self.signing_key = document["webhooks"]["signing_key"]

    def hook(self, event: str, payload: dict[str, Any], *, event_id: str | None = None, **forged: str) -> int:
        """Post an event to its webhook, signed; `forged` replaces headers."""
        hook = next(hook for hook in self.hooks if hook["event"] == event)
        body = {
            "id": event_id or secrets.token_urlsafe(15),
            "webhookId": hook["id"],
            "event": event,
            "deviceId": self.device_id,
            "payload": payload,
        }
        raw = json.dumps(body).encode()
        at = str(int(time.time()))
        signature = hmac.new(self.signing_key.encode(), raw + at.encode(), hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Timestamp": at, "X-Signature": signature} | forged
        began = time.monotonic()
        status = self.client.post(hook["url"], content=raw, headers=headers).status_code
        assert time.monotonic() - began < 5, "the app gives up after five seconds"
        return status

    def receive(self, sender: str, message: str, **extra: Any) -> int:
        """An SMS comes in."""
        event_id = extra.pop("event_id", None)
        payload = {
            "message": message,
            "receivedAt": self.now(),
            "messageId": "3fa1",
            "sender": sender,
            "phoneNumber": sender,
            "simNumber": 1,
        }
        return self.hook("sms:received", payload | extra, event_id=event_id)

    @contextmanager
    def stream(self) -> Iterator["EventStream"]:
        """Open an event stream, as bare okhttp does."""
        with httpx.Client(timeout=httpx.Timeout(10, read=60)) as client:
            headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
            with client.stream("GET", f"{self.url}/api/mobile/v1/events", headers=headers) as answer:
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith("text/event-stream")
                events = EventStream(answer)
                yield events

    def close(self) -> None:
        self.client.close()


class EventStream:
    """Events of one open stream, read in a thread; one without a data line is dropped, as the app's library does."""

    def __init__(self, answer: httpx.Response) -> None:
        self._events: queue.Queue[tuple[str, Any] | None] = queue.Queue()
        self.comments = 0
        self.opened = time.monotonic()
        self._thread = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._thread.start()

    def _read(self, answer: httpx.Response) -> None:
        name, data = "", None
        try:
            for line in answer.iter_lines():
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("data:"):
                    data = line[5:].strip()
                elif not line and data is not None:
                    self._events.put((name or "MessageEnqueued", json.loads(data)))
                    name, data = "", None
        except (httpx.HTTPError, httpx.StreamError):
            pass
        self._events.put(None)

    def next(self, within: float = 5) -> tuple[str, Any] | None:
        """The next event, None where the stream has ended. `queue.Empty` where none came in time."""
        return self._events.get(timeout=within)

    def until(self, name: str, within: float = 5) -> Any:
        """Wait for an event of this name and give its data."""
        deadline = time.monotonic() + within
        while True:
            event = self.next(max(0.01, deadline - time.monotonic()))
            assert event is not None, f"the stream ended before {name}"
            if event[0] == name:
                return event[1]

    def rest(self, seconds: float = 0.3) -> list[str]:
        """The names of what else comes within a time."""
        names = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self.next(left)
            except queue.Empty:
                break
            if event is None:
                break
            names.append(event[0])
        return names
