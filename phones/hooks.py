"""What a simulated phone posts to webhooks: inbound SMS, its start, its pings."""

import asyncio
import secrets
from typing import Any, NamedTuple

from phones.client import GatewayClient, PhoneError
from phones.household import Work
from phones.outbox import Outbox
from phones.wire import HOOK_EVENTS_SINCE, HookEvent, PhoneSettings, ReceivedSms, Webhook, WireError

_ATTEMPTS = 16
_FIRST_BACKOFF = 5.0
_NEVER = (10**6,)


class _Post(NamedTuple):
    url: str
    event: HookEvent
    taken: "asyncio.Future[None]"


class EventPoster:
    """The webhooks one phone was told of, and its queue of events for them, one call at a time."""

    def __init__(self, client: GatewayClient, work: Work, settings: PhoneSettings, version: tuple[int, ...]) -> None:
        self.known: list[Webhook] = []
        self._client = client
        self._work = work
        self._settings = settings
        self._version = version
        self._outbox = Outbox[_Post](
            self._post,
            spawn=work.spawn,
            pause=lambda tries: work.scaled(_FIRST_BACKOFF * 2 ** (tries - 1)),
            gave_up=self._dropped,
            workers=1,
            batch=1,
            attempts=_ATTEMPTS,
        )

    def __len__(self) -> int:
        return len(self._outbox)

    def close(self) -> None:
        """Post nothing more."""
        self._outbox.close()

    async def fetch(self) -> None:
        """Replace the list by the gateway's. An event that this version does not know fails the whole list."""
        hooks = await self._client.webhooks()
        for hook in hooks:
            if HOOK_EVENTS_SINCE.get(hook.event, _NEVER) > self._version:
                raise WireError(f"this version of the app does not know the event {hook.event}")
        self.known = hooks

    def emit(
        self, event: str, device_id: str, payload: ReceivedSms | dict[str, Any]
    ) -> list[tuple[str, "asyncio.Future[None]"]]:
        """Queue an event for each webhook that wants it; give the events' ids and what ends when they were taken."""
        emitted = []
        for hook in self.known:
            if hook.event == event:
                body = HookEvent(secrets.token_urlsafe(15), hook.id, event, device_id, payload)
                taken = asyncio.get_running_loop().create_future()
                self._outbox.put(_Post(hook.url, body, taken))
                emitted.append((body.id, taken))
        return emitted

    async def _post(self, posts: list[_Post]) -> None:
        for post in posts:
            try:
                await self._client.post_hook(post.url, post.event, self._settings.signing_key)
            except PhoneError as error:
                self._work.note(error)
                raise
            self._work.home.stats.hooks_taken += 1
            if not post.taken.done():
                post.taken.set_result(None)

    def _dropped(self, posts: list[_Post]) -> None:
        for post in posts:
            self._work.home.stats.hooks_dropped += 1
            post.taken.cancel()
