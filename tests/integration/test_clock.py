"""The database's clock is set back by hours, as a machine's is that started with a wrong one."""

import pytest

from app import clock
from app.core.database import transaction
from app.webhooks.records import SCHEDULE


@pytest.fixture
def phone(sql, ali) -> int:
    """One with a delay of ten seconds, whose row was written an hour from now."""
    [(number,)] = sql.execute(
        "INSERT INTO devices (user_id, device_id, device_name, registered_name, sms_rate, hook_secret, signing_key,"
        " send_delay_seconds) VALUES (%s, 'a', 'A', 'A', 1, 'a', 'a', 10) RETURNING id",
        [ali.id],
    )
    sql.execute(
        "INSERT INTO device_state (device_id, last_release_at, next_slot_at, seen_at, pulled_at, stream_seen_at)"
        " SELECT %s, t, t + interval '10 s', t, t, t FROM (SELECT clock_timestamp() + interval '1 hour' AS t) later",
        [number],
    )
    return number


def sweep() -> None:
    from workers.upkeep import sweep

    sweep()


def seconds(sql, column: str, table: str) -> list[int | None]:
    """How far ahead each row has it."""
    return [
        None if ahead is None else round(ahead)
        for (ahead,) in sql.execute(
            f"SELECT CAST(EXTRACT(EPOCH FROM {column} - clock_timestamp()) AS float) FROM {table} ORDER BY 1"
        )
    ]


def test_a_phone_with_a_delay_goes_on_by_its_delay_and_no_phone_counts_as_seen_later(sql, phone) -> None:
    sql.execute("INSERT INTO phone_watch SELECT 1, t, t FROM (SELECT clock_timestamp() + interval '1 hour' AS t) l")
    sweep()
    assert seconds(sql, "next_slot_at", "device_state") == [10]
    for column in ("last_release_at", "seen_at", "pulled_at", "stream_seen_at"):
        assert seconds(sql, column, "device_state") == [0]
    assert seconds(sql, "GREATEST(seen_at, back_at)", "phone_watch") == [0]
    with transaction() as session:
        assert not clock.is_set_back(session)


def test_campaigns_that_run_go_on_and_a_scheduled_one_keeps_its_time(sql, ali, phone) -> None:
    for status, rate in (("running", 6), ("running", None), ("scheduled", None)):
        sql.execute(
            "INSERT INTO campaigns (user_id, name, message, status, rate_per_minute, next_look_at, next_slot_at)"
            " SELECT %s, 'Sale', 'Hello', %s, %s, t, CASE WHEN %s THEN t + interval '9 s' END"
            " FROM (SELECT clock_timestamp() + interval '1 hour' AS t) later",
            [ali.id, status, rate, rate is not None],
        )
    sweep()
    assert seconds(sql, "next_look_at", "campaigns") == [0, 0, 3600]
    [ahead] = seconds(sql, "next_slot_at", "campaigns WHERE rate_per_minute IS NOT NULL")
    assert 10 <= ahead <= 13, "its slots are ten seconds from one another, and it may be two ahead"


def test_webhooks_wait_no_longer_than_their_schedule(sql, ali, phone) -> None:
    for number, (attempt, is_leased) in enumerate([(0, False), (0, True), (1, False), (3, False)]):
        sql.execute(
            "INSERT INTO webhook_queue (delivery_id, user_id, hook, origin, url, attempt, next_attempt_at, lease_id,"
            " lease_until) SELECT %(id)s, %(user)s, 'status', 'x', 'x', %(attempt)s, t,"
            " CASE WHEN %(leased)s THEN gen_random_uuid() END, CASE WHEN %(leased)s THEN t END"
            " FROM (SELECT clock_timestamp() + interval '1 hour' AS t) later",
            {"id": number, "user": ali.id, "attempt": attempt, "leased": is_leased},
        )
    for origin, asked in (("a", False), ("b", True)):
        sql.execute(
            "INSERT INTO webhook_targets (user_id, origin, next_try_at, asked_until)"
            " SELECT %s, %s, t, CASE WHEN %s THEN t END FROM (SELECT clock_timestamp() + interval '1 hour' AS t) l",
            [ali.id, origin, asked],
        )
    sweep()
    wanted = [0, round(SCHEDULE[0] * 1.2), 30, round(SCHEDULE[2] * 1.2)]
    assert seconds(sql, "next_attempt_at", "webhook_queue") == pytest.approx(wanted, abs=1)
    assert seconds(sql, "lease_until", "webhook_queue WHERE lease_id IS NOT NULL") == pytest.approx([30], abs=1)
    assert seconds(sql, "next_try_at", "webhook_targets") == pytest.approx([360, 3600], abs=1)


def test_where_the_clock_goes_as_it_should_nothing_is_touched(sql, ali, phone) -> None:
    sql.execute(
        "UPDATE device_state SET last_release_at = clock_timestamp(), seen_at = clock_timestamp(), pulled_at = NULL,"
        " stream_seen_at = NULL, next_slot_at = clock_timestamp() + interval '1 day'"
    )
    before = sql.execute("TABLE device_state").fetchall()
    sweep()
    assert sql.execute("TABLE device_state").fetchall() == before
