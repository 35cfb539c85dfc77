"""The frequency cap and the guard against the same content."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.core.database import transaction
from app.messages.accepting import suppression
from tests.support.waiting import until

ALI, LAYLO = "+998901112233", "+998901112234"


@pytest.fixture
def settings(client):
    def change(**values):
        answer = client.put("/api/settings", json=values)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    return change


@pytest.fixture
def post(client, phone):
    def send(message="Hello", number=ALI, **headers):
        body = {"message": message, "recipient_number": number, "device_id": phone.device_id}
        return client.post("/api/sms", json=body, headers=headers)

    return send


@pytest.fixture
def bulk(client, phone):
    def send(*numbers, message="Hello", **fields):
        body = {"message": message, "recipients": list(numbers), "device_id": phone.device_id, **fields}
        answer = client.post("/api/sms/bulk", json=body).json()
        if not answer["success"]:
            return answer["reason_code"]
        left_out = {each["number"]: each["reason_code"] for each in answer.get("skipped", ())}
        return [each["recipient_number"] for each in answer["data"]], left_out

    return send


def test_both_are_off_until_they_are_set(client, settings, post, bulk):
    shown = client.get("/api/settings").json()["data"]
    assert (shown["frequency_cap"], shown["same_content_minutes"]) == (None, None)
    assert [post().status_code for _ in range(2)] == [201, 201]
    assert bulk(ALI, ALI, allow_duplicates=True) == ([ALI, ALI], {})
    cap = {"messages": 3, "days": 7}
    assert settings(frequency_cap=cap, same_content_minutes=60)["frequency_cap"] == cap
    shown = settings(frequency_cap=None, same_content_minutes=None)
    assert (shown["frequency_cap"], shown["same_content_minutes"]) == (None, None)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"frequency_cap": 3}, "frequency_cap"),
        ({"frequency_cap": {"messages": 3}}, "frequency_cap.days"),
        ({"frequency_cap": {"messages": 0, "days": 1}}, "frequency_cap.messages"),
        ({"frequency_cap": {"messages": 1, "days": 366}}, "frequency_cap.days"),
        ({"frequency_cap": {"messages": 1, "days": 1, "hours": 1}}, "frequency_cap.hours"),
        ({"same_content_minutes": 0}, "same_content_minutes"),
        ({"same_content_minutes": 43_201}, "same_content_minutes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(client, values, field):
    answer = client.put("/api/settings", json=values)
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]


def test_the_same_text_is_refused_and_the_other_named(settings, post, phone, sql):
    settings(same_content_minutes=60)
    first = post().json()["data"]
    again = post()
    assert again.status_code == 409
    assert again.json() == {
        "success": False,
        "message": f"Message {first['id']} to this number has the same text, and your account does not send it again"
        " within 60 minutes.",
        "reason_code": "same_content",
        "data": {"id": first["id"], "message_id": first["message_id"]},
    }
    assert 3500 < int(again.headers["Retry-After"]) <= 3600
    assert post("Hello!").status_code == post(number=LAYLO).status_code == 201
    sql.execute("UPDATE messages SET created_at = created_at - interval '61 minutes'")
    assert post().status_code == 201


def test_a_key_is_answered_as_before_and_not_used_up_by_a_refusal(settings, post):
    settings(same_content_minutes=60)
    key = {"Idempotency-Key": "a"}
    first = post(**key)
    assert first.status_code == 201
    assert post(**key).json() == first.json()
    other = {"Idempotency-Key": "b"}
    assert [post(**other).status_code for _ in range(2)] == [409, 409]
    assert post("Other", **other).status_code == 201


def test_what_failed_or_was_cancelled_may_be_sent_again(client, settings, post, phone):
    settings(same_content_minutes=60)
    first = post().json()["data"]
    assert client.post(f"/api/sms/{first['id']}/cancel").status_code == 200
    second = post().json()["data"]
    phone.pull()
    phone.report(second["message_id"], "Failed", error="RESULT_ERROR_GENERIC_FAILURE")
    assert post().status_code == 201


def test_of_equal_sends_at_once_one_is_accepted(settings, post, sql):
    settings(same_content_minutes=60)
    with ThreadPoolExecutor(6) as pool:
        answers = [answer.result().status_code for answer in [pool.submit(post) for _ in range(6)]]
    assert sorted(answers) == [201, 409, 409, 409, 409, 409]
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (1,)


def test_a_send_waits_for_the_one_that_holds_its_number(settings, post, sql, ali, phone):
    """As another process that is accepting one at this moment."""
    from app.core.security import parse_token
    from app.messages.accepting import intake, requests
    from app.messages.schemas import SmsDraft

    settings(same_content_minutes=60)
    draft = SmsDraft(message="Hello", recipient_number=ALI, device_id=phone.device_id)
    token = parse_token(ali.headers["Authorization"].removeprefix("Bearer "))
    with ThreadPoolExecutor(1) as pool:
        with transaction() as session:
            accepted = intake.accept_one(session, requests.Send(token, draft))
            assert post(number=LAYLO).status_code == 201, "another number is free"
            answer = pool.submit(post)
        assert answer.result().status_code == 409
        assert answer.result().json()["data"]["id"] == accepted["id"]


def test_bulk_leaves_out_who_had_the_same_text(settings, post, bulk):
    settings(same_content_minutes=60)
    post()
    assert bulk(ALI, LAYLO) == ([LAYLO], {ALI: "same_content"})
    assert bulk(ALI, LAYLO) == "nobody_left"
    assert bulk(ALI, ALI, message="New", allow_duplicates=True) == ([ALI], {ALI: "same_content"})
    assert post("New").status_code == 409


def test_bulk_leaves_out_who_is_over_the_cap(settings, post, bulk, sql, client):
    settings(frequency_cap={"messages": 2, "days": 7})
    assert [post().status_code for _ in range(3)] == [201, 201, 201], "single sends do not count"
    assert bulk(ALI, message="1") == ([ALI], {})
    assert bulk(ALI, ALI, LAYLO, message="2", allow_duplicates=True) == ([ALI, LAYLO], {ALI: "over_cap"})
    assert bulk(ALI, LAYLO, message="3") == ([LAYLO], {ALI: "over_cap"})
    assert post().status_code == 201, "nor are they capped"
    assert bulk(ALI, LAYLO, message="4") == "nobody_left"
    sql.execute("UPDATE messages SET created_at = created_at - interval '8 days'")
    assert bulk(ALI, LAYLO, message="5") == ([ALI, LAYLO], {})


def test_two_bulks_at_once_are_judged_one_after_the_other(settings, bulk, sql, ali, phone):
    settings(frequency_cap={"messages": 1, "days": 1})
    with ThreadPoolExecutor(1) as pool:
        with transaction() as session:
            assert suppression.suppressed(session, ali.id, [ALI], ["x"]) == {}
            other = pool.submit(bulk, ALI, LAYLO)
            until(
                lambda: sql.execute(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ).fetchone()[0]
            )
            sql.execute(
                "INSERT INTO messages (message_id, user_id, direction, status, lane, recipient_number, message)"
                " VALUES (gen_random_uuid(), %s, 'outbound', 'pending', 1, %s, 'x')",
                (ali.id, ALI),
            )
        assert other.result() == ([LAYLO], {ALI: "over_cap"})


def test_it_is_answered_from_the_index_of_recipients(sql, ali):
    """Of an account with a long history, the rows of the number alone are read."""
    sql.execute(
        "INSERT INTO messages (message_id, user_id, direction, status, lane, recipient_number, message, sent_at)"
        " SELECT gen_random_uuid(), %s, 'outbound', 'sent', 1, '+99890' || (n %% 5000), 'Hello', clock_timestamp()"
        " FROM generate_series(1, 20000) n",
        (ali.id,),
    )
    sql.execute("ANALYZE messages")
    values = {"user": ali.id, "recipient_number": ["+998901"], "days": 7, "most": 3, "again": []}
    with transaction() as session:
        statement = suppression.text("EXPLAIN " + suppression._HAD.text)
        plan = "\n".join(session.scalars(statement, values))
    assert "ix_messages_user_recipient" in plan
    assert "Seq Scan on messages" not in plan


def test_a_campaign_leaves_out_who_is_over_the_cap_or_had_its_text(settings, bulk, client, sql, ali, work, phone):
    from app.campaigns import supervising

    settings(frequency_cap={"messages": 1, "days": 7}, same_content_minutes=60)
    bulk(ALI, message="Hello")
    client.post("/api/sms", json={"message": "Sale", "recipient_number": LAYLO, "device_id": phone.device_id})
    number = client.post("/api/campaigns", json={"name": "x", "message": "Sale"}).json()["data"]["id"]
    sql.execute(
        "INSERT INTO campaign_recipients (campaign_id, place, number) VALUES (%s, 1, %s), (%s, 2, %s), (%s, 3, %s)",
        (number, ALI, number, LAYLO, number, "+998901112235"),
    )
    sql.execute("UPDATE campaigns SET recipients = 3 WHERE id = %s", (number,))
    client.post(f"/api/campaigns/{number}/start")
    work(supervising.look, ali.id)
    reasons = dict(sql.execute("SELECT value, reason FROM campaign_left_out").fetchall())
    assert reasons == {ALI: "over_cap", LAYLO: "same_content"}
    assert sql.execute("SELECT recipient_number FROM messages WHERE campaign_id = %s", (number,)).fetchall() == [
        ("+998901112235",)
    ]
