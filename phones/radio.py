"""A simulated phone's memory of messages and its radio: what is sent when, and with what outcome."""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable
from random import Random

from phones.behaviour import Behaviour, sample
from phones.ledger import Ledger, OnAir
from phones.memory import Kept, Memory
from phones.wire import PhoneSettings, PulledMessage, RecipientReport, Report, State, WireError, parse_date

MAX_PRIORITY_WITH_PACE = 99
_AT_ONCE = 100


class Message:
    """One message as the phone knows it. `history` holds each state passed and its time since the epoch."""

    __slots__ = (
        "delivery_report",
        "error",
        "history",
        "id",
        "numbers",
        "priority",
        "sim_number",
        "text",
        "valid_until",
    )

    def __init__(self, pulled: PulledMessage, text: str, valid_until: float | None, now: float) -> None:
        self.id = pulled.id
        self.numbers = tuple(pulled.phone_numbers)
        self.text = text
        self.priority = pulled.priority
        self.sim_number = pulled.sim_number
        self.delivery_report = pulled.with_delivery_report
        self.valid_until = valid_until
        self.error: str | None = None
        self.history: tuple[tuple[State, float], ...] = ((State.PENDING, now),)

    @classmethod
    def cancelled(cls, pulled: PulledMessage, now: float) -> "Message":
        """Stand for a message that the phone never had and shall not send."""
        message = cls(pulled, "", None, now)
        message.history = ((State.CANCELLED, now),)
        return message

    @property
    def state(self) -> State:
        """The state it is in."""
        return self.history[-1][0]

    def report(self, steps: int, date: Callable[[float], str]) -> Report:
        """Tell the first `steps` steps of its life, as a report made then would have."""
        past = self.history[:steps]
        state = past[-1][0]
        error = self.error if state is State.FAILED else None
        return Report(
            self.id,
            state,
            [RecipientReport(number, state, error) for number in self.numbers],
            {step: date(at) for step, at in past},
        )


