"""Tries pairs at every boundary and says what was wrong."""

from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from tests.interleavings.harness import interleave
from tests.interleavings.operations import Pair
from tests.interleavings.world import DEADLOCK, World


class Finding(NamedTuple):
    """What did not hold, and where the first of the pair stood meanwhile."""

    pair: Pair
    at: int
    statement: str
    wrong: list[str]

    def __str__(self) -> str:
        return f"{self.pair}\n  before statement {self.at}: {self.statement[:200]}\n  " + "\n  ".join(self.wrong)


def try_pair(world: World, pair: Pair, observer: psycopg.Connection) -> Iterator[Finding | None]:
    """A finding, or None, for each statement of the first."""
    at = 0
    while True:
        at += 1
        world.begin(pair.start)
        tried = interleave(lambda: pair.first.run(world), lambda: pair.second.run(world), at, observer)
        if tried is None:
            return
        wrong = [f"{runner.error!r}" for runner in (tried.first, tried.second) if runner.error]
        if not wrong:
            wrong = world.judge()
        if not wrong:
            wrong = world.finish()
        if DEADLOCK in tried.errors:
            wrong.append("the database ended one of the two for a deadlock")
        yield Finding(pair, at, tried.statement, wrong) if wrong else None
