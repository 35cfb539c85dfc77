"""How a simulated phone reports: alone or in arrays, late, twice and out of order where it is told to."""

from collections.abc import Callable

from phones.behaviour import Behaviour, sample
from phones.client import GatewayClient, PhoneError
from phones.household import Work
from phones.outbox import Outbox
from phones.radio import Message
from phones.wire import DateFormat

_ATTEMPTS = 10
_ARRAY = 1000


class Reporter:
    """The reports of one phone. A report tells the state a message had when it was made, however late it leaves."""

    def __init__(
        self, phone: str, client: GatewayClient, work: Work, behaviour: Callable[[], Behaviour], date: DateFormat
    ) -> None:
        first = behaviour()
        in_arrays = first.reports == "array"
        self._phone = phone
        self._client = client
        self._work = work
        self._behaviour = behaviour
        self._date = date
        self._held_back = 0
        self._outbox = Outbox[tuple[Message, int]](
            self._post,
            spawn=work.spawn,
            pause=work.backoff,
            gave_up=self._gave_up,
            workers=1 if in_arrays else first.parallel_reports,
            batch=_ARRAY if in_arrays else 1,
            attempts=_ATTEMPTS,
            gather=first.report_gather if in_arrays else 0.0,
        )

    def __len__(self) -> int:
        return len(self._outbox) + self._held_back

    def close(self) -> None:
        """Report nothing more."""
        self._outbox.close()

    def report(self, message: Message) -> None:
        """Report a message as it is now."""
        behaviour, item = self._behaviour(), (message, len(message.history))
        if self._work.chance(behaviour.reorder):
            self._report_later(item)
        else:
            self._outbox.put(item)
        if self._work.chance(behaviour.duplicates):
            self._report_later(item)

    def _report_later(self, item: tuple[Message, int]) -> None:
        def put() -> None:
            self._held_back -= 1
            self._outbox.put(item)

        self._held_back += 1
        self._work.after(sample(self._behaviour().disorder, self._work.random), put)

    async def _post(self, items: list[tuple[Message, int]]) -> None:
        """Post reports. Of several about one message in an array the furthest speaks for all."""
        furthest: dict[str, tuple[Message, int]] = {}
        for message, steps in items:
            if message.id not in furthest or furthest[message.id][1] < steps:
                furthest[message.id] = (message, steps)
        stats = self._work.home.stats
        stats.report_calls += 1
        stats.report_items += len(furthest)
        try:
            await self._client.report([message.report(steps, self._date) for message, steps in furthest.values()])
        except PhoneError as error:
            self._work.note(error)
            raise
        for message, steps in furthest.values():
            self._work.home.memory.mark_reported(self._phone, message.id, steps)

    def _gave_up(self, items: list[tuple[Message, int]]) -> None:
        self._work.home.stats.gave_up += len(items)
