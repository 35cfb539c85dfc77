"""A small, strict gateway for the phones' own tests, written from the phone protocol alone.

It checks the shape of every request; what is wrong is answered with 400 and kept in `violations`, which a test expects
to be empty. It shares no code with the phones, so that a misreading on one side shows.
`python -m tests.support.phones_server` runs it as a process of its own, to measure phones against.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections import Counter, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import uvloop
from aiohttp import web

TOKEN = "1|private-token"
SIGNING_KEY = "testkey1"
BATCH = 100
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)")
OLD_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+-\d{1,2}:\d\d")
REPORTABLE = {"Pending", "Processed", "Sent", "Delivered", "Failed", "Cancelled"}
AGENT = re.compile(r"me\.capcom\.smsgateway/\d+\.\d+\.\d+")
SIM_KEYS = {"slotIndex", "simNumber", "phoneNumber", "carrierName", "iccid"}
SMS_KEYS = {"message", "receivedAt", "messageId", "sender", "phoneNumber"}
INBOX_KEYS = {"id", "type", "sender", "recipient", "simNumber", "content", "isEncrypted", "createdAt"}
ENCRYPTED = re.compile(r"\$aes-256-cbc/pbkdf2-sha1\$i=\d+\$[^$]+\$[^$]+")


class ViolationError(Exception):
    """A request that the app would not have made."""


def check(true: object, what: str) -> None:
    if not true:
        raise ViolationError(what)


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(eq=False)
class Device:
    """A registered phone. `waiting` are messages not reported yet, `reports` all it said of each message, in order."""

    id: str
    name: str
    token: str
    secret: str = field(default_factory=secrets.token_hex)
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    handed_out: set[str] = field(default_factory=set)
    numbers: dict[str, list[str]] = field(default_factory=dict)
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    streams: list[web.StreamResponse] = field(default_factory=list)
    announcements: int = 0
    woken: bool = False

    def states(self, message_id: str) -> list[str]:
        return [report["state"] for report in self.reports[message_id]]


class ReferenceServer:
    """The gateway. Enter to listen on a free loopback port; `url` is its address.

    `faults["PATCH /message"]` holds statuses to give, in turn, instead of doing the work; `delays` seconds by call.
    `webhooks` are the events offered, `settings` the document given out. `posts` are the hook calls taken, by event id,
    `inbox` the sizes of the batches of `POST /inbox`. `date` is how the phones are to write dates.
    """

    def __init__(self, *, single_reports: bool = True, port: int = 0) -> None:
        self.devices: dict[str, Device] = {}
        self.violations: list[str] = []
        self.calls: Counter[str] = Counter()
        self.faults: dict[str, deque[int]] = defaultdict(deque)
        self.delays: dict[str, float] = {}
        self.webhooks = ["sms:received"]
        self.settings: dict[str, Any] = {
            "messages": {"processing_order": "FIFO"},
            "webhooks": {"signing_key": SIGNING_KEY},
        }
        self.posts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.inbox: list[int] = []
        self.date = DATE
        self.url = ""
        self.first_reports = 0
        self.single_reports = single_reports
        self._port = port
        self._filled = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._judge])
        base = "/api/mobile/v1"
        app.add_routes(
            [
                web.post(f"{base}/device", self._register),
                web.patch(f"{base}/device", self._announce),
                web.get(f"{base}/message", self._pull),
                web.patch(f"{base}/message", self._report),
                web.get(f"{base}/webhooks", self._list_webhooks),
                web.get(f"{base}/settings", self._give_settings),
                web.get(f"{base}/events", self._stream),
                web.post(f"{base}/inbox", self._take_inbox),
                web.post("/hooks/{secret}", self._hook),
                web.post("/control/fill", self._fill),
                web.get("/control/figures", self._figures),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=2048)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and all streams; entering again listens on the same port, with all it knew."""
        assert self._runner is not None
        await self._runner.cleanup()

    # --- what a test does -----------------------------------------------------------------------------------------

    @property
    def device(self) -> Device:
        """The only device."""
        (device,) = self.devices.values()
        return device

    def put(self, device: Device, number: str = "+15551234567", text: str = "Hello", **fields: Any) -> str:
        """Put a message into the hand-out of a device without waking it."""
        message_id = fields.pop("id", None) or secrets.token_hex(8)
        device.numbers[message_id] = fields.pop("phoneNumbers", [number])
        device.waiting[message_id] = {
            "id": message_id,
            "message": text,
            "textMessage": {"text": text},
            "phoneNumbers": device.numbers[message_id],
            "simNumber": 1,
            "withDeliveryReport": True,
            "isEncrypted": False,
            "priority": 0,
            "state": "Pending",
            "createdAt": now_text(),
            "someday": {"more": 1},
        } | fields
        return message_id

    async def send(self, device: Device, number: str = "+15551234567", text: str = "Hello", **fields: Any) -> str:
        """Put a message and wake the phone."""
        message_id = self.put(device, number, text, **fields)
        await self.tell(device, "MessageEnqueued")
        return message_id

    async def tell(self, device: Device, event: str, data: str | None = "null") -> None:
        """Write an event to every open stream of a device."""
        lines = f"event: {event}\n" + (f"data: {data}\n" if data is not None else "") + "\n"
        for stream in device.streams[:]:
            with suppress(ConnectionError):  # a phone that goes takes its stream off the list itself
                await stream.write(lines.encode())

    # --- checks ---------------------------------------------------------------------------------------------------

    @web.middleware
    async def _judge(self, request: web.Request, handler: Any) -> web.StreamResponse:
        call = f"{request.method} {request.path.removeprefix('/api/mobile/v1')}"
        call = "POST /hooks" if call.startswith("POST /hooks") else call
        self.calls[call] += 1
        try:
            if not call.startswith(("GET /events", "POST /control", "GET /control")):
                check(AGENT.fullmatch(request.headers.get("User-Agent", "")), f"{call}: user agent")
            if request.method in {"POST", "PATCH"} and "control" not in call:
                check(request.content_type == "application/json", f"{call}: content type")
            if call in self.delays:
                await asyncio.sleep(self.delays[call])
            if self.faults[call]:
                return web.json_response({"message": "as told"}, status=self.faults[call].popleft())
            response: web.StreamResponse = await handler(request)
        except (ViolationError, KeyError, TypeError, ValueError) as error:
            self.violations.append(f"{call}: {error!r}")
            return web.json_response({"message": str(error)}, status=400)
        return response

    def _device_of(self, request: web.Request) -> Device:
        kind, _, token = request.headers["Authorization"].partition(" ")
        check(kind == "Bearer" and token, "a bearer token")
        for device in (self.devices.get(token.partition(".")[0]),):
            if device is not None and device.token == token:
                return device
        raise web.HTTPUnauthorized(text='{"message": "unknown token"}', content_type="application/json")

    def forget(self, device: Device) -> None:
        """Make the device's token unknown."""
        device.token = ""

    # --- the phone protocol ---------------------------------------------------------------------------------------

    async def _register(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bearer {TOKEN}":
            return web.json_response({"message": "bad private token"}, status=401)
        body = await request.json()
        check(set(body) <= {"name", "pushToken", "simCards", "publicKey", "keyVersion"}, f"keys {set(body)}")
        check(isinstance(body["name"], str) and 0 < len(body["name"]) <= 128, "name")
        _check_cards(body, request)
        _check_key(body, request)
        device_id = f"dev{len(self.devices) + 1:05d}"
        device = self.devices[device_id] = Device(device_id, body["name"], f"{device_id}.{secrets.token_hex(8)}")
        return web.json_response(
            {"id": device.id, "token": device.token, "login": "LOGIN", "password": "p", "news": []}, status=201
        )

    async def _announce(self, request: web.Request) -> web.Response:
        device = self._device_of(request)
        body = await request.json()
        keys = {"id", "pushToken", "simCards", "publicKey", "keyVersion"}
        check(set(body) <= keys and body["id"] == device.id, "announcement")
        _check_cards(body, request)
        _check_key(body, request)
        device.announcements += 1
        return web.Response(status=204)

    async def _pull(self, request: web.Request) -> web.Response:
        device = self._device_of(request)
        check(request.query.get("order") in {"lifo", "fifo"} and len(request.query) == 1, "order")
        batch = list(device.waiting.values())[:BATCH]
        device.woken = False
        device.handed_out.update(message["id"] for message in batch)
        return web.json_response(batch)

    async def _report(self, request: web.Request) -> web.Response:
        device = self._device_of(request)
        reports = await request.json()
        check(isinstance(reports, list) and reports, "an array")
        check(len(reports) == 1 or not self.single_reports, "exactly one report")
        for report in reports:
            _check_report(report, self.date)
            message_id = report["id"]
            expected = device.numbers.get(message_id)
            check(expected == [item["phoneNumber"] for item in report["recipients"]], "numbers exactly as given")
            device.reports[message_id].append(report)
            if device.waiting.pop(message_id, None) is not None:
                self.first_reports += 1
            device.handed_out.discard(message_id)
        if device.waiting and not device.handed_out and not device.woken:
            device.woken = True
            await self.tell(device, "MessageEnqueued")
        return web.Response(status=204)

    async def _list_webhooks(self, request: web.Request) -> web.Response:
        device = self._device_of(request)
        url = f"{self.url}/hooks/{device.secret}"
        return web.json_response(
            [{"id": f"{device.id}-{event}", "deviceId": None, "url": url, "event": event} for event in self.webhooks]
        )

    async def _give_settings(self, request: web.Request) -> web.Response:
        self._device_of(request)
        return web.json_response(self.settings)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        device = self._device_of(request)
        check(request.headers["User-Agent"].startswith("okhttp/"), "bare okhttp")
        check(request.headers["Accept"] == "text/event-stream", "accept")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b":keepalive\n\n")
        device.streams.append(response)
        await self.tell(device, "WebhooksUpdated")
        await self.tell(device, "SettingsUpdated")
        try:
            await asyncio.Event().wait()  # until the phone goes, which cancels this
        finally:
            device.streams.remove(response)
        return response

    async def _hook(self, request: web.Request) -> web.Response:
        (device,) = [device for device in self.devices.values() if device.secret == request.match_info["secret"]]
        raw = await request.read()
        signed = hmac.new(SIGNING_KEY.encode(), raw + request.headers["X-Timestamp"].encode(), hashlib.sha256)
        check(request.headers["X-Signature"] == signed.hexdigest(), "signature")
        body = json.loads(raw)
        check(set(body) == {"id", "webhookId", "event", "deviceId", "payload"}, f"keys {set(body)}")
        check(body["deviceId"] == device.id and body["webhookId"] == f"{device.id}-{body['event']}", "ids")
        check(_is_known(body["event"], request), "an event of this version")
        received = {"sms:received": [body["payload"]], "sms:batch:received": body["payload"].get("messages")}
        for sms in received.get(body["event"], []):
            check(set(sms) >= SMS_KEYS, "payload")
            check(self.date.fullmatch(sms["receivedAt"]), "receivedAt")
        self.posts[body["id"]].append(body)
        return web.json_response({})

    async def _take_inbox(self, request: web.Request) -> web.Response:
        self._device_of(request)
        check(_version(request) >= (1, 75), "only newer apps push their inbox")
        items = await request.json()
        check(isinstance(items, list) and 1 <= len(items) <= BATCH, "a batch")
        for item in items:
            check(set(item) <= INBOX_KEYS and item["type"] == "SMS" and item["isEncrypted"] is True, f"item {item}")
            check(all(ENCRYPTED.fullmatch(item[key]) for key in ("sender", "recipient", "content")), "encrypted")
            check(self.date.fullmatch(item["createdAt"]), "createdAt")
        self.inbox.append(len(items))
        return web.Response(status=201)

    # --- for measuring --------------------------------------------------------------------------------------------

    async def _fill(self, request: web.Request) -> web.Response:
        """Give each device its share of a number of messages, and wake it."""
        devices = list(self.devices.values())
        for number in range((await request.json())["messages"]):
            self._filled += 1
            self.put(devices[number % len(devices)], f"+1555{self._filled:07d}", "Your parcel is on its way to you")
        for device in devices:
            await self.tell(device, "MessageEnqueued")
        return web.json_response({})

    async def _figures(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "first_reports": self.first_reports,
                "violations": self.violations[:5],
                "calls": dict(self.calls),
                "streams": sum(len(device.streams) for device in self.devices.values()),
            }
        )


