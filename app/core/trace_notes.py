"""What a transaction leaves behind for traces, where there are any: kept on its session, used after its commit.

The trace that a message was sent in stands in Valkey for an hour, where nobody waits for it and nothing has to be
deleted. A trace that is lost with it is a trace that ends early, no more.
"""

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis
import structlog
from sqlalchemy.orm import Session

from app.core import tracing
from app.core.task_names import TaskName

TTL_MS = 3600 * 1000
MAX_WAITING = 10_000

log = structlog.get_logger(__name__)

Nudge = tuple[TaskName, int | None]


class Cause(NamedTuple):
    """The `traceparent` of what gave a nudge, and the message in whose trace it rather belongs, if any."""

    here: str | None
    message: int | None


class Moment(NamedTuple):
    """Something that happened to a message, and the `traceparent` of who did it."""

    what: str
    message: int
    here: str | None


@dataclass(slots=True)
class Notes:
    """Causes of nudges, traces of new messages, and what happened to others."""

    causes: dict[Nudge, Cause] = field(default_factory=dict)
    messages: dict[int, str] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)

    @property
    def waiting(self) -> bool:
        """Whether there is something that no nudge takes along."""
        return bool(self.messages or self.moments)

    def add(self, other: "Notes") -> None:
        self.causes = other.causes | self.causes
        if len(self.messages) + len(self.moments) < MAX_WAITING:
            self.messages |= other.messages
            self.moments += other.moments

    def take(self, nudges: AbstractSet[Nudge]) -> "Notes":
        """Without the causes of other nudges, which stay."""
        taken = Notes({nudge: self.causes.pop(nudge) for nudge in nudges & self.causes.keys()})
        taken.messages, self.messages = self.messages, {}
        taken.moments, self.moments = self.moments, []
        return taken

    def write(self, pipeline: Any) -> None:
        """Remember the traces of new messages."""
        for message, trace in self.messages.items():
            pipeline.set(_key(message), trace, px=TTL_MS)

    def use(self, client: redis.Redis) -> dict[Nudge, str]:
        """Tell what happened to messages; the `traceparent` that each nudge takes along."""
        asked = {cause.message for cause in self.causes.values()} | {moment.message for moment in self.moments}
        traces = known(client, {message for message in asked if message is not None})
        for what, message, here in self.moments:
            if trace := traces.get(message):
                tracing.moment(what, "internal", trace, here, {"smsfleet.message": message})
        given = {}
        for nudge, cause in self.causes.items():
            trace = None if cause.message is None else traces.get(cause.message)
            if parent := trace or cause.here:
                given[nudge] = tracing.moment(f"nudge {nudge[0]}", "producer", parent, cause.here if trace else None)
        return given


def notes_of(session: Session) -> Notes:
    notes: Notes = session.info.setdefault("traces", Notes())
    return notes


def remember(session: Session, message: int, trace: str) -> None:
    """What happens to this message from now on belongs to this trace, if that is one that is kept."""
    if tracing.is_sampled(trace):
        notes_of(session).messages[message] = trace


def tell(session: Session, what: Iterable[tuple[str, int]]) -> None:
    """Note in the traces of messages what happened to them."""
    if tracing.is_on():
        here = tracing.current()
        notes_of(session).moments.extend(Moment(name, message, here) for name, message in what)


def known(client: redis.Redis, messages: Collection[int]) -> dict[int, str]:
    """The traces that these messages were sent in, as far as they are remembered."""
    if not messages:
        return {}
    try:
        found: Any = client.mget(map(_key, messages))
    except redis.RedisError as error:
        log.warning("traces of messages are not known", error=error)
        return {}
    return {message: trace.decode() for message, trace in zip(messages, found, strict=True) if trace}


def _key(message: int) -> str:
    return f"trace:{message}"
