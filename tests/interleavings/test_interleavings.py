"""The pairs that meet most often, each statement of the first against the whole of the second; `make interleavings`
tries all."""

import pytest

from tests.interleavings.harness import interleave
from tests.interleavings.operations import NAMED, Pair, pairs
from tests.interleavings.trying import try_pair
from tests.interleavings.world import World, plain

CHOSEN = """
nothing: send with a key | send with a key
nothing: bulk with a key | bulk with a key
queued: route | route
queued: route | cancel
queued: cancel | route
queued: bulk | route
routed: pull | pull
routed: pull | cancel
routed: cancel | pull
routed: pull | switch off
routed: switch off | pull
routed: remove phone | pull
routed: remove phone | mark
routed: delete | pull
released: report sent | cancel
released: cancel | report sent
released: report failed | pull of the other
released: report failed | report failed
released: owner says failed | report sent
released: enroll again | pull
recalled: report cancelled | report sent
overdue: pull | expire
overdue: expire | pull
overdue: cancel | expire
unreported: expire | report sent
unreported: report sent | expire
uncertain: retry | report sent
uncertain: report delivered | retry
failed: retry | retry
failed: retry | delete
failed: mark | retry
queued: mark | route
routed: pull | mark
sent: fold | fold
sent: claim | claim
sent: claim | change URL
claimed: record refused | change URL
claimed: record taken | report delivered
lapsed: claim | record taken
lapsed: record taken | claim
given up: replay | replay all
given up: replay all | claim
posted: replay | replay
posted: replay | clean deliveries
posted: clean deliveries | replay
scheduled: release | reschedule
scheduled: reschedule | release
scheduled: release | cancel
routed: opt out | pull
routed: pull | opt out
campaign: look after campaigns | look after campaigns
campaign: look after campaigns | pause
campaign queued: pause | route
campaign routed: pause | pull
campaign routed: pull | pause
campaign routed: cancel campaign | pull
campaign paused: resume | pause
campaign paused and due: release | resume
campaign paused and due: resume | release
campaign paused at phones: report failed | resume
campaign paused at phones: resume | report failed
campaign paused after failures: retry | resume
campaign paused after failures: resume | retry
campaign failed: retry campaign | look after campaigns
campaign failed: look after campaigns | retry campaign
"""


def chosen():
    for line in CHOSEN.strip().splitlines():
        start, _, names = line.partition(": ")
        first, second = names.split(" | ")
        yield Pair(start, NAMED[first], NAMED[second])


@pytest.fixture(scope="module")
def world(emptied):
    return World()


@pytest.mark.parametrize("pair", list(chosen()), ids=str)
def test_nothing_is_lost_or_done_twice_wherever_the_second_comes_in(world, observer, pair):
    tried = list(try_pair(world, pair, observer))
    assert len(tried) > 1
    assert "\n".join(str(finding) for finding in tried if finding) == ""


def test_the_chosen_pairs_are_among_all():
    assert set(map(str, chosen())) <= set(map(str, pairs()))


def test_the_first_stands_still_with_its_locks_and_goes_on_where_the_second_waits_for_them(world, observer):
    """Or what is proven above would prove nothing."""
    world.begin("queued")
    seen = []

    def lock(session):
        rows = world.rows(session, "SELECT message_id FROM message_queue ORDER BY message_id FOR NO KEY UPDATE")
        seen.append(len(rows))

    # Of its three statements the second takes the locks: before it nobody waits, before its commit the other one does.
    for at, waits in ((2, False), (3, True)):
        tried = interleave(lambda: plain(lock), lambda: plain(lock), at, observer)
        assert tried.blocked == waits
    assert seen == [3, 3, 3, 3]
    assert interleave(lambda: plain(lock), lambda: plain(lock), 4, observer) is None
