"""What is made of results over time: URLs that are gone or fail for days, late results, retention, secrets."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.core.database import transaction
from app.webhooks import claims, history, outbox, records, retention, signing
from app.webhooks.records import record
from app.webhooks.sender import Result
from tests.integration.webhooks.conftest import (
    callback,
    execute,
    hasten,
    make_user,
    rows,
    set_url,
    states,
    status,
    value,
    write,
)
from tests.support.waiting import until
from tests.support.webhooks_receiver import answer


def claimed(slots: int = 10) -> list[claims.Call]:
    with transaction() as session:
        return claims.claim(session, slots).calls


def recorded(*results: Result) -> None:
    with transaction() as session:
        record(session, results)


def result(call: claims.Call, code: int | None = 200) -> Result:
    return Result(call, code, "", None if code else "The receiver did not answer in time.", 5)


def test_gone_disables_the_account_url_and_what_waits_for_it_is_kept_as_failed(receiver, deliverer) -> None:
    receiver.behaviour = answer(410)
    user = make_user()
    set_url(user, receiver.url())
    write(*(status(user, n) for n in range(1, 6)))
    until(lambda: value("SELECT disabled_reason FROM webhook_urls") == "The receiver answered 410 Gone.")
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    assert states()["failed"] == 5
    assert write(status(user, 9)) == []
    with transaction() as session:
        assert outbox.hooks_of(session, [user]) == {user: outbox.Hooks()}


def test_gone_gives_up_what_waits_for_that_callback_and_no_other(receiver, deliverer) -> None:
    user = make_user()
    receiver.behaviour = answer(500)
    write(*(callback(user, receiver.url("/gone"), n) for n in range(1, 4)), callback(user, receiver.url("/other"), 4))
    until(lambda: value("SELECT count(*) FROM webhook_queue WHERE attempt > 0") >= 3)
    receiver.behaviour = answer(410)
    execute("UPDATE webhook_targets SET next_try_at = NULL, fail_count = 0")
    execute("UPDATE webhook_queue SET next_attempt_at = clock_timestamp() WHERE message_id = 1")
    until(lambda: states()["failed"] == 3)
    assert value("SELECT state FROM webhook_deliveries WHERE message_id = 4") == "pending"


def test_nothing_is_posted_for_a_blocked_account_and_what_waits_can_be_replayed(receiver, start_deliverer) -> None:
    """However many posts to somebody else an account has left, blocking it ends them."""
    user, innocent = make_user(), make_user("other@example.com")
    set_url(user, receiver.url("/own"))
    write(status(user, 1), *(callback(user, receiver.url("/victim"), n) for n in range(2, 300)))
    write(callback(innocent, receiver.url("/innocent"), 500))
    execute("UPDATE users SET blocked_at = clock_timestamp() WHERE id = :user", user=user)
    start_deliverer()
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    assert {each.path for each in receiver.received} == {"/innocent"}
    ended = "SELECT count(*) FROM webhook_deliveries WHERE user_id = :user AND state = 'failed' AND error = :error"
    assert value(ended, user=user, error="The account is blocked.") == 299


def test_five_days_of_failing_only_switch_the_url_off(receiver, deliverer) -> None:
    receiver.behaviour = answer(500)
    user = make_user()
    set_url(user, receiver.url())
    write(status(user, 1))
    until(lambda: value("SELECT failing_since FROM webhook_urls"))
    execute("UPDATE webhook_urls SET failing_since = failing_since - interval '4 days 23 hours'")
    hasten()
    until(lambda: value("SELECT attempts FROM webhook_deliveries") == 2)
    assert value("SELECT disabled_at FROM webhook_urls") is None
    execute("UPDATE webhook_urls SET failing_since = failing_since - interval '2 hours'")
    hasten()
    until(lambda: value("SELECT disabled_reason FROM webhook_urls") == "Nothing was accepted for five days.")


def test_one_success_begins_the_five_days_anew(receiver, deliverer) -> None:
    user = make_user()
    set_url(user, receiver.url())
    execute("UPDATE webhook_urls SET failing_since = clock_timestamp() - interval '6 days'")
    write(status(user, 1))
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    assert rows("SELECT failing_since, disabled_at FROM webhook_urls") == [(None, None)]


def test_the_result_of_a_lost_lease_is_kept_as_an_attempt_and_changes_nothing() -> None:
    user = make_user()
    write(callback(user, "http://127.0.0.1:9/", 1))
    [call] = claimed()
    assert claimed() == []
    execute("UPDATE webhook_queue SET lease_until = clock_timestamp(), next_attempt_at = clock_timestamp()")
    [again] = claimed()
    assert again.webhook_id == call.webhook_id
    assert again.lease_id != call.lease_id
    recorded(result(call))
    assert rows("SELECT state, attempts FROM webhook_deliveries") == [("pending", 0)]
    assert value("SELECT lease_id FROM webhook_queue") == again.lease_id
    recorded(result(again, 500))
    assert rows("SELECT state, attempts FROM webhook_deliveries") == [("pending", 1)]
    assert value("SELECT count(*) FROM webhook_attempts") == 2


def test_a_result_recorded_twice_ends_the_delivery_once() -> None:
    write(callback(make_user(), "http://127.0.0.1:9/", 1))
    [call] = claimed()
    recorded(result(call))
    recorded(result(call), result(call._replace(lease_id=uuid4()), 500))
    assert rows("SELECT attempts, finished_at FROM webhook_deliveries") == [(0, None)]
    assert states() == {"delivered": 1}


def test_a_success_and_a_failure_that_pauses_are_recorded_together() -> None:
    good, bad = make_user("good@example.com"), make_user("bad@example.com")
    write(callback(good, "http://127.0.0.1:9/", 1), callback(bad, "http://127.0.0.1:9/", 2))
    calls = claimed()
    execute("UPDATE webhook_targets SET fail_count = 2 WHERE user_id = :u", u=bad)
    recorded(*(result(call, 200 if call.user_id == good else 500) for call in calls))
    assert rows("SELECT user_id, fail_count, next_try_at IS NOT NULL FROM webhook_targets ORDER BY user_id") == [
        (good, 0, False),
        (bad, 3, True),
    ]


def test_failures_of_calls_already_under_way_open_the_breaker_once(monkeypatch) -> None:
    # A pause that outlasts the rest of the calls, however slow the machine is.
    monkeypatch.setattr(records, "_spread", lambda seconds: 600 * seconds)
    user = make_user()
    execute(
        "INSERT INTO webhook_targets (user_id, origin, max_in_flight) VALUES (:u, 'http://127.0.0.1:9', 32)", u=user
    )
    write(*(callback(user, "http://127.0.0.1:9/", n) for n in range(1, 33)))
    calls = claimed(32)
    assert len(calls) == 32
    for call in calls:
        recorded(result(call, 500))
    [(fails, wait)] = rows(
        "SELECT fail_count, extract(epoch FROM next_try_at - clock_timestamp())::float FROM webhook_targets"
    )
    assert fails == 3
    assert 500 < wait <= 600


def test_a_pause_that_was_asked_for_outlives_successes_and_shorter_wishes() -> None:
    user = make_user()
    execute("INSERT INTO webhook_targets (user_id, origin, max_in_flight) VALUES (:u, 'http://127.0.0.1:9', 8)", u=user)
    write(*(callback(user, "http://127.0.0.1:9/", n) for n in range(1, 9)))
    wish, shorter, *others = claimed(8)

    def left() -> float:
        return value("SELECT extract(epoch FROM next_try_at - clock_timestamp())::float FROM webhook_targets")

    recorded(result(wish, 429)._replace(retry_after=600))
    assert 590 < left() <= 600
    recorded(result(others[0]))
    assert 590 < left() <= 600
    recorded(result(shorter, 503)._replace(retry_after=5), result(others[1]))
    assert 590 < left() <= 600
    recorded(*(result(call, 500) for call in others[2:]))
    assert 590 < left() <= 600
    assert claimed() == []


def test_a_success_ends_a_pause_that_nobody_asked_for() -> None:
    user = make_user()
    execute("INSERT INTO webhook_targets (user_id, origin, max_in_flight) VALUES (:u, 'http://127.0.0.1:9', 8)", u=user)
    write(*(callback(user, "http://127.0.0.1:9/", n) for n in range(1, 9)))
    *failing, good = claimed(8)
    for call in failing[:3]:
        recorded(result(call, 500))
    assert value("SELECT next_try_at > clock_timestamp() FROM webhook_targets")
    recorded(result(good))
    assert rows("SELECT fail_count, next_try_at FROM webhook_targets") == [(0, None)]


def test_an_event_for_a_url_that_was_taken_away_gets_no_row() -> None:
    user = make_user()
    set_url(user, "https://example.com/")
    with transaction() as session:
        assert outbox.hooks_of(session, [user, 99]) == {
            user: outbox.Hooks(status="https://example.com/"),
            99: outbox.Hooks(),
        }
    execute("DELETE FROM webhook_urls")
    assert write(status(user, 1)) == []


def test_a_plan_without_webhooks_has_no_hooks(monkeypatch) -> None:
    from app.core.settings import get_settings

    user, premium = make_user(), make_user("premium@example.com")
    set_url(user, "https://example.com/")
    set_url(premium, "https://example.com/")
    execute("UPDATE users SET premium_expires_at = clock_timestamp() + interval '1 day' WHERE id = :u", u=premium)
    monkeypatch.setenv("SMSFLEET_FREE_FEATURES", "api,bulk")
    get_settings.cache_clear()
    with transaction() as session:
        hooks = outbox.hooks_of(session, [user, premium])
    assert hooks == {user: outbox.Hooks(), premium: outbox.Hooks(status="https://example.com/")}


def accepted(n: int) -> list[int]:
    """So many deliveries, each accepted at its first call."""
    user = make_user()
    written = write(*(callback(user, "http://127.0.0.1:9/", number) for number in range(n)))
    while calls := claimed():
        recorded(*(result(call) for call in calls))
    assert states() == {"delivered": n}
    return written


def clean() -> int:
    with transaction() as session:
        return retention.clean(session)


def age(days: int) -> None:
    by = f"interval '{days} days'"
    execute(f"UPDATE webhook_deliveries SET created_at = created_at - {by}, finished_at = finished_at - {by}")


@pytest.fixture
def in_threes(monkeypatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    retention.walk.cache_clear()


def test_old_deliveries_are_deleted_by_age_in_batches(in_threes) -> None:
    ids = accepted(12)
    failed, later, at_once = ids[:5], ids[5:7], ids[7:]
    ended = "UPDATE webhook_deliveries SET state = :state, attempts = 2, finished_at = created_at WHERE id = ANY(:ids)"
    execute(ended, state="failed", ids=failed)
    execute(ended, state="delivered", ids=later)
    assert clean() == 0
    age(8)
    counts = []
    while n := clean():
        counts.append(n)
    assert sum(counts) == len(later) + len(at_once)
    assert max(counts) <= 3 + len(later)
    assert states() == {"failed": 5}
    assert value("SELECT count(DISTINCT delivery_id) FROM webhook_attempts") == 5
    age(23)
    assert clean() + clean() == 5
    assert value("SELECT count(*) FROM webhook_attempts") == 0


def test_what_a_clean_that_came_to_nothing_would_have_deleted_is_deleted_by_the_next(in_threes) -> None:
    accepted(5)
    age(8)
    with transaction() as session:
        assert retention.clean(session) == 3
        session.rollback()
    assert [clean(), clean(), clean()] == [3, 2, 0]
    assert value("SELECT count(*) FROM webhook_deliveries") == 0


def test_a_replayed_delivery_is_kept_from_its_new_end(in_threes) -> None:
    [delivery] = accepted(1)
    age(8)
    user = value("SELECT user_id FROM webhook_deliveries")
    with transaction() as session:
        history.replay(session, user, delivery)
        assert clean() == 0
    assert clean() == 0
    recorded(*(result(call) for call in claimed()))
    assert states() == {"delivered": 1}
    assert clean() == 0
    with transaction() as session:
        shown = history.show(session, user, delivery)
    assert [attempt.url for attempt in shown.attempts] == ["http://127.0.0.1:9/"] * 2
    assert shown.attempts[1].at <= shown.finished_at
    age(8)
    assert clean() == 1


def test_what_still_waits_is_never_deleted_however_old(in_threes) -> None:
    write(callback(make_user(), "http://127.0.0.1:9/", 1))
    age(365)
    assert clean() == 0


def test_rotation_signs_with_all_secrets_for_a_day_each(receiver, deliverer) -> None:
    user = make_user()
    write(callback(user, receiver.url(), 1))
    receiver.wait_for(1)
    with transaction() as session:
        old, _ = signing.current(session, user)
        signing.rotate(session, user)
        middle, first_until = signing.current(session, user)
    with transaction() as session:
        signing.rotate(session, user)
        new, until_when = signing.current(session, user)
    assert len({old, middle, new}) == 3
    assert until_when > first_until
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    write(callback(user, receiver.url(), 2))
    request = receiver.wait_for(2)[1]
    for secret in (old, middle, new):
        Webhook(secret).verify(request.body, request.headers)
    # As if the first one's day were over, and then the second one's.
    execute("UPDATE webhook_secrets SET previous_ends[2] = clock_timestamp()")
    with transaction() as session:
        assert signing.ensure_secrets(session, [user]) == {user: (new, middle)}
        assert signing.current(session, user) == (new, until_when)
    execute("UPDATE webhook_secrets SET previous_ends[1] = clock_timestamp()")
    until(lambda: value("SELECT count(*) FROM webhook_queue") == 0)
    write(callback(user, receiver.url(), 3))
    request = receiver.wait_for(3)[2]
    Webhook(new).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(request.body, request.headers)


def test_more_rotations_than_anyone_needs_keep_the_last_ones() -> None:
    user, made = make_user(), []
    with transaction() as session:
        for _ in range(signing.MAX_PREVIOUS + 5):
            made.append(signing.current(session, user)[0])
            signing.rotate(session, user)
        assert signing.ensure_secrets(session, [user])[user][1:] == tuple(reversed(made))[: signing.MAX_PREVIOUS]


def test_rotations_at_the_same_time_lose_no_secret() -> None:
    user = make_user()
    with transaction() as session:
        first, _ = signing.current(session, user)

    def rotate() -> None:
        with transaction() as session:
            signing.rotate(session, user)

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with transaction() as session:
        known = signing.ensure_secrets(session, [user])[user]
    assert len(set(known)) == 5
    assert first in known


def test_a_secret_is_made_once_however_many_ask_at_once() -> None:
    user, seen, barrier = make_user(), set(), threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        with transaction() as session:
            seen.add(signing.ensure_secrets(session, [user])[user])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert next(iter(seen))[0].startswith("whsec_")


def test_overdue_is_what_could_go_and_has_not_for_two_seconds() -> None:
    def overdue() -> bool:
        with transaction() as session:
            return claims.overdue(session, timedelta(seconds=2))

    user = make_user()
    assert not overdue()
    write(callback(user, "http://127.0.0.1:9/", 1))
    assert not overdue()
    execute("UPDATE webhook_queue SET next_attempt_at = clock_timestamp() - interval '3 s'")
    assert overdue()
    execute(
        "INSERT INTO webhook_targets (user_id, origin, next_try_at)"
        " VALUES (:u, 'http://127.0.0.1:9', clock_timestamp() + interval '1 minute')",
        u=user,
    )
    assert not overdue()
