"""A simulated phone: behaves on the wire as the stock app does in private-server mode with "SSE only".

Its life: it registers or announces itself, opens the event stream, pulls messages when the stream opens, when an event
says so, at each ping and every 15 minutes, gives them to its radio, reports each new state, and posts inbound SMS to
the webhooks it was told of. What it knows, messages included, outlives its stream and `restart`; the process only where
there is a memory.
"""

import asyncio
import base64
import random
import secrets
from http import HTTPStatus
from typing import Any

import msgspec

from phones.behaviour import Behaviour, sample
from phones.client import GatewayClient, PhoneError, RefusedError
from phones.hooks import EventPoster
from phones.household import Household, Work
from phones.inbox import InboxCopy
from phones.radio import Message, Radio
from phones.reports import Reporter
from phones.wire import (
    INBOX_SINCE,
    DateFormat,
    PhoneSettings,
    PulledMessage,
    ReceivedSms,
    SimCard,
    State,
    StreamEvent,
    WireError,
    parse_version,
)

_RECONNECTS = ((5, 5.0), (10, 30.0), (float("inf"), 60.0))
_PERIODIC_PULL = 15 * 60.0
_PERIODIC_SYNC = 24 * 3600.0


class Phone:
    """One simulated phone.

    `behaviour` may be replaced at any time; app version and way of reporting stay as they were at first.
    `device_id` is empty until the phone is registered; `connected` is set while its event stream is open.
    """

    def __init__(self, home: Household, name: str, number: str, behaviour: Behaviour) -> None:
        self.name = name
        self.number = number
        self.behaviour = behaviour
        self.device_id = ""
        self.dead = False
        self.connected = asyncio.Event()
        self.settings = PhoneSettings(signing_key=secrets.token_urlsafe(6))
        self._home = home
        self._version = parse_version(behaviour.app_version)
        self._date = DateFormat(behaviour.utc_offset_minutes, old_android=behaviour.old_android)
        self._public_key = base64.b64encode(secrets.token_bytes(91)).decode() if self._version >= INBOX_SINCE else None
        self.work = Work(home, lambda: self.behaviour, random.Random(name))  # noqa: S311  (chooses when to misbehave)
        self.client = GatewayClient(
            home.http,
            home.server_url,
            behaviour.app_version,
            lambda: self.work.chance(self.behaviour.lost_answers),
        )
        self.radio = Radio(
            name, self.settings, lambda: self.behaviour, home.ledger, home.memory, self.work.random, self._changed
        )
        self.reporter = Reporter(name, self.client, self.work, lambda: self.behaviour, self._date)
        self.hooks = EventPoster(self.client, self.work, self.settings, self._version)
        self.inbox = InboxCopy(self.client, self.work, self._version)
        self._pull_again = False
        self._failed_pulls = 0
        self._recall()

    def _recall(self) -> None:
        """Be who it was in an earlier process."""
        enrolled = self._home.memory.phones.get(self.name)
        if enrolled is None:
            return
        self.device_id, self.client.token = enrolled.device_id, enrolled.token
        for kept in self._home.memory.recall(self.name):
            message = self.radio.recall(kept, kept.pulled.content(self._version), self._version)
            if kept.told < len(kept.history):
                self.reporter.report(message)

    def start(self) -> None:
        """What the app does when it is started. Webhooks and settings are fetched only by one already registered."""
        if self.device_id:
            self.sync_webhooks()
            self.sync_settings()
            self.wake()
            if self._version >= (1, 66):
                cards = [msgspec.to_builtins(card) for card in self._sim_cards()]
                self.hooks.emit("app:started", self.device_id, {"simCards": cards})
        self.inbox.push()
        self.work.job("life", self._live())
        self._ping_later()
        if self.behaviour.dies_after is not None:
            self.work.at("death", sample(self.behaviour.dies_after, self.work.random), self.die)

    def restart(self) -> None:
        """Stop and start the app: a new announcement, a new stream, fresh webhooks and settings."""
        self.work.pause()
        self.connected.clear()
        self.start()

    def die(self) -> None:
        """Fall silent for good, in the middle of whatever it was doing."""
        if not self.dead:
            self.dead = True
            self._home.stats.dead += 1
            self.stop()

    def stop(self) -> None:
        """End everything at once."""
        self.radio.switch_off()
        self.reporter.close()
        self.hooks.close()
        self.work.close()
        self.connected.clear()

    @property
    def idle(self) -> bool:
        """Nothing to send and nothing to report; a message may still be waiting for its delivery report."""
        return self.dead or (self.radio.idle and not self.reporter and not self.hooks and not self.inbox)

    def disconnect(self) -> None:
        """Drop the event stream. The app opens it again after a while."""
        self.work.cancel("stream")

    async def _live(self) -> None:
        await self.work.insist(self._introduce)
        if self.behaviour.uses_stream:
            await self._keep_stream()
        else:
            self.wake()

    async def _introduce(self) -> None:
        cards = [card.redacted() for card in self._sim_cards()] if self._version >= (1, 65) else None
        if self.device_id:
            try:
                await self.client.announce(self.device_id, cards, self._public_key)
            except RefusedError as error:
                if error.status != HTTPStatus.UNAUTHORIZED:
                    raise
            else:
                return
        registered = await self.client.register(self._home.private_token, self.name, cards, self._public_key)
        self.device_id = registered.id
        self._home.memory.enroll(self.name, registered.id, registered.token)
        self._home.stats.registrations += 1

    def _sim_cards(self) -> list[SimCard]:
        return [
            SimCard(
                slot_index=slot,
                sim_number=slot + 1,
                phone_number=self.number if slot == 0 else f"{self.number}{slot}",
                carrier_name="Simulated",
                iccid=f"8999{slot}{self.number.lstrip('+'):0>14}",
            )
            for slot in range(self.behaviour.sims)
        ]

    async def _keep_stream(self) -> None:
        attempt = 0
        while True:
            stream = self.work.job("stream", self._follow())
            await asyncio.wait([stream])
            attempt = 1 if self.connected.is_set() else attempt + 1
            self.connected.clear()
            await asyncio.sleep(self.work.scaled(next(pause for last, pause in _RECONNECTS if attempt <= last)))

    async def _follow(self) -> None:
        try:
            async with self.client.events() as events:
                self._home.stats.streams_opened += 1
                self.connected.set()
                self.wake()
                if self.behaviour.disconnect_every is not None:
                    self.work.at("drop", sample(self.behaviour.disconnect_every, self.work.random), self.disconnect)
                async for event in events:
                    self._on_event(event)
        except PhoneError as error:
            self.work.note(error)

    def _on_event(self, event: StreamEvent) -> None:
        if event.name == "MessageEnqueued":
            self.wake()
        elif event.name == "WebhooksUpdated":
            self.sync_webhooks()
        elif event.name == "SettingsUpdated":
            self.sync_settings()
        elif event.name == "MessageCancelled" and self._version >= (1, 67):
            message = self.radio.know(msgspec.json.decode(event.data)["messageId"])
            if message is not None:
                self.radio.cancel(message)

    def wake(self) -> None:
        """Pull soon. A pull in flight is given up for the new one, as in the app, or followed by one more."""
        if self.work.running("pull"):
            if self.behaviour.triggers == "join":
                self._pull_again = True
                return
            self.work.cancel("pull")
            self._home.stats.replaced_pulls += 1
        self._pull_in(sample(self.behaviour.pull_latency, self.work.random))

    def _pull_in(self, seconds: float) -> None:
        self.work.at("pull", seconds, lambda: self.work.job("pull", self._pull()))

    async def _pull(self) -> None:
        if not self.device_id:
            return
        self._home.stats.pulls += 1
        try:
            messages = await self.client.pull(self.settings.processing_order.lower())
        except PhoneError as error:
            self.work.note(error)
            self._failed_pulls += 1
            self._pull_in(self.work.backoff(self._failed_pulls))
        else:
            self._failed_pulls = 0
            for message in messages:
                self._take(message)
            self._pull_in(self.work.scaled(_PERIODIC_PULL))
        if self._pull_again:
            self._pull_again = False
            self._pull_in(sample(self.behaviour.pull_latency, self.work.random))

    def _take(self, pulled: PulledMessage) -> None:
        """Do with one message of a pull what the app does: cancel it, tell its state again, or send it."""
        known = self.radio.know(pulled.id)
        knows_cancelling = self._version >= (1, 67)
        if knows_cancelling and pulled.state == State.CANCELLING:
            if known is None:
                self.reporter.report(Message.cancelled(pulled, self.radio.wall()))
            else:
                self.radio.cancel(known)
        elif knows_cancelling and pulled.state in set(State) - {State.PENDING}:
            return
        elif known is not None:
            self._home.stats.known += 1
            self.reporter.report(known)
        else:
            self._accept(pulled)

    def _accept(self, pulled: PulledMessage) -> None:
        try:
            text = pulled.content(self._version)
            self.radio.accept(pulled, text, self._version)
        except WireError:
            self._home.stats.unusable += 1
        else:
            self._home.stats.messages += 1

    def _changed(self, message: Message) -> None:
        self._home.stats.count(message.state)
        self.reporter.report(message)

    def sync_webhooks(self) -> None:
        """Fetch the list of webhooks, until it works, and again in a day."""
        self.work.job("webhooks", self.work.insist(self.hooks.fetch))
        self.work.at("webhooks", self.work.scaled(_PERIODIC_SYNC), self.sync_webhooks)

    def sync_settings(self) -> None:
        """Fetch and apply the settings, until it works, and again in a day."""
        self.work.job("settings", self.work.insist(self._fetch_settings))
        self.work.at("settings", self.work.scaled(_PERIODIC_SYNC), self.sync_settings)

    async def _fetch_settings(self) -> None:
        order = self.settings.processing_order
        self.settings.apply(await self.client.settings(), self._version)
        if self.settings.processing_order != order:
            self.radio.reorder()
        self.radio.turn()

    def _ping_later(self) -> None:
        interval = self.behaviour.ping_every or self.settings.ping_interval
        if interval:
            self.work.at("ping", interval, self._ping)

    def _ping(self) -> None:
        self.wake()
        health: dict[str, Any] = {"version": self.behaviour.app_version, "releaseId": 1, "status": "pass"}
        health["checks"] = {"battery:level": {"observedValue": 80, "observedUnit": "%", "status": "pass"}}
        self.hooks.emit("system:ping", self.device_id, {"health": health})
        self._ping_later()

    async def receive(self, sender: str, text: str, sim: int = 1) -> str:
        """Receive an SMS and hand it on to the gateway; give the event's id once a webhook has taken it.

        Raises PhoneError where the phone knows no webhook for it, and CancelledError where it ends or gives up first.
        """
        sms = self._received(sender, text, sim)
        self.inbox.add(sms)
        return await self._emit("sms:received", sms)

    async def receive_batch(self, messages: list[tuple[str, str]], sim: int = 1) -> str:
        """Hand on several SMS, by sender and text, as one event, as apps from 1.71 on do when asked for their inbox."""
        received = [self._received(sender, text, sim) for sender, text in messages]
        return await self._emit("sms:batch:received", {"messages": received})

    def _received(self, sender: str, text: str, sim: int) -> ReceivedSms:
        return ReceivedSms(
            message=text,
            received_at=self._date(self.radio.wall()),
            message_id=f"{self.work.random.getrandbits(32):08x}",
            sender=sender,
            phone_number=sender,
            sim_number=sim,
            recipient=self._sim_cards()[sim - 1].phone_number,
        )

    async def _emit(self, event: str, payload: ReceivedSms | dict[str, Any]) -> str:
        emitted = self.hooks.emit(event, self.device_id, payload)
        if not emitted:
            raise PhoneError(f"{self.name} knows no webhook for {event}")
        for _, taken in emitted:
            await taken
        return emitted[0][0]
