"""A real phone or modem as a phone of the gateway: the part that is the same for all of them.

An agent pulls messages into its journal, gives them to its modem one at a time at the pace of the settings, reports
what it knows, and hands inbound SMS to the gateway's webhook. Everything is done from the journal, so that it may be
killed at any moment: nothing is lost, and nothing is sent twice.
"""

import asyncio
import random
import re
import secrets
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

import msgspec

from phones.client import GatewayClient, PhoneError, RefusedError
from phones.http import HttpClient
from phones.journal import Job, Journal, Story
from phones.wire import (
    DateFormat,
    HookEvent,
    PhoneSettings,
    PulledMessage,
    RecipientReport,
    Report,
    SimCard,
    State,
    StreamEvent,
    Webhook,
    WireError,
    parse_version,
)

VERSION = "1.68.0"
"""The app version whose protocol agents speak, as they tell the gateway."""

_PULL_EVERY = 60.0
_RECONNECT_AFTER = 5.0
_FIRST_BACKOFF = 5.0
_MAX_BACKOFF = 300.0
_URGENT = 100


class SendError(Exception):
    """The modem refused; nothing, or not all of it, was sent."""


class OutcomeUnknownError(Exception):
    """The modem gave no clear answer; the SMS may have left."""


class ModemAwayError(OSError):
    """The modem is not there, and nothing was sent."""


class Modem(Protocol):
    """What sends and receives for an agent. `sims` is how many SIM cards it has."""

    sims: int

    async def send(self, job: Job, journal: Journal) -> State:
        """Send a message. Give SENT where the network has taken it, PROCESSED where that cannot be known.

        Raises SendError, OutcomeUnknownError, or ModemAwayError where the message is to wait.
        """
        ...

    async def poll(self, journal: Journal) -> None:
        """Write what has come in since the last time, SMS and delivery reports, to the journal. OSError: not now."""
        ...


def plain_number(number: str) -> str:
    """Leave of a number what can be dialled, as the app does."""
    return re.sub(r"[^\d+*#]", "", number)


