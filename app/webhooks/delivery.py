"""Delivering, as one process does it: a task feeds the sender's loop, a recorder writes down what the calls came to.

A call holds a slot of the process from its claim to its record, so what is not recorded yet is never more than the
slots, and a database that is away stops the claiming too.
"""

import heapq
import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core import trace_notes, tracing
from app.core.database import transaction
from app.core.errors import Overloaded, as_app_error
from app.core.gc_tuning import share_the_interpreter
from app.core.once import once
from app.core.outbound import get_redis, nudge
from app.core.task_names import TaskName
from app.webhooks.claims import BATCH_SIZE, Call, Claimed, Rounds, claim, overdue
from app.webhooks.client import Lookup, system_lookup
from app.webhooks.records import record
from app.webhooks.sender import Result, Sender

SLOTS = 1000
# Of these, for users who have nothing under way anywhere: a few users' hanging receivers can take all others.
KEPT_FOR_NEWCOMERS = 128
AT_ONCE = timedelta(0)
MAX_RUN_SECONDS = 1.0
IDLE_SECONDS = 0.1
POLL_INTERVAL = 0.02
# A busy process records this often; a lone result is recorded at once.
RECORD_EVERY_SECONDS = 0.02
# Of what waits for a later moment this process nudges only what is near; the sweep finds the rest.
REMEMBERED_SECONDS = 60.0
_PAUSE_AFTER_FAILURE = 0.5

log = structlog.get_logger(__name__)


