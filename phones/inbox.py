"""The copy of its inbox that a newer app pushes to the gateway, beside the webhooks."""

import base64
import secrets

from phones.client import GatewayClient, PhoneError
from phones.household import Work
from phones.wire import INBOX_SINCE, InboxItem, ReceivedSms

_BATCH = 100


class InboxCopy:
    """What waits to be pushed, in batches. A refused one is halved, down to single messages, which are dropped."""

    def __init__(self, client: GatewayClient, work: Work, version: tuple[int, ...]) -> None:
        self._client = client
        self._work = work
        self._knows_how = version >= INBOX_SINCE
        self._waiting: list[InboxItem] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, sms: ReceivedSms) -> None:
        """Push a received SMS too, if the app is one that does."""
        if self._knows_how:
            self._waiting.append(
                InboxItem(
                    id=sms.message_id,
                    type="SMS",
                    sender=_encrypted(sms.sender),
                    content=_encrypted(sms.message),
                    created_at=sms.received_at,
                    is_encrypted=True,
                    sim_number=sms.sim_number,
                    recipient=None if sms.recipient is None else _encrypted(sms.recipient),
                )
            )
            self.push()

    def push(self) -> None:
        """Begin with what waits, unless that is under way."""
        if self._waiting and not self._work.running("inbox"):
            self._work.job("inbox", self._push_all())

    async def _push_all(self) -> None:
        while batch := self._waiting[:_BATCH]:
            await self._push(batch)
            del self._waiting[: len(batch)]

    async def _push(self, batch: list[InboxItem]) -> None:
        stats = self._work.home.stats
        try:
            await self._client.push_inbox(batch)
            stats.inbox_taken += len(batch)
        except PhoneError as error:
            self._work.note(error)
            if len(batch) == 1:
                stats.inbox_dropped += 1
                return
            await self._push(batch[: len(batch) // 2])
            await self._push(batch[len(batch) // 2 :])


def _encrypted(text: str) -> str:
    """What no gateway can read: of the app's form, and as long as the real thing."""
    data = secrets.token_bytes(len(text.encode()) // 16 * 16 + 16)
    salt = secrets.token_bytes(16)
    return f"$aes-256-cbc/pbkdf2-sha1$i=300000${base64.b64encode(salt).decode()}${base64.b64encode(data).decode()}"
