"""Room, back-off, schedule and the receiver's wishes, as plain functions."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.webhooks.claims import BREAKER_FAILURES, HOST_ROOM, USER_ROOM, Call, Candidate, Rounds, allot
from app.webhooks.guard import host_of
from app.webhooks.records import MAX_PAUSE, SCHEDULE, Standing, wait_before
from app.webhooks.sender import Result, seconds_of

targets = st.tuples(st.integers(1, 6), st.sampled_from([f"http://{h}:{p}" for h in "abc" for p in (80, 81)]))


def result(code: int | None, *, retry_after: int | None = None, timed_out: bool = False) -> Result:
    call = Call(1, uuid4(), uuid4(), 1, "callback", "http://a/", "http://a:80", "{}", 0, ())
    return Result(call, code, "", None, 1, retry_after, timed_out)


@given(
    st.lists(
        st.builds(
            Candidate,
            st.integers(1, 6),
            st.sampled_from(["http://a:80", "http://a:81", "http://b:80"]),
            st.integers(0, 6),
            st.integers(1, 32),
        ),
        unique_by=lambda c: c.key,
    ),
    st.dictionaries(targets, st.integers(1, 40)),
    st.integers(0, 500),
)
def test_no_limit_is_passed_and_nobody_is_left_out(candidates, in_flight, slots) -> None:
    rooms = allot(candidates, in_flight, slots)
    assert sum(rooms.values()) <= slots
    host, user = Counter(), Counter()
    for (who, origin), n in [*in_flight.items(), *rooms.items()]:
        host[host_of(origin)] += n
        user[who] += n
    newcomers = Counter()
    for candidate in candidates:
        given_now = rooms.get(candidate.key, 0)
        most = 1 if candidate.fail_count >= BREAKER_FAILURES else candidate.max_in_flight
        if given_now:
            assert in_flight.get(candidate.key, 0) + given_now <= most
            assert user[candidate.user_id] <= USER_ROOM
        before = sum(
            n
            for (who, origin), n in in_flight.items()
            if who == candidate.user_id and host_of(origin) == host_of(candidate.origin)
        )
        if not before:
            newcomers[host_of(candidate.origin)] += 1
    for name, n in host.items():
        already = sum(count for (_, origin), count in in_flight.items() if host_of(origin) == name)
        assert n <= max(HOST_ROOM, already) + newcomers[name]
    if slots >= 500:
        for candidate in candidates:
            mine = sum(n for (who, _), n in in_flight.items() if who == candidate.user_id)
            if mine == 0:
                assert any(rooms.get(c.key) for c in candidates if c.user_id == candidate.user_id)


def test_rooms_are_given_in_turn() -> None:
    candidates = [Candidate(user, f"http://{user}.example:80", 0, 32) for user in range(1, 11)]
    assert set(allot(candidates, {}, 20).values()) == {2}
    assert list(allot(candidates, {}, 3)) == [c.key for c in candidates[:3]]


def test_slots_kept_for_newcomers_go_to_those_who_have_nothing_in_flight_one_each() -> None:
    candidates = [Candidate(user, f"http://{user}.example:80", 0, 32) for user in range(1, 6)]
    busy = {(1, "http://elsewhere:80"): 3, (2, "http://2.example:80"): 1}
    assert allot(candidates, busy, 0, 10) == {c.key: 1 for c in candidates[2:]}
    assert allot(candidates, busy, -5, 2) == {c.key: 1 for c in candidates[2:4]}
    assert sum(allot(candidates, busy, 7, 10).values()) == 7


def test_a_round_ends_when_all_targets_of_every_user_were_looked_at() -> None:
    """Users with many targets, whose rounds are out of step, must not keep each other's going for ever."""
    sizes, rounds = {1: 7, 2: 4, 3: 1}, Rounds()
    for _ in range(3):
        seen = {user: set() for user in sizes}
        for _claim in range(100):
            ended = {}
            for user, size in sizes.items():
                start = int(rounds.places.get(user, 0))
                looked = range(start + 1, min(start + 2, size) + 1)
                seen[user].update(looked)
                if len(looked) == 2:
                    ended[user] = str(looked[-1])
            if not rounds.turn(ended, ()):
                break
        else:
            raise AssertionError("the round never ended")
        assert {user: len(origins) for user, origins in seen.items()} == sizes