class Deliverer:
    """The process's sender, recorder and slots."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._sender = Sender(self._results.put, lookup)
        self._feeding, self._next = threading.Lock(), threading.Lock()
        self._changed = threading.Condition()
        self._rounds = Rounds()
        self._in_flight = 0
        # Bytes of large bodies by user, from their claim to their record.
        self._large = Counter[int]()
        self._recorded = 0
        self._recorded_at = 0.0
        self._stopping = False
        self._due: list[float] = []
        self._recorder = threading.Thread(target=self._record, name="webhook-recorder", daemon=True)
        self._recorder.start()

    def feed(self) -> int:
        """Claim and start what is due; stay for up to a second while there is more, then nudge. Answers how many.

        One at a time in a process: a second caller waits, which keeps nudges coalesced while the first stays. What a
        third one came for, the second will claim.
        """
        if not self._next.acquire(blocking=False):
            return 0
        try:
            self._feeding.acquire()
        finally:
            self._next.release()
        try:
            started, seen, more = self._feed()
        finally:
            self._feeding.release()
        # The recorder looks at the lock after counting, this looks at the count after unlocking: one of them nudges.
        if (more or self._recorded != seen) and not self._stopping:
            self._nudge()
        return started

    def _feed(self) -> tuple[int, int, bool]:
        started, seen, more = 0, self._recorded, False
        now = time.monotonic()
        leave, idle = now + MAX_RUN_SECONDS, now + IDLE_SECONDS
        while not self._stopping and time.monotonic() < min(leave, idle):
            looked = time.monotonic()
            seen = self._recorded
            claimed = self._claim()
            more = claimed.more or claimed.unseen
            if claimed.calls:
                started += len(claimed.calls)
                self._sender.start(claimed.calls)
            now = time.monotonic()
            if more or (claimed.held and self._in_flight):
                idle = now + IDLE_SECONDS
            # Calls that were claimed took all the room there was: the next look is worth it when some of them are back.
            if not claimed.more or 0 < len(claimed.calls) < BATCH_SIZE:
                # A claim over very many targets takes its time: never look for more than a quarter of it.
                self._wait_for_change(seen, max(POLL_INTERVAL, 3 * (now - looked)))
        return started, seen, more

    @property
    def stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Claim nothing more. Safe in a signal handler: it takes no lock."""
        self._stopping = True

    def drain(self, seconds: float) -> bool:
        """Claim nothing more and wait until every call under way is recorded. False where `seconds` were not enough."""
        self.stop()
        with self._changed:
            return self._changed.wait_for(lambda: self._in_flight == 0, seconds)

    def close(self) -> None:
        """End the threads. Calls still under way are due again when their leases end."""
        self._stopping = True
        self._sender.close()
        self._results.put(None)
        self._recorder.join(_PAUSE_AFTER_FAILURE * 4)

    def _claim(self) -> Claimed:
        free = SLOTS - self._in_flight
        if free <= 0:
            return Claimed([], more=False, held=True)
        with self._changed:
            large = dict(self._large)
        try:
            with transaction(hot=True) as session:
                newcomers = min(free, KEPT_FOR_NEWCOMERS)
                claimed = claim(session, free - KEPT_FOR_NEWCOMERS, newcomers, self._rounds, large)
        except SQLAlchemyError as error:
            if not isinstance(as_app_error(error), Overloaded):
                raise
            log.warning("claiming webhooks failed, retrying", error=error)
            return Claimed([], more=False, held=True)
        if tracing.is_on():
            claimed = replace(claimed, calls=_traced(claimed.calls))
        with self._changed:
            self._in_flight += len(claimed.calls)
            self._hold(claimed.calls, 1)
        return claimed

    def _hold(self, calls: Sequence[Call], sign: int) -> None:
        for call in calls:
            if call.weight:
                self._large[call.user_id] += sign * call.weight
                if not self._large[call.user_id]:
                    del self._large[call.user_id]

    def _wait_for_change(self, seen: int, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._recorded != seen or self._stopping, seconds)

    def _record(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._take()
            self._write_surely(batch)
            self._recorded_at = time.monotonic()
            with self._changed:
                self._in_flight -= len(batch)
                self._hold([result.call for result in batch], -1)
                self._recorded += len(batch)
                self._changed.notify_all()
            if not self._feeding.locked() and not self._stopping:
                self._nudge(only_if_due=True)

    def _take(self) -> tuple[list[Result], bool]:
        """What came in since the last record, once something did; meanwhile nudges when a remembered moment comes."""
        while True:
            wait = self._due[0] - time.monotonic() if self._due else None
            if wait is not None and wait <= 0:
                heapq.heappop(self._due)
                self._nudge()
                continue
            try:
                first = self._results.get(timeout=wait)
                break
            except queue.Empty:
                continue
        if first is None:
            return [], True
        batch = [first]
        together_until = self._recorded_at + RECORD_EVERY_SECONDS
        while len(batch) < BATCH_SIZE:
            # Nothing to wait for where every call under way is back.
            wait = together_until - time.monotonic() if len(batch) < self._in_flight else 0
            try:
                item = self._results.get(timeout=max(wait, 0))
            except queue.Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _write_surely(self, batch: Sequence[Result]) -> None:
        while not self._write(batch):
            time.sleep(_PAUSE_AFTER_FAILURE)

    def _write(self, batch: Sequence[Result]) -> bool:
        """Record a batch; False where the database is away or busy and it has to be tried again."""
        if not batch:
            return True
        try:
            with transaction(hot=True) as session:
                waits = record(session, batch)
        except SQLAlchemyError as error:
            if isinstance(as_app_error(error), Overloaded):
                log.warning("recording webhook results failed, retrying", results=len(batch), error=error)
                return False
            if len(batch) > 1:
                log.warning("recording webhook results one by one", results=len(batch), error=error)
                for result in batch:
                    self._write_surely([result])
                return True
            log.exception("webhook result cannot be recorded", delivery=batch[0].call.delivery_id)
            return True
        now = time.monotonic()
        for wait in set(waits):
            if wait <= REMEMBERED_SECONDS:
                heapq.heappush(self._due, now + wait)
        return True

    def _nudge(self, *, only_if_due: bool = False) -> None:
        try:
            with transaction() as session:
                if not only_if_due or overdue(session, AT_ONCE):
                    nudge(session, TaskName.DELIVER)
        except SQLAlchemyError as error:
            log.warning("nudge failed, the sweep will repeat it", error=error)


def _traced(calls: Sequence[Call]) -> list[Call]:
    """Each with the trace of its message, or with that of this task where there is none."""
    here = tracing.current()
    known = trace_notes.known(get_redis(), {call.message_id for call in calls if call.message_id is not None})
    traces = [known.get(call.message_id or 0) for call in calls]
    return [
        call._replace(trace=here if trace is None or tracing.is_same(trace, here) else trace, claimed_by=here)
        for call, trace in zip(calls, traces, strict=True)
    ]


@once
def deliverer() -> Deliverer:
    """The process's deliverer, started by the first call."""
    share_the_interpreter()
    return Deliverer()


def stop() -> None:
    """Claim nothing more in this process."""
    if deliverer.made:
        deliverer.made.stop()


def drain(seconds: float) -> None:
    """Before the process ends: wait for calls under way and record them. Does nothing where none was ever started."""
    if deliverer.made and not deliverer.made.drain(seconds):
        log.warning("process ends during webhook calls, they will be retried")
