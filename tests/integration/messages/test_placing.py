"""A single send that any phone may have gets one at once, where nobody waits for one."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from app.core.lanes import Lane
from app.messages.dispatch import routing
from app.messages.dispatch.pace import MIN_WINDOW
from app.messages.states import Stage

PLACES = "SELECT device_id, routed_at IS NOT NULL FROM messages ORDER BY id"


@pytest.fixture
def two(phone, enroll, device_number, ali, work):
    """Two phones of an account that has sent before: routing has given it its cursor."""
    second = enroll(name="second")
    work(routing.route_waiting, ali.id)
    return sorted([device_number(phone), device_number(second)])


@pytest.fixture
def send(client):
    def post(**fields):
        body = {"message": "Hi", "recipient_number": "+998901112233", "device_id": "active"} | fields
        answer = client.post("/api/sms", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]["device_id"]

    return post


@pytest.fixture
def bulk_waits(two, sql, ali):
    """A message of a campaign has no phone yet."""
    sql.execute(
        "INSERT INTO message_queue (message_id, user_id, device_id, lane, stage) VALUES (-1, %s, 0, %s, %s)",
        (ali.id, Lane.BULK, Stage.WAITING),
    )


def places(sql):
    return [device for (device,) in sql.execute("SELECT device_id FROM message_queue ORDER BY message_id").fetchall()]


def test_it_has_its_phone_in_the_answer_and_phones_take_turns(two, send, sql, ali, work):
    assert [send() for _ in range(5)] == [two[0], two[1], two[0], two[1], two[0]]
    assert places(sql) == [two[0], two[1], two[0], two[1], two[0]]
    assert work(routing.route_waiting, ali.id) == 0, "nothing is left for routing"
    assert [routed for _, routed in sql.execute(PLACES).fetchall()] == [True] * 5


def test_its_phone_hands_it_out(two, send, phone, sql):
    send()
    assert [message["phoneNumbers"] for message in phone.pull()] == [["+998901112233"]]


def test_it_overtakes_no_other_single_send(two, send, sql, ali, work):
    send()
    sql.execute("UPDATE message_queue SET device_id = 0")
    assert send() is None
    assert work(routing.route_waiting, ali.id) == 2
    assert send() is not None


def test_while_another_takes_turns_it_is_left_to_routing(two, send, database):
    with psycopg.connect(database.postgres.url) as held:
        held.execute("SELECT FROM dispatch_cursors FOR NO KEY UPDATE")
        assert send() is None, "and the answer does not wait"
    assert send() is None, "nor does it overtake"


def test_it_waits_for_no_routing_of_bulk_that_is_under_way(two, send, bulk_waits, database):
    with psycopg.connect(database.postgres.url) as held:
        held.execute("SELECT FROM dispatch_cursors FOR NO KEY UPDATE")
        assert [send(), send()] == [two[0], two[0]], "whose turn it is next, routing will say"
    assert [send(), send()] == two


def test_single_sends_that_routing_has_in_hand_are_not_overtaken(two, send, sql, database):
    send()
    sql.execute("UPDATE message_queue SET device_id = 0")
    with psycopg.connect(database.postgres.url) as routed:
        routed.execute("UPDATE message_queue SET device_id = %s", (two[0],))
        assert send() is None


@pytest.mark.parametrize(
    "state",
    [
        "rests_until = clock_timestamp() - interval '1 minute'",
        "rests_until = clock_timestamp() + interval '1 minute'",
        "held_until = clock_timestamp() + interval '1 hour'",
        "seen_at = clock_timestamp() - interval '1 hour', pulled_at = NULL, stream_seen_at = NULL",
    ],
    ids=["on trial", "resting", "held by its limits", "away"],
)
def test_routing_is_left_what_is_not_plain(two, send, sql, state):
    sql.execute(f"UPDATE device_state SET {state}")
    assert send() is None


FILL = """
    INSERT INTO message_queue (message_id, user_id, device_id, lane, stage, released_at, offered_at, accepted_at)
    SELECT -n - 1000 * d.id, d.user_id, d.id, %(lane)s, %(stage)s, now, now, now
    FROM devices d, generate_series(1, %(count)s) n, clock_timestamp() now WHERE d.id = ANY(%(phones)s)
"""


@pytest.fixture
def fill(sql):
    """Give phones messages that they have ahead of them."""

    def give(*phones, lane, stage=Stage.WAITING, count=100):
        sql.execute(FILL, {"phones": list(phones), "lane": lane, "stage": stage, "count": count})

    return give


def test_a_phone_that_is_full_is_passed_by(two, send, fill):
    fill(two[0], lane=Lane.SINGLE)
    assert [send(), send()] == [two[1], two[1]]


def test_of_those_busy_with_bulk_one_that_can_be_woken_at_once_goes_first(two, send, fill, sql):
    just_now = "UPDATE device_state SET pulled_at = clock_timestamp() + interval '1 minute' WHERE device_id = ANY(%s)"
    sql.execute(just_now, ([two[0]],))
    assert [send(), send()] == two, "it would be unfair where there is nothing else"
    fill(*two, lane=Lane.BULK)
    assert [send(), send()] == [two[1], two[1]]
    sql.execute(just_now, ([two[1]],))
    assert [send(), send()] == [two[0], two[0]], "where none can, the one that can first"


def test_bulk_takes_none_of_its_room(two, send, fill, sql, ali, work):
    fill(*two, lane=Lane.BULK)
    assert send() in two
    sql.execute("UPDATE message_queue SET device_id = 0, lane = %s WHERE message_id > 0", (Lane.BULK,))
    assert work(routing.route_waiting, ali.id) == 0, "the phones are full of bulk"
    sql.execute("UPDATE message_queue SET lane = %s WHERE message_id > 0", (Lane.SINGLE,))
    assert work(routing.route_waiting, ali.id) == 1


def test_a_phone_whose_window_is_full_of_bulk_is_given_a_few(two, send, fill, phone, device_number, sql):
    fill(*two, lane=Lane.BULK, stage=Stage.ACCEPTED)
    placed = [send() for _ in range(2 * MIN_WINDOW + 2)]
    assert placed.count(device_number(phone)) == MIN_WINDOW + 1
    assert len(phone.pull()) == MIN_WINDOW
    assert phone.pull() == phone.pull() == []


def test_no_bulk_is_given_with_them(two, send, fill, phone, device_number, sql):
    fill(*two, lane=Lane.BULK, stage=Stage.ACCEPTED)
    send(device_id=device_number(phone), message="bulk")
    sql.execute("UPDATE message_queue SET lane = %s WHERE message_id > 0", (Lane.BULK,))
    send(device_id=device_number(phone), message="single")
    assert [message["textMessage"]["text"] for message in phone.pull()] == ["single"]


def test_a_phone_with_a_delay_keeps_it(two, send, settings_of, phone, device_number):
    settings_of(phone, send_delay_seconds=60)
    for _ in range(2):
        send(device_id=device_number(phone))
    assert [len(phone.pull()), len(phone.pull())] == [1, 0]


def test_what_is_not_for_now_has_none(two, send, client, sql):
    assert send(send_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat()) is None
    sql.execute("DELETE FROM message_queue")
    client.post("/api/opt-outs", json={"phone_number": "+998901112233"})
    refused = client.post("/api/sms", json={"message": "x", "recipient_number": "+998901112233", "device_id": "active"})
    assert refused.status_code == 422
    assert places(sql) == []