class Radio:
    """Sends waiting messages one at a time, by priority and age, at the pace of the settings.

    `changed(message)` is called after each new state. Messages are known for ever by their id, and none is sent twice.
    """

    def __init__(  # what a phone consists of, joined here
        self,
        phone: str,
        settings: PhoneSettings,
        behaviour: Callable[[], Behaviour],
        ledger: Ledger,
        memory: Memory,
        random: Random,
        changed: Callable[[Message], None],
    ) -> None:
        self._phone = phone
        self._settings = settings
        self._behaviour = behaviour
        self._ledger = ledger
        self._memory = memory
        self._random = random
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, Message] = {}
        self._queue: list[tuple[int, float, int, Message]] = []
        self._sequence = 0
        self._sending: Message | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._next_slot = 0.0
        self._sent_at: deque[float] = deque()
        self._off = False

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being sent."""
        return self._sending is None and not self._queue

    def know(self, message_id: str) -> Message | None:
        """Find a message by its id."""
        return self._known.get(message_id)

    def accept(self, pulled: PulledMessage, text: str, version: tuple[int, ...]) -> None:
        """Take a new message; it is sent when its turn, its time and the pace allow.

        Raises WireError where the app could not store it: an unreadable date, no number, or one number twice.
        """
        if not 0 < len(set(pulled.phone_numbers)) == len(pulled.phone_numbers):
            raise WireError("numbers are missing or repeated")
        now = self.wall()
        created_at = parse_date(pulled.created_at) if pulled.created_at else now
        valid_until = parse_date(pulled.valid_until) if pulled.valid_until else None
        not_before = parse_date(pulled.schedule_at) if pulled.schedule_at and version >= (1, 61) else 0.0
        message = Message(pulled, text, valid_until, now)
        self._memory.accept(self._phone, pulled, message.history)
        self._keep(message, created_at, not_before)

    def recall(self, kept: Kept, text: str, version: tuple[int, ...]) -> Message:
        """Go on with a message of an earlier process.

        One that had been begun stays so, because nobody can know whether it went on air.
        """
        pulled, now = kept.pulled, self.wall()
        message = Message(pulled, text, parse_date(pulled.valid_until) if pulled.valid_until else None, now)
        message.history, message.error = kept.history, kept.error
        if message.state is State.PENDING:
            not_before = parse_date(pulled.schedule_at) if pulled.schedule_at and version >= (1, 61) else 0.0
            self._keep(message, parse_date(pulled.created_at) if pulled.created_at else now, not_before)
            return message
        self._known[message.id] = message
        if message.state is State.SENT and message.delivery_report:
            self._await_delivery(message)
        return message

    def _keep(self, message: Message, created_at: float, not_before: float) -> None:
        self._known[message.id] = message
        now = self.wall()
        if not_before > now:
            self._loop.call_later(not_before - now, self._enqueue, message, created_at)
        else:
            self._enqueue(message, created_at)

    def cancel(self, message: Message) -> bool:
        """Cancel a message that was not begun. False: it is too late."""
        if message.state is not State.PENDING:
            return False
        self._pass(message, State.CANCELLED)
        return True

    def reorder(self) -> None:
        """Sort the queue anew after the processing order changed."""
        self._queue = [(priority, -age, -number, message) for priority, age, number, message in self._queue]
        heapq.heapify(self._queue)

    def switch_off(self) -> None:
        """Send and report nothing from now on."""
        self._off = True
        self._queue.clear()
        self._cancel_timer()

    def wall(self) -> float:
        """The phone's own clock, in seconds since the epoch."""
        return time.time() + self._behaviour().clock_skew

    def _enqueue(self, message: Message, created_at: float) -> None:
        if self._off:
            return
        direction = 1 if self._settings.processing_order == "FIFO" else -1
        self._sequence += 1
        heapq.heappush(self._queue, (-message.priority, direction * created_at, direction * self._sequence, message))
        self.turn()

    def turn(self) -> None:
        """Begin with the next message now, or set the timer for when its slot comes. Call it when the pace changed."""
        if self._sending is not None or not self._queue:
            return
        due = self._loop.time() + self._pause()
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_at(due, self._send_next)

    def _pause(self) -> float:
        """Seconds until the message in turn may be sent."""
        if -self._queue[0][0] > MAX_PRIORITY_WITH_PACE or not self._behaviour().keeps_pace:
            return 0.0
        now = self._loop.time()
        closed = self._settings.until_work_hours((self.wall() + 60 * self._behaviour().utc_offset_minutes) % 86400)
        return max(0.0, closed, max(self._next_slot, self._limit_ends()) - now)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _limit_ends(self) -> float:
        """When the period's limit leaves room again."""
        settings = self._settings
        if not settings.limit_period or not settings.limit_value:
            return 0.0
        while len(self._sent_at) > settings.limit_value:
            self._sent_at.popleft()
        return self._sent_at[0] + settings.limit_period if len(self._sent_at) == settings.limit_value else 0.0

    def _send_next(self) -> None:
        """Begin with the message in turn. Where sending takes no time and there is no pace, do many in one go."""
        self._timer = None
        for _ in range(_AT_ONCE):
            if not self._queue or self._pause() > 0:
                break
            message = heapq.heappop(self._queue)[3]
            if message.state is not State.PENDING:
                continue
            refusal = self._refusal(message)
            if refusal is not None:
                self._fail(message, refusal)
                continue
            self._pass(message, State.PROCESSED)
            duration = sample(self._behaviour().send_time, self._random)
            if duration > 0:
                self._sending = message
                self._loop.call_later(duration, self._finish, message)
                return
            self._complete(message)
        self.turn()

    def _refusal(self, message: Message) -> str | None:
        if message.valid_until is not None and message.valid_until < self.wall():
            return "TTL expired"
        if message.sim_number is not None and message.sim_number > self._behaviour().sims:
            return f"Can't send message: SIM {message.sim_number} not found"
        return None

    def _finish(self, message: Message) -> None:
        self._sending = None
        if not self._off:
            self._complete(message)
            self.turn()

    def _complete(self, message: Message) -> None:
        behaviour = self._behaviour()
        now = self._loop.time()
        settings = self._settings
        if settings.send_interval_min or settings.send_interval_max:
            self._next_slot = now + self._random.uniform(
                settings.send_interval_min, max(settings.send_interval_min, settings.send_interval_max)
            )
        if settings.limit_value:
            self._sent_at.append(now)
        if behaviour.failure_rate and self._random.random() < behaviour.failure_rate:
            self._fail(message, "Send result: RESULT_ERROR_GENERIC_FAILURE (Failed because of the network)")
            return
        self._memory.step(self._phone, message.id, message.history, None)
        monotonic, wall = time.monotonic(), time.time()
        for number in message.numbers:
            self._ledger.append(OnAir(self._phone, message.id, number, message.text, monotonic, wall))
        message.text = ""
        self._pass(message, State.SENT)
        if message.delivery_report:
            self._await_delivery(message)

    def _await_delivery(self, message: Message) -> None:
        delay = sample(self._behaviour().delivery_delay, self._random)
        self._loop.call_later(delay, self._deliver, message)

    def _deliver(self, message: Message) -> None:
        if not self._off:
            self._pass(message, State.DELIVERED)

    def _fail(self, message: Message, error: str) -> None:
        message.error = error
        self._pass(message, State.FAILED)

    def _pass(self, message: Message, state: State) -> None:
        message.history = (*message.history, (state, self.wall()))
        if state is not State.PROCESSED:  # which is kept at the moment when it goes on air
            self._memory.step(self._phone, message.id, message.history, message.error)
        self._changed(message)
