"""Who hears that there is work at a place: its phone, routing, or nobody."""

import pytest

from app.core.database import transaction
from app.core.lanes import Lane
from app.core.task_names import TaskName
from app.messages.dispatch import waking
from app.messages.states import Stage
from tests.support.messages_of import add_phone

WINDOW = 20


@pytest.fixture
def phone(ali, sql) -> int:
    number = add_phone(sql, ali)
    sql.execute("UPDATE device_state SET send_window = %s WHERE device_id = %s", (WINDOW, number))
    return number


@pytest.fixture
def waits(ali, sql):
    """Put so many messages into the queue, at a phone or at none."""
    numbers = iter(range(1, 1000))

    def put(device: int, lane: Lane, stage: Stage = Stage.WAITING, count: int = 1) -> None:
        for _ in range(count):
            sql.execute(
                "INSERT INTO message_queue (message_id, user_id, device_id, lane, stage, released_at)"
                " VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN clock_timestamp() END)",
                (next(numbers), ali.id, device, lane, stage, stage != Stage.WAITING),
            )

    return put


@pytest.fixture
def told(ali, database):
    """What is told of a place: how many wakes of its phone, and whether routing is."""

    def ask(device: int) -> tuple[int, bool]:
        with transaction() as session:
            waking.wake_or_route(session, {(ali.id, device)})
            signals, nudges = session.info.get("signals", {}), session.info.get("nudges", set())
            assert {(who, event) for who, event, _ in signals} <= {(device, "wake")}
            return len(signals), nudges == {(TaskName.ROUTE, ali.id)}

    return ask


def test_nobody_where_nothing_waits(told, phone):
    assert told(phone) == (0, False)
    assert told(0) == (0, False)


def test_routing_of_what_has_no_phone(told, phone, waits):
    waits(0, Lane.BULK)
    assert told(0) == (0, True)
    assert told(phone) == (0, True), "a phone with nothing of its own has room for it"


@pytest.mark.parametrize(
    ("lane", "in_flight", "wakes"),
    [
        (Lane.BULK, 0, 1),
        (Lane.BULK, WINDOW // 2 - 1, 1),
        (Lane.BULK, WINDOW // 2, 0),
        (Lane.SINGLE, WINDOW // 2, 1),
    ],
)
def test_a_phone_for_bulk_only_where_half_of_its_window_is_free(told, phone, waits, lane, in_flight, wakes):
    waits(0, Lane.BULK)
    waits(phone, Lane.BULK, Stage.RELEASED, in_flight)
    waits(phone, Lane.BULK)
    waits(phone, lane)
    assert told(phone) == (wakes, False)
