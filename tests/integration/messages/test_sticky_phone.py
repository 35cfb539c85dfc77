"""A number stays with its phone, where the account wants that."""

import pytest

from app.messages.dispatch import routing
from tests.support.messages_of import add_message

KNOWN, NEW = "+998901112233", "+998909999999"


@pytest.fixture
def two(client, phone, enroll, device_number):
    second = enroll(name="second")
    assert client.put("/api/settings", json={"sticky_phone": True}).status_code == 200
    return device_number(phone), device_number(second)


@pytest.fixture
def served_by(client, work, ali):
    def send(number=KNOWN, **fields):
        sent = client.post("/api/sms", json={"message": "Hi", "recipient_number": number} | fields).json()["data"]
        work(routing.route_waiting, ali.id)
        return client.get(f"/api/sms/{sent['id']}").json()["data"]["device_id"]

    return send


def test_a_number_stays_with_the_phone_it_was_last_served_by(two, served_by, ali, sql):
    add_message(sql, ali, device_id=two[1], recipient_number=KNOWN)
    assert [served_by() for _ in range(3)] == [two[1]] * 3
    assert {served_by(NEW + str(number)) for number in range(4)} == set(two)


def test_the_phone_it_last_wrote_to_goes_first(two, served_by, ali, sql):
    add_message(sql, ali, device_id=two[1], recipient_number=KNOWN)
    add_message(sql, ali, direction="inbound", device_id=two[0], sender_number=KNOWN)
    assert served_by() == two[0]


def test_the_default_phone_is_not_asked(client, two, served_by, ali, sql):
    client.post("/api/devices/default-device", json={"device_id": two[0]})
    add_message(sql, ali, device_id=two[1], recipient_number=KNOWN)
    assert served_by() == two[1]
    client.put("/api/settings", json={"sticky_phone": False})
    assert served_by() == two[0]


def test_a_phone_that_the_request_names_is_taken(two, served_by, ali, sql):
    add_message(sql, ali, device_id=two[1], recipient_number=KNOWN)
    assert served_by(device_id=two[0]) == two[0]


@pytest.mark.parametrize(
    "away",
    [
        "UPDATE devices SET is_active = false WHERE id = %s",
        "UPDATE devices SET removed_at = clock_timestamp() WHERE id = %s",
        "UPDATE device_state SET woken_at = clock_timestamp() - interval '1 minute' WHERE device_id = %s",
    ],
)
def test_while_it_is_away_another_serves(two, served_by, ali, sql, away):
    add_message(sql, ali, device_id=two[1], recipient_number=KNOWN)
    sql.execute(away, (two[1],))
    assert served_by() == two[0]


def test_others_numbers_and_deleted_messages_tell_nothing(two, served_by, ali, other, sql):
    add_message(sql, other, device_id=two[1], recipient_number=KNOWN)
    [deleted] = [add_message(sql, ali, device_id=two[1], recipient_number=KNOWN)]
    sql.execute("UPDATE messages SET deleted_at = clock_timestamp() WHERE id = %s", (deleted,))
    assert {served_by(KNOWN) for _ in range(1)} <= set(two)
    sql.execute("DELETE FROM messages WHERE user_id = %s", (ali.id,))
    sql.execute("UPDATE dispatch_cursors SET last_device_id = 0")
    assert served_by(KNOWN) == two[0]


def test_the_same_number_twice_in_one_batch_and_more_than_there_is_room_for(client, two, ali, sql, work):
    """They go where the number stays, beyond that phone's room; the others are shared as ever."""
    add_message(sql, ali, device_id=two[1], recipient_number=KNOWN)
    body = {"message": "Hi", "recipients": [KNOWN] * 60 + [f"+99890{n:07}" for n in range(10)], "device_id": "active"}
    client.post("/api/sms/bulk", json=body | {"allow_duplicates": True})
    while work(routing.route_waiting, ali.id):
        pass
    rows = sql.execute(
        "SELECT device_id, count(*) FROM messages WHERE recipient_number = %s AND status = 'pending' GROUP BY 1",
        (KNOWN,),
    ).fetchall()
    assert [device for device, _ in rows if device is not None] == [two[1]]