def test_a_user_without_room_is_passed_over_and_keeps_the_place() -> None:
    rounds = Rounds()
    assert rounds.turn({1: "m"}, ())
    assert not rounds.turn({}, [1])
    assert rounds.places == {1: "m"}
    assert not rounds.turn({}, ())
    assert rounds.places == {}


def test_room_doubles_with_success_and_shrinks_to_one_after_a_time_out() -> None:
    standing, rooms = Standing(), []
    for _ in range(7):
        standing = standing.after(result(200))
        rooms.append(standing.max_in_flight)
    assert rooms == [4, 8, 16, 32, 64, 128, 128]
    assert standing.after(result(500)).max_in_flight == 128
    assert standing.after(result(None, timed_out=True)).max_in_flight == 1


def test_only_a_quick_receiver_has_more_than_32_under_way() -> None:
    slow = result(200)._replace(duration_ms=251)
    assert Standing(max_in_flight=16).after(slow).max_in_flight == 32
    assert Standing(max_in_flight=32).after(slow).max_in_flight == 32
    assert Standing(max_in_flight=128).after(slow).max_in_flight == 32
    assert Standing(max_in_flight=32).after(slow._replace(duration_ms=250)).max_in_flight == 64


def test_pauses_grow_from_the_third_failure_in_a_row_to_five_minutes() -> None:
    standing, pauses = Standing(), []
    for _ in range(14):
        failed = standing.after(result(500))
        pauses.append(failed.pause)
        standing = Standing(failed.fail_count, failed.max_in_flight)
    assert pauses[:2] == [0, 0]
    for n, pause in enumerate(pauses[2:]):
        expected = min(2**n, MAX_PAUSE)
        assert expected * 0.8 <= pause <= expected * 1.2
    assert standing.after(result(204)).fail_count == 0


def test_failures_during_a_pause_say_nothing_new_but_a_longer_wish_counts() -> None:
    paused = Standing(5, 4, paused=True)
    assert paused.after(result(500)) == paused
    assert paused.after(result(503, retry_after=90)).asked == 90
    assert Standing().after(result(429, retry_after=60)).asked == 60
    assert Standing().after(result(500, retry_after=60)).asked == 0


def test_a_success_ends_a_pause_of_ours_and_not_one_that_was_asked_for() -> None:
    assert Standing(5, 4, paused=True, pause=8).after(result(200)) == Standing(0, 8, ever_accepted=True)
    asked = Standing().after(result(429, retry_after=60)).after(result(200))
    assert asked == Standing(0, 4, asked=60, ever_accepted=True)
    assert asked.after(result(429, retry_after=10)).asked == 60


def test_a_target_that_never_accepted_anything_is_left_alone_for_longer() -> None:
    failing = Standing(20, 1, hopeless=True).after(result(404))
    assert 0.8 * 3600 <= failing.pause <= 1.2 * 3600
    assert Standing(20, 1, hopeless=True).after(result(200)) == Standing(0, 2, ever_accepted=True)


@given(st.integers(0, 6))
def test_each_wait_is_the_schedules_give_or_take_a_fifth(attempt) -> None:
    wait = wait_before(attempt, None)
    assert SCHEDULE[attempt] * 0.8 <= wait <= SCHEDULE[attempt] * 1.2


def test_the_schedule_is_the_promised_one_and_ends() -> None:
    assert SCHEDULE == (5, 30, 120, 600, 3600, 21600, 86400)
    assert wait_before(7, None) is None
    assert wait_before(0, 40) == 40
    assert wait_before(1, 1) >= 24


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("30", 30),
        (" 5\t", 5),
        ("5\x1f", None),
        ("0", 0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("99999999999", None),
        ("999999999", 86400),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 99 Foo", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_retry_after(header, seconds) -> None:
    assert seconds_of(header) == seconds


def test_retry_after_as_a_date() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 57 <= seconds_of(in_a_minute) <= 60


@given(st.text(max_size=40))
def test_any_retry_after_is_read_or_left(header) -> None:
    seconds = seconds_of(header)
    assert seconds is None or 0 <= seconds <= 86400
