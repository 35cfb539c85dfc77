"""Rooms, turns and limits: what one receiver or user does harms nobody else, in one process or several."""

import threading
from datetime import timedelta

from sqlalchemy import text

from app.core.database import transaction
from app.webhooks import claims
from app.webhooks.claims import HOST_ROOM, USER_ROOM
from app.webhooks.delivery import KEPT_FOR_NEWCOMERS, SLOTS
from tests.integration.webhooks.conftest import (
    callback,
    execute,
    hasten,
    make_user,
    rows,
    set_url,
    status,
    value,
    write,
)
from tests.support.waiting import until
from tests.support.webhooks_receiver import Receiver, answer, hang


def ended(user: int) -> int:
    """How many calls have ended. While none of those that hang has, whatever arrives did not wait for them."""
    return value(
        "SELECT count(*) FROM webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id WHERE user_id = :u",
        u=user,
    )


def test_ten_thousand_rows_for_a_receiver_that_hangs_delay_nobody(receiver, deliverer) -> None:
    receiver.behaviour = hang
    loud, quiet = make_user("loud@example.com"), make_user("quiet@example.com")
    for start in range(0, 10_000, 2500):
        write(*(callback(loud, receiver.url(), n) for n in range(start + 1, start + 2501)))
    receiver.wait_for(2)
    with Receiver() as other:
        for n in range(20):
            write(callback(quiet, other.url(), 20_000 + n))
            other.wait_for(n + 1)
    # The same receiver, by another user: the one that hangs has only its own places.
    write(callback(quiet, receiver.url("/mine"), 30_000))
    receiver.wait(lambda received: any(r.path == "/mine" for r in received))
    assert ended(loud) == 0
    assert (
        value("SELECT count(*) FROM webhook_queue WHERE lease_until > clock_timestamp() AND user_id = :u", u=loud) <= 2
    )


def test_thousands_of_origins_of_one_user_leave_room_for_another(receiver, deliverer) -> None:
    loud, quiet = make_user("loud@example.com"), make_user("quiet@example.com")
    with Receiver(host="0.0.0.0", behaviour=hang) as everywhere:
        write(
            *(callback(loud, f"http://127.0.{n // 200}.{n % 200 + 2}:{everywhere.port}/", n + 1) for n in range(2000))
        )
        everywhere.wait_for(100)
        write(callback(quiet, receiver.url(), 20_000))
        receiver.wait_for(1)
        assert ended(loud) == 0
        in_flight = "SELECT count(*) FROM webhook_queue WHERE lease_until > clock_timestamp() AND user_id = :u"
        assert value(in_flight, u=loud) <= 128


def test_hanging_receivers_of_a_few_users_never_take_all_slots(receiver, deliverer) -> None:
    loud = [make_user(f"loud{n}@example.com") for n in range(9)]
    quiet = make_user("quiet@example.com")
    with Receiver(host="0.0.0.0", behaviour=hang) as everywhere:
        for user in loud:
            write(
                *(
                    callback(user, f"http://127.{user}.0.{n}:{everywhere.port}/", user * 1000 + n)
                    for n in range(1, USER_ROOM + 1)
                )
            )
        taken = SLOTS - KEPT_FOR_NEWCOMERS
        until(lambda: value("SELECT count(*) FROM webhook_queue WHERE lease_until > clock_timestamp()") >= taken)
        write(callback(quiet, receiver.url(), 20_000))
        receiver.wait_for(1)
        assert [ended(user) for user in loud] == [0] * len(loud)