def _version(request: web.Request) -> tuple[int, ...]:
    return tuple(int(part) for part in request.headers["User-Agent"].partition("/")[2].split("."))


def _is_known(event: str, request: web.Request) -> bool:
    return ":batch:" not in event or _version(request) >= (1, 71)


def _check_key(body: dict[str, Any], request: web.Request) -> None:
    told = {"publicKey", "keyVersion"} & set(body)
    check(len(told) == (2 if _version(request) >= (1, 75) else 0), "a public key since 1.75")


def _check_cards(body: dict[str, Any], request: web.Request) -> None:
    check(("simCards" in body) == (_version(request) >= (1, 65)), "simCards since 1.65")
    for card in body.get("simCards", []):
        check(set(card) <= SIM_KEYS and None not in card.values(), "nulls are left out")
        check(card["simNumber"] == card["slotIndex"] + 1, "simNumber")
        for key in {"phoneNumber", "carrierName", "iccid"} & set(card):
            check(re.fullmatch(r"\**.{0,4}", card[key]), f"{key} is redacted")


def _check_report(report: dict[str, Any], written: re.Pattern[str]) -> None:
    check(set(report) == {"id", "state", "recipients", "states"}, f"keys {set(report)}")
    check(report["state"] in REPORTABLE and report["recipients"], "state and recipients")
    for item in report["recipients"]:
        check(set(item) in ({"phoneNumber", "state"}, {"phoneNumber", "state", "error"}), "recipient")
        check("error" not in item or (item["state"] == "Failed" and item["error"]), "error only when set")
    check(report["state"] in report["states"], "the state is in the history")
    check(all(written.fullmatch(date) for date in report["states"].values()), f"dates {report['states']}")


async def _serve(port: int) -> None:
    async with ReferenceServer(single_reports=False, port=port) as server:
        print(server.url, flush=True)  # noqa: T201  (read by who started it)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(parser.parse_args().port))
