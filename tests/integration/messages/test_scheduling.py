"""Messages that are to go later: held until then, changed and withdrawn meanwhile, released once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from app.core.database import transaction
from app.core.refusals import ONLY_SCHEDULED
from app.messages.dispatch import releasing, routing
from app.messages.life import expiry
from app.messages.states import Stage
from tests.support.messages_of import add_phone
from tests.support.waiting import until


def no_campaigns(session, campaigns):
    return {}


def in_(hours=1.0):
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.fixture
def schedule(send):
    return lambda text="Later", hours=1.0, **fields: send(text, send_at=in_(hours), **fields)


@pytest.fixture
def release(work):
    return lambda: work(releasing.release, no_campaigns)


@pytest.fixture
def reschedule(client):
    return lambda message, **body: client.patch(f"/api/sms/{message['id']}", json=body)


def shown(client, message):
    return client.get(f"/api/sms/{message['id']}").json()["data"]


def scheduled(client):
    page = client.get("/api/sms?stage=scheduled").json()["data"]
    assert page["total"] == len(page["data"])
    assert client.get("/api/sms/delivery-stats").json()["data"]["scheduled"] == page["total"]
    return [message["id"] for message in page["data"]]


def texts(phone):
    return [message["message"] for message in phone.pull()]


def test_a_message_goes_when_it_is_due_and_not_before(client, phone, schedule, release, later):
    message = schedule()
    at = datetime.fromisoformat(message["scheduled_at"])
    assert message["status"] == "pending"
    assert timedelta(minutes=59) < at - datetime.now(UTC) <= timedelta(hours=1)
    assert (release(), texts(phone)) == (0, [])
    assert scheduled(client) == [message["id"]]
    waiting = client.get(f"/api/sms/{message['id']}/timeline").json()["data"]["waiting"]
    assert (waiting["reason_code"], waiting["expected_at"]) == ("scheduled", message["scheduled_at"])
    later(3599)
    assert (release(), texts(phone)) == (0, [])
    later(2)
    assert (release(), release()) == (1, 0)
    assert (texts(phone), texts(phone)) == (["Later"], [])
    assert scheduled(client) == []
    assert shown(client, message)["scheduled_at"] is not None


def test_a_phone_is_chosen_and_woken_when_it_is_due(client, phone, release, later, work, ali):
    with phone.stream() as stream:
        body = {"message": "Bulk", "recipients": ["+998901112233", "+998901112234"], "device_id": "active"}
        made = client.post("/api/sms/bulk", json=body | {"send_at": in_()}).json()["data"]
        assert {item["status"] for item in made} == {"pending"}
        assert all(item["scheduled_at"] for item in made)
        assert work(routing.route_waiting, ali.id) == 0
        later(3601)
        assert release() == 2
        assert work(routing.route_waiting, ali.id) == 2
        stream.until("MessageEnqueued")
    assert texts(phone) == ["Bulk", "Bulk"]


def test_what_needs_no_time_has_none(client, send, phone):
    assert "scheduled_at" not in send()
    to = {"recipients": ["+998901112233"], "device_id": phone.device_id}
    bulk = client.post("/api/sms/bulk", json={"message": "Hi"} | to).json()["data"]
    assert "scheduled_at" not in bulk[0]
    just_over = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    assert "scheduled_at" not in send("Just over", send_at=just_over)
    assert texts(phone) == ["Hello", "Just over", "Hi"]


@pytest.mark.parametrize(
    ("send_at", "word"),
    [
        pytest.param(in_(24 * 367), "within the next year", id="in a year and a day"),
        ("2020-02-29T10:00:00Z", "in the future"),
        pytest.param(in_(-0.1), "in the future", id="six minutes ago"),
        ("2027-02-29T10:00:00Z", "valid date"),
        ("tomorrow", "valid date"),
        (1798800000, "valid date"),
        (["2027-01-01"], "valid date"),
    ],
)
@pytest.mark.parametrize("path", ["/api/sms", "/api/sms/bulk"])
def test_a_time_that_cannot_be_kept_is_refused(client, phone, sql, path, send_at, word):
    body = {"message": "Hi", "recipient_number": "+998901112233", "recipients": ["+998901112233"], "send_at": send_at}
    answer = client.post(path, json=body)
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["send_at"])
    assert word in answer.json()["message"]
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (0,)


def test_the_time_may_be_changed_until_it_has_come(client, phone, schedule, reschedule, release, later):
    message = schedule(validity_period=600)
    assert reschedule(message, send_at=in_(3)).json()["data"] == {"id": message["id"], "status": "pending"}
    later(3601)
    assert release() == 0
    assert reschedule(message, send_at=in_(0.5)).status_code == 200
    later(1801)
    assert release() == 1
    refused = reschedule(message, send_at=in_(1))
    assert (refused.status_code, refused.json()["reason_code"]) == (422, ONLY_SCHEDULED.code)
    assert texts(phone) == ["Later"]


def test_null_sends_it_now(client, phone, schedule, reschedule, release):
    message = schedule()
    assert reschedule(message, send_at=None).status_code == 200
    assert release() == 1
    assert shown(client, message)["scheduled_at"] is None
    assert texts(phone) == ["Later"]


def test_a_change_that_cannot_be_made(client, schedule, send, reschedule, release, later):
    message = schedule()
    assert reschedule(message, send_at="2020-01-01T00:00:00Z").json()["errors"].keys() == {"send_at"}
    assert reschedule(message, send_at=in_(2), status="sent").json()["errors"].keys() == {"send_at"}
    assert reschedule(message).status_code == 200  # asks for nothing
    assert shown(client, message)["scheduled_at"] == message["scheduled_at"]
    for other in (send("At once"), message):
        client.post(f"/api/sms/{message['id']}/cancel")
        assert reschedule(other, send_at=in_(2)).json()["reason_code"] == ONLY_SCHEDULED.code


def test_who_may_change_it(client, schedule, other):
    message = schedule()
    path = f"/api/sms/{message['id']}"
    assert client.patch(path, json={"send_at": in_(2)}, headers=other.headers).status_code == 404
    assert client.get("/api/sms?stage=scheduled", headers=other.headers).json()["data"]["total"] == 0


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_what_is_withdrawn_is_not_released(client, phone, schedule, release, later, sql, how):
    message = schedule()
    path = f"/api/sms/{message['id']}"
    answer = client.post(f"{path}/cancel") if how == "cancel" else client.delete(path)
    assert answer.status_code == 200
    assert sql.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)
    later(3601)
    assert (release(), texts(phone), scheduled(client)) == (0, [], [])


def test_validity_begins_with_the_release(phone, schedule, release, later, work, sql, status_of):
    message = schedule(validity_period=60)
    # The gateway was down when it was due, and for longer than the message was to be valid.
    later(3600 + 3600)
    assert work(expiry.expire) == 0
    assert release() == 1
    assert work(expiry.expire) == 0
    of_both = "SELECT q.valid_until = m.valid_until, q.valid_until - clock_timestamp() FROM message_queue q, messages m"
    same, left = sql.execute(of_both).fetchone()
    assert same
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)
    later(61)
    assert work(expiry.expire) == 1
    assert status_of(message) == "failed"


def test_a_retry_keeps_a_time_that_has_not_come(client, phone, schedule, reschedule, release, later):
    message = schedule()
    assert reschedule(message, status="failed").json()["data"]["status"] == "failed"
    assert release() == 0
    assert client.post(f"/api/sms/{message['id']}/retry").status_code == 200
    assert scheduled(client) == [message["id"]]
    later(3601)
    assert (release(), texts(phone)) == (1, ["Later"])


def test_a_retry_afterwards_goes_at_once(client, phone, schedule, reschedule, release, later):
    message = schedule()
    later(3601)
    release()
    (pulled,) = phone.pull()
    phone.report(pulled["id"], "Failed")
    assert client.post(f"/api/sms/{message['id']}/retry").status_code == 200
    assert texts(phone) == ["Later"]


def test_the_same_key_schedules_once(client, phone, sql):
    body = {"message": "Once", "recipient_number": "+998901112233", "send_at": in_()}
    answers = [client.post("/api/sms", json=body, headers={"Idempotency-Key": "k"}).json()["data"] for _ in range(2)]
    assert answers[0] == answers[1]
    assert sql.execute("SELECT stage FROM message_queue").fetchall() == [(Stage.HELD,)]


def test_what_was_due_while_the_gateway_was_down_goes_once_in_batches(client, phone, release, later, sql):
    numbers = [f"+99890{number:07}" for number in range(2500)]
    client.post("/api/sms/bulk", json={"message": "Hi", "recipients": numbers, "send_at": in_()})
    later(3 * 86_400)
    assert [release() for _ in range(4)] == [1000, 1000, 500, 0]
    stages = sql.execute("SELECT stage, count(*) FROM message_queue WHERE due_at IS NULL GROUP BY stage").fetchall()
    assert stages == [(Stage.WAITING, 2500)]
    assert len(phone.pull()) <= 100  # by its pace, as ever


def test_those_due_first_go_first(schedule, release, later, sql, monkeypatch):
    monkeypatch.setattr(releasing, "BATCH_SIZE", 1)
    second, first = schedule(hours=2), schedule(hours=1)
    later(3 * 3600)
    for message in (first, second):
        assert release() == 1
        waiting = sql.execute(f"SELECT message_id FROM message_queue WHERE stage = {Stage.WAITING}").fetchall()
        assert (message["id"],) in waiting


def test_what_belongs_to_a_paused_campaign_stays_held(phone, schedule, release, later, sql):
    schedule()
    sql.execute("UPDATE message_queue SET campaign_id = 7")
    sql.execute("INSERT INTO held_campaigns (campaign_id) VALUES (7)")
    later(3601)
    assert (release(), release()) == (1, 0)
    assert sql.execute("SELECT stage, due_at FROM message_queue").fetchall() == [(Stage.HELD, None)]
    assert texts(phone) == []


def test_many_scheduled_are_listed_as_few_are(client, phone, sql, monkeypatch):
    monkeypatch.setattr("app.messages.queries.MAX_COUNTED", 3)
    numbers = [f"+99890{number:07}" for number in range(5)]
    made = client.post("/api/sms/bulk", json={"message": "Hi", "recipients": numbers, "send_at": in_()}).json()["data"]
    page = client.get("/api/sms?stage=scheduled&per_page=2").json()["data"]
    assert [message["id"] for message in page["data"]] == [made[4]["id"], made[3]["id"]]
    assert (page["total"], page["total_exact"]) == (3, False)
    assert client.get("/api/sms/delivery-stats").json()["data"]["scheduled"] == 3
    assert client.get("/api/sms?stage=scheduled&status=sent").json()["data"]["total"] == 0
    assert client.get("/api/sms?stage=late").status_code == 422


def held_up(sql):
    """Somebody waits for a lock."""
    return until(lambda: sql.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0])


def test_of_two_releases_at_once_one_makes_it(phone, schedule, later):
    schedule()
    later(3601)
    with transaction() as one, transaction() as two:
        assert (releasing.release(one, no_campaigns), releasing.release(two, no_campaigns)) == (1, 0)
    assert texts(phone) == ["Later"]


def test_a_cancel_that_comes_during_the_release_waits_and_withdraws(client, phone, schedule, later, sql, status_of):
    message = schedule()
    later(3601)
    with ThreadPoolExecutor() as pool:
        with transaction() as session:
            assert releasing.release(session, no_campaigns) == 1
            asked = pool.submit(client.post, f"/api/sms/{message['id']}/cancel")
            held_up(sql)
        assert asked.result().status_code == 200
    assert (status_of(message), texts(phone)) == ("cancelled", [])


def test_a_change_that_comes_during_the_release_is_too_late(phone, schedule, reschedule, later, sql):
    message = schedule()
    later(3601)
    with ThreadPoolExecutor() as pool:
        with transaction() as session:
            assert releasing.release(session, no_campaigns) == 1
            asked = pool.submit(reschedule, message, send_at=in_(2))
            held_up(sql)
        assert asked.result().json()["reason_code"] == ONLY_SCHEDULED.code
    assert texts(phone) == ["Later"]


def test_a_release_passes_over_what_is_being_withdrawn_or_changed(client, phone, schedule, release, later, sql):
    from app.messages.life import rescheduling, transitions
    from app.messages.states import Event

    cancelled, changed = schedule("Cancelled"), schedule("Changed")
    later(3601)
    with transaction() as session:
        transitions.apply(session, [transitions.Change(cancelled["id"], Event.WITHDRAWN)])
        rescheduling.reschedule(session, changed, datetime.now(UTC) + timedelta(hours=1))
        assert release() == 0
    assert (release(), texts(phone), scheduled(client)) == (0, [], [changed["id"]])


def test_an_expiry_that_saw_it_before_the_release_does_not_fail_it(phone, schedule, later, work, sql, status_of):
    message = schedule(validity_period=60)
    later(7200)
    sql.execute("UPDATE message_queue SET due_at = NULL")  # as if it had been held by its campaign when it was seen
    seen = [message["id"]]
    sql.execute("UPDATE message_queue SET due_at = clock_timestamp() - interval '1 hour'")
    from app.messages.life import transitions
    from app.messages.states import Event

    with transaction() as session:
        transitions.apply(session, [transitions.Change(number, Event.EXPIRED) for number in seen])
    assert status_of(message) == "pending"


def test_a_named_phone_that_is_removed_fails_what_is_scheduled_for_it(client, phone, schedule, work, ali, status_of):
    from app.messages.life import moving

    message = schedule()
    client.delete(f"/api/devices/{phone.device_id}")
    work(moving.move, ali.id)
    assert status_of(message) == "failed"


def test_a_default_phone_that_is_gone_by_then_is_replaced(client, ali, sql, enroll, schedule, release, later, work):
    from app.messages.life import moving

    first = add_phone(sql, ali, default=True)
    message = client.post(
        "/api/sms", json={"message": "Later", "recipient_number": "+998901112233", "send_at": in_()}
    ).json()["data"]
    assert message["device_id"] == first
    sql.execute("UPDATE devices SET is_active = false WHERE id = %s", (first,))
    second = enroll(name="second")
    later(3601)
    release()
    work(moving.move, ali.id)
    while not (pulled := texts(second)):
        work(routing.route_waiting, ali.id)
    assert pulled == ["Later"]