def test_very_many_targets_that_wait_for_a_retry_hide_none_that_is_due(receiver, deliverer) -> None:
    many, few = make_user("many@example.com"), make_user("few@example.com")
    execute(
        "INSERT INTO webhook_queue (delivery_id, user_id, hook, origin, url, next_attempt_at)"
        " SELECT -n, :u, 'callback', 'http://127.0.0.1:' || n, 'http://127.0.0.1:' || n,"
        " clock_timestamp() + interval '1 hour' FROM generate_series(100000, 120000) n",
        u=many,
    )
    for n in range(1, 6):
        write(callback(many, receiver.url("/many"), n), callback(few, receiver.url("/few"), 100 + n))
        received = receiver.wait_for(2 * n)
        assert {r.path for r in received[-2:]} == {"/many", "/few"}
        until(lambda: value("SELECT count(*) FROM webhook_queue WHERE delivery_id > 0") == 0)


def test_a_claim_looks_at_so_many_targets_of_a_user_and_the_next_goes_on_behind_them(monkeypatch) -> None:
    monkeypatch.setattr(claims, "SEEN_OF_USER", 10)
    user, other = make_user(), make_user("other@example.com")
    write(*(callback(user, f"http://127.0.0.1:{n}/", n) for n in range(100, 135)))
    write(callback(other, "http://127.0.0.1:99/", 1))
    rounds, origins, unseen = claims.Rounds(), [], []
    for _ in range(4):
        with transaction() as session:
            claimed = claims.claim(session, 500, 0, rounds)
        origins.append([call.origin for call in claimed.calls if call.user_id == user])
        unseen.append(claimed.unseen)
    assert [len(found) for found in origins] == [10, 10, 10, 5]
    assert len(set().union(*origins)) == 35
    assert unseen == [True, True, True, False]


def test_statistics_of_an_empty_queue_do_not_make_steps_over_many_targets_slow() -> None:
    """Filled, emptied and analyzed, a queue has pages and no rows in the planner's eyes; then it fills again.

    A bitmap of all later rows then costs, in its eyes, what a step costs; which it takes is chance, unless it may not.
    """
    fill = (
        "INSERT INTO webhook_queue (delivery_id, user_id, hook, origin, url)"
        " SELECT n, n % 5000 + 1, 'callback', 'http://127.0.0.1:' || n, 'http://127.0.0.1:' || n || '/'"
        " FROM generate_series(1, 20000) n"
    )
    execute(fill)
    execute("DELETE FROM webhook_queue")
    execute("ANALYZE webhook_queue")
    assert rows("SELECT reltuples, relpages > 0 FROM pg_class WHERE relname = 'webhook_queue'") == [(0, True)]
    execute(fill)
    for look in (lambda session: claims.overdue(session, timedelta(0)), lambda session: claims.claim(session, 0)):
        with transaction() as session:
            session.execute(text("SET LOCAL statement_timeout = '10s'"))
            look(session)
            assert session.scalar(text("SHOW enable_bitmapscan")) == "off"
            assert session.scalar(text("SHOW enable_indexscan")) == "on"


def test_a_host_is_never_full_for_a_user_who_has_nothing_there(receiver, deliverer) -> None:
    receiver.behaviour = hang
    users = [make_user(f"user{n}@example.com") for n in range(80)]
    write(*(callback(user, receiver.url(f"/{user}"), user * 1000 + n) for user in users for n in range(5)))
    receiver.wait_for(HOST_ROOM)
    late = make_user("late@example.com")
    write(callback(late, receiver.url("/late"), 1_000_000))
    receiver.wait(lambda received: any(r.path == "/late" for r in received))
    assert {int(r.path[1:]) for r in receiver.received if r.path != "/late"} == set(users)
    assert len(receiver.received) <= HOST_ROOM + 1