class Agent:
    """One modem's life as a phone. `patience` scales its waits, `poll_every` is seconds between looks for new SMS."""

    def __init__(
        self,
        modem: Modem,
        journal: Journal,
        http: HttpClient,
        server_url: str,
        private_token: str,
        *,
        name: str,
        poll_every: float = 10.0,
        patience: float = 1.0,
    ) -> None:
        self._modem = modem
        self._journal = journal
        self._private_token = private_token
        self._name = name
        self._poll_every = poll_every
        self._patience = patience
        self._client = GatewayClient(http, server_url, VERSION)
        self._settings = PhoneSettings()
        self._hooks: list[Webhook] = []
        offset = datetime.now().astimezone().utcoffset()
        self._date = DateFormat(int(offset.total_seconds() // 60) if offset is not None else 0)
        self._sending = ""
        self._pull_now, self._send_now = asyncio.Event(), asyncio.Event()
        self._report_now, self._post_now = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Be a phone until cancelled."""
        await self._insist("register", self._introduce)
        async with asyncio.TaskGroup() as group:
            for part in (self._listen, self._pull, self._send, self._report_states, self._hand_on, self._look):
                group.create_task(part())

    async def _introduce(self) -> None:
        cards = [SimCard(slot_index=slot, sim_number=slot + 1) for slot in range(self._modem.sims)]
        device_id, token = self._journal.fact("device_id"), self._journal.fact("token")
        if device_id is not None and token is not None:
            self._client.token = token
            try:
                await self._client.announce(device_id, cards)
            except RefusedError as error:
                if error.status != HTTPStatus.UNAUTHORIZED:
                    raise
            else:
                return
        registered = await self._client.register(self._private_token, self._own_name(), cards)
        with self._journal.together():
            self._journal.remember("device_id", registered.id)
            self._journal.remember("token", registered.token)

    def _own_name(self) -> str:
        """Give a name that no other agent of the same kind has, so that a gateway cannot take one for the other."""
        name = self._journal.fact("name")
        if name is None:
            name = f"{self._name}-{secrets.token_hex(3)}"
            self._journal.remember("name", name)
        return name

    async def _listen(self) -> None:
        """Keep the event stream open. What it may have missed is fetched each time it opens."""
        while True:
            try:
                async with self._client.events() as events:
                    await self._fetch_settings()
                    await self._fetch_hooks()
                    self._pull_now.set()
                    async for event in events:
                        await self._on_event(event)
            except (PhoneError, WireError) as error:
                _say(f"events: {error}")
            await asyncio.sleep(_RECONNECT_AFTER * self._patience)

    async def _on_event(self, event: StreamEvent) -> None:
        if event.name == "MessageEnqueued":
            self._pull_now.set()
        elif event.name == "WebhooksUpdated":
            await self._fetch_hooks()
        elif event.name == "SettingsUpdated":
            await self._fetch_settings()
        elif event.name == "MessageCancelled":
            self._journal.cancel(msgspec.json.decode(event.data)["messageId"])
            self._report_now.set()

    async def _fetch_hooks(self) -> None:
        self._hooks = [hook for hook in await self._client.webhooks() if hook.event == "sms:received"]
        self._post_now.set()

    async def _fetch_settings(self) -> None:
        self._settings.apply(await self._client.settings(), parse_version(VERSION))
        self._send_now.set()
        self._post_now.set()

    async def _pull(self) -> None:
        while True:
            await _either(self._pull_now, _PULL_EVERY * self._patience)
            await self._insist("pull", self._pull_once)

    async def _pull_once(self) -> None:
        for pulled in await self._client.pull(self._settings.processing_order.lower()):
            self._take(pulled)
        self._send_now.set()
        self._report_now.set()

    def _take(self, pulled: PulledMessage) -> None:
        if pulled.state == State.CANCELLING:
            if not self._journal.cancel(pulled.id):
                self._journal.cancelled_unknown(pulled)
        elif pulled.state in {None, State.PENDING}:
            try:
                if not self._journal.accept(pulled, pulled.content(parse_version(VERSION))):
                    self._journal.report_again(pulled.id)
            except WireError as error:
                _say(f"message {pulled.id} cannot be sent: {error}")

    async def _send(self) -> None:
        next_slot = 0.0
        while True:
            job = self._journal.next_job(self._settings.processing_order)
            pause = next_slot - time.monotonic() if job is not None else _PULL_EVERY * self._patience
            if job is None or (pause > 0 and job.priority < _URGENT):
                await _either(self._send_now, pause)
                continue
            try:
                given = await self._send_one(job)
            except ModemAwayError as error:
                _say(f"messages wait for the modem: {error}")
                await asyncio.sleep(_RECONNECT_AFTER * self._patience)
                continue
            if given:
                low = self._settings.send_interval_min
                high = max(low, self._settings.send_interval_max)
                next_slot = time.monotonic() + random.uniform(low, high)  # noqa: S311  (a pause, not a secret)
            self._report_now.set()

    async def _send_one(self, job: Job) -> bool:
        """Send one message and note what became of it; False where it was not given to the modem.

        Raises ModemAwayError, and then it is as if it had not been tried.
        """
        if job.valid_until is not None and job.valid_until < time.time():
            self._journal.fail(job.id, "TTL expired")
            return False
        if job.sim_number is not None and job.sim_number > self._modem.sims:
            self._journal.fail(job.id, f"Can't send message: SIM {job.sim_number} not found")
            return False
        if not self._journal.begin(job.id):
            return False
        self._sending = job.id
        try:
            if await self._modem.send(job, self._journal) is State.SENT:
                self._journal.sent(job.id)
        except ModemAwayError:
            self._journal.put_back(job.id)
            raise
        except SendError as error:
            self._journal.fail(job.id, f"sendSMS: {error}")
        except OutcomeUnknownError as error:
            _say(f"message {job.id}: {error}; whether it left is not known, and it is not sent again")
        finally:
            self._sending = ""
        return True

    async def _report_states(self) -> None:
        """Report news of messages. One that is refused does not hold back the others."""
        tries = 0
        while True:
            await _either(self._report_now, _PULL_EVERY * self._patience)
            worked = True
            for story in self._journal.unreported():
                if story.id == self._sending:
                    continue
                worked &= await self._try("report", self._client.report([self._report(story)]))
                if worked:
                    self._journal.mark_reported(story)
            tries = 0 if worked else tries + 1
            await self._hold_back(tries, self._report_now)

    async def _hand_on(self) -> None:
        """Post inbound SMS to the webhook."""
        tries = 0
        while True:
            await _either(self._post_now, _PULL_EVERY * self._patience)
            worked = True
            for event_id, sms in self._journal.inbound() if self._hooks and self._settings.signing_key else ():
                device_id = self._journal.fact("device_id") or ""
                event = HookEvent(event_id, self._hooks[0].id, "sms:received", device_id, sms)
                worked &= await self._try("inbound SMS", self._post(event))
                if worked:
                    self._journal.taken(event_id)
            tries = 0 if worked else tries + 1
            await self._hold_back(tries, self._post_now)

    async def _try(self, what: str, call: Coroutine[Any, Any, None]) -> bool:
        try:
            await call
        except PhoneError as error:
            _say(f"{what}: {error}")
            return False
        return True

    async def _hold_back(self, tries: int, again: asyncio.Event) -> None:
        """After failures wait, longer each time, and have it tried again."""
        if tries:
            await asyncio.sleep(self._backoff(tries))
            again.set()

    def _backoff(self, tries: int) -> float:
        return self._patience * min(_FIRST_BACKOFF * 2.0 ** (tries - 1), _MAX_BACKOFF)

    async def _post(self, event: HookEvent) -> None:
        await self._client.post_hook(self._hooks[0].url, event, self._settings.signing_key)

    def _report(self, story: Story) -> Report:
        state = story.history[-1][0]
        error = story.error if state is State.FAILED else None
        recipients = [RecipientReport(number, state, error) for number in story.numbers]
        return Report(story.id, state, recipients, {step: self._date(at) for step, at in story.history})

    async def _look(self) -> None:
        while True:
            try:
                await self._modem.poll(self._journal)
            except OSError as error:
                _say(f"looking for new SMS: {error}")
            self._report_now.set()
            self._post_now.set()
            await asyncio.sleep(self._poll_every * self._patience)

    async def _insist(self, what: str, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        tries = 0
        while not await self._try(what, call()):
            tries += 1
            await asyncio.sleep(self._backoff(tries))


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, at most so long, and clear it."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    event.clear()


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)  # noqa: T201  (an agent's log)


async def run_agent(
    modem: Modem, state: Path, server: str, token: str, *, name: str, poll_every: float, patience: float
) -> None:
    """Run an agent with its journal in a file until it is cancelled."""
    journal, http = Journal(state), HttpClient()
    try:
        await Agent(modem, journal, http, server, token, name=name, poll_every=poll_every, patience=patience).run()
    finally:
        await http.close()
        journal.close()