def test_several_processes_do_nothing_twice_and_keep_the_limits(receiver, start_deliverer) -> None:
    busy, most, lock = 0, 0, threading.Lock()
    quick = answer(200)

    async def counting(request, writer) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        await quick(request, writer)
        with lock:
            busy -= 1

    receiver.behaviour = counting
    for _ in range(3):
        start_deliverer()
    user = make_user()
    set_url(user, receiver.url())
    write(*(status(user, n, status=s) for n in range(1, 301) for s in ("sent", "delivered")))
    received = receiver.wait_for(600, 60)
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    assert len({r.webhook_id for r in received}) == len(receiver.received) == 600
    assert most <= 128
    seen: dict[str, list[str]] = {}
    order = value("SELECT json_object_agg(webhook_id, message_id) FROM webhook_deliveries")
    for r in receiver.received:
        seen.setdefault(order[r.webhook_id], []).append(r.json["data"]["status"])
    assert all(states == ["sent", "delivered"] for states in seen.values())


def test_a_receiver_that_fails_is_left_alone_longer_and_longer(receiver, deliverer) -> None:
    receiver.behaviour = answer(500)
    user = make_user()
    write(*(callback(user, receiver.url(), n) for n in range(1, 201)))
    target = "FROM webhook_targets WHERE user_id = :u"
    for fails, pause in ((4, 2), (5, 4), (6, 8)):
        until(lambda n=fails: value(f"SELECT fail_count {target}", u=user) == n, 30)
        left = value(f"SELECT extract(epoch FROM next_try_at - clock_timestamp())::float {target}", u=user)
        assert pause * 0.5 < left <= pause * 1.2
        if fails < 6:
            hasten()
    assert len(receiver.received) <= 64
    receiver.behaviour = answer(200)
    hasten()
    until(lambda: hasten() or value("SELECT count(*) FROM webhook_queue") == 0, 30)
    assert value(f"SELECT fail_count {target}", u=user) == 0
    assert value(f"SELECT max_in_flight {target}", u=user) >= 32


def test_single_sends_go_before_bulk(receiver, start_deliverer) -> None:
    user = make_user()
    bulk = [callback(user, receiver.url(f"/bulk/{n}"), n) for n in range(1, 201)]
    write(*(event._replace(lane=1) for event in bulk))
    write(callback(user, receiver.url("/code"), 1000))
    start_deliverer()
    received = receiver.wait_for(201)
    assert "/code" in [r.path for r in received[:3]]


def test_rows_that_wait_behind_others_never_hide_those_that_do_not(receiver, deliverer) -> None:
    """Hundreds of blocked rows, older than everything else, must not fill what a claim looks at."""
    receiver.behaviour = answer(500)
    user = make_user()
    set_url(user, receiver.url())
    write(*(status(user, n, status=s) for n in range(1, 201) for s in ("sent", "delivered")))
    until(lambda: (value("SELECT max(fail_count) FROM webhook_targets") or 0) >= 3)
    receiver.behaviour = answer(200)
    until(lambda: hasten() or value("SELECT count(*) FROM webhook_queue") == 0, 60)
    accepted: dict[int, list[str]] = {}
    numbers = value("SELECT json_object_agg(webhook_id, message_id) FROM webhook_deliveries")
    for r in receiver.received:
        states = accepted.setdefault(numbers[r.webhook_id], [])
        assert not (r.json["data"]["status"] == "sent" and "delivered" in states)
        states.append(r.json["data"]["status"])
    assert all(set(states) == {"sent", "delivered"} for states in accepted.values())


def test_what_waits_behind_a_late_retry_is_looked_at_again_long_before_it() -> None:
    """A new URL hastens the retry, but not what a claim sets aside behind it at that moment."""
    user = make_user()
    set_url(user, "http://example.org/")
    write(status(user, 1, status="sent"), status(user, 1, status="delivered"))
    execute(
        "UPDATE webhook_queue SET next_attempt_at = clock_timestamp() + interval '6 hours'"
        " WHERE delivery_id = (SELECT min(delivery_id) FROM webhook_queue)"
    )
    with transaction() as session:
        assert claims.claim(session, 100).calls == []
    behind = "SELECT next_attempt_at - clock_timestamp() FROM webhook_queue ORDER BY delivery_id DESC LIMIT 1"
    assert timedelta(minutes=14) < value(behind) <= claims.ASIDE_FOR
