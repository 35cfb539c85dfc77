"""Opt-outs in the API, and what they do to sends."""

import io

import pytest
from sqlalchemy import text

from app.core.database import transaction
from app.messages.life import opting_out
from tests.support.guards import is_not_found, refuses_strangers

ALI, LAYLO, TIMUR = "+998901112233", "+998901112234", "+998901112235"


@pytest.fixture
def opt_out(client):
    def post(number=ALI, **fields):
        answer = client.post("/api/opt-outs", json={"phone_number": number, **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]

    return post


def listed(client, **query):
    return [each["phone_number"] for each in client.get("/api/opt-outs", params=query).json()["data"]["data"]]


def test_a_number_is_listed_from_its_opt_out_until_it_is_removed(client, opt_out):
    made = opt_out("+998 90 111-22-33", note="by phone")
    assert made == {
        "id": made["id"],
        "phone_number": ALI,
        "by": "owner",
        "keyword": None,
        "message_id": None,
        "since": made["since"],
        "note": "by phone",
    }
    assert opt_out(note="again") == made, "once more changes nothing"
    opt_out(LAYLO)
    assert listed(client) == [LAYLO, ALI]
    assert listed(client, search="2233") == listed(client, search="PHONE") == [ALI]
    assert listed(client, by="STOP") == []
    assert client.get(f"/api/opt-outs/{made['id']}").json()["data"] == made
    assert client.delete(f"/api/opt-outs/{made['id']}").status_code == 200
    assert is_not_found(client.delete(f"/api/opt-outs/{made['id']}"), "OptOut")
    assert listed(client) == [LAYLO]
    assert client.post("/api/opt-outs", json={"phone_number": "12"}).json()["errors"]["phone_number"]


def test_opt_outs_of_another_account_are_not_there(client, opt_out, api, other):
    made = opt_out()
    assert is_not_found(api.get(f"/api/opt-outs/{made['id']}", headers=other.headers), "OptOut")
    assert is_not_found(api.delete(f"/api/opt-outs/{made['id']}", headers=other.headers), "OptOut")
    assert api.get("/api/opt-outs", headers=other.headers).json()["data"]["total"] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/opt-outs"),
        ("POST", "/api/opt-outs"),
        ("POST", "/api/opt-outs/import"),
        ("GET", "/api/opt-outs/export"),
        ("GET", "/api/opt-outs/settings"),
        ("PUT", "/api/opt-outs/settings"),
        ("DELETE", "/api/opt-outs/1"),
    ],
)
def test_opt_outs_need_the_ability_for_contacts(api, ali, method, path):
    refuses_strangers(api, ali, method, path, "contacts", body={})


def test_an_import_adds_what_is_new_and_says_what_it_left_out(client, opt_out):
    opt_out()
    rows = [ALI, {"phone_number": LAYLO, "note": "old list"}, {"phone_number": "12"}, LAYLO, {"note": "x"}]
    answer = client.post("/api/opt-outs/import", json={"opt_outs": rows})
    assert (answer.status_code, answer.json()["message"]) == (201, "Imported 1 opt-outs")
    data = answer.json()["data"]
    assert (data["added"], data["known"], data["skipped"]) == (1, 1, 3)
    assert [row["index"] for row in data["skipped_rows"]] == [2, 3, 4]
    assert [each["note"] for each in client.get("/api/opt-outs").json()["data"]["data"]] == ["old list", None]
    for wrong, field in (([1], "opt_outs.0"), ([{"phone_number": 1}], "opt_outs.0.phone_number"), ([], "opt_outs")):
        answer = client.post("/api/opt-outs/import", json={"opt_outs": wrong})
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == [field]


def test_an_export_can_be_imported_again(client, opt_out):
    opt_out(note="=1+1")
    opt_out(LAYLO)
    export = client.get("/api/opt-outs/export").text
    assert export.splitlines()[0] == '"phone_number","by","since","keyword","note"'
    assert '"\'=1+1"' in export, "no formula"
    for made in client.get("/api/opt-outs").json()["data"]["data"]:
        client.delete(f"/api/opt-outs/{made['id']}")
    answer = client.post("/api/opt-outs/import", content=export, headers={"Content-Type": "text/csv"})
    assert answer.json()["data"]["added"] == 2, answer.text
    assert sorted(listed(client, by="import")) == [ALI, LAYLO]
    assert listed(client, search="=1+1") == [ALI]
    file = {"file": ("numbers.csv", io.BytesIO(f"number;remark\n{TIMUR};asked\n".encode()))}
    answer = client.post("/api/opt-outs/import", files=file, data={"note_column": "remark"})
    assert answer.json()["data"]["added"] == 1, answer.text
    assert listed(client, search="asked") == [TIMUR]


def test_a_single_send_is_refused_unless_it_was_asked_for(client, phone, opt_out, sql):
    made = opt_out()
    body = {"message": "x", "recipient_number": ALI, "device_id": phone.device_id}
    answer = client.post("/api/sms", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 422
    assert answer.json() == {
        "success": False,
        "message": "The recipient has opted out of your messages. If this one was asked for, send it with"
        " ignore_opt_out.",
        "reason_code": "opted_out",
    }
    assert client.post("/api/sms", json=body).status_code == 422
    assert sql.execute("SELECT count(*) FROM messages").fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM usage_deltas").fetchone() == (0,)
    assert client.post("/api/sms", json=body | {"ignore_opt_out": True}).status_code == 201
    assert [message["message"] for message in phone.pull()] == ["x"]
    client.delete(f"/api/opt-outs/{made['id']}")
    again = client.post("/api/sms", json=body, headers={"Idempotency-Key": "k"})
    assert again.status_code == 201, "the refusal did not use up its key"


def test_many_sends_at_once_are_judged_one_by_one(client, phone, opt_out, api, other):
    opt_out(LAYLO)
    answers = [client.post("/api/sms", json={"message": "x", "recipient_number": number}) for number in (ALI, LAYLO)]
    assert [answer.status_code for answer in answers] == [201, 422]
    theirs = api.post("/api/sms", json={"message": "x", "recipient_number": LAYLO}, headers=other.headers)
    assert theirs.json().get("reason_code") != "opted_out", "another account's opt-out is nothing to them"


def test_bulk_leaves_them_out_and_says_so(client, phone, opt_out):
    opt_out(LAYLO)
    opt_out(TIMUR)
    group = client.post("/api/contact-groups", json={"name": "g"}).json()["data"]["id"]
    client.post("/api/contacts", json={"phone_number": TIMUR, "group_ids": [group]})
    body = {"message": "x", "recipients": [LAYLO, "12", ALI], "skip_invalid": True, "group_ids": [group]}
    first = client.post("/api/sms/bulk", json=body, headers={"Idempotency-Key": "b"})
    assert first.status_code == 201, first.text
    answer = first.json()
    assert [message["recipient_number"] for message in answer["data"]] == [ALI]
    told = [(each["index"], each.get("reason_code"), each.get("number")) for each in answer["skipped"]]
    assert told == [(1, "invalid", None), (0, "opted_out", LAYLO), (None, "opted_out", TIMUR)]
    again = client.post("/api/sms/bulk", json=body, headers={"Idempotency-Key": "b"})
    assert again.json() == answer
    none = client.post("/api/sms/bulk", json={"message": "x", "recipients": [LAYLO, TIMUR]})
    assert (none.status_code, none.json()["reason_code"]) == (422, "nobody_left")


def test_a_failed_message_is_not_tried_again(client, phone, send, opt_out):
    message = send(recipient_number=ALI)
    phone.pull()
    phone.report(message["message_id"], "Failed")
    opt_out()
    answer = client.post(f"/api/sms/{message['id']}/retry")
    assert (answer.status_code, answer.json()["reason_code"]) == (422, "opted_out")


def test_what_waits_is_withdrawn_and_phones_are_asked_for_the_rest(client, phone, send, opt_out, work, sql, ali):
    from app.messages.life import opting_out

    given = send("given")
    phone.pull()
    phone.report(given["message_id"], "Processed")
    waiting, asked_for = send("waiting"), send("code", ignore_opt_out=True)
    other = send("other", recipient_number=LAYLO)
    with phone.stream() as stream:
        stream.rest()
        opt_out()
        work(opting_out.withdraw, ali.id)
        assert stream.until("MessageCancelled")["messageId"] == given["message_id"]
    shown = client.get(f"/api/sms/{waiting['id']}").json()["data"]
    assert (shown["status"], shown["error_message"]) == ("cancelled", "The recipient has opted out")
    last = client.get(f"/api/sms/{waiting['id']}/timeline").json()["data"]["stages"][-1]
    assert (last["stage"], last["error_message"]) == ("cancelled", "The recipient has opted out")
    assert {message["message"] for message in phone.pull()} >= {"code", "other"}
    assert client.get(f"/api/sms/{given['id']}").json()["data"]["status"] == "pending"
    phone.report(given["message_id"], "Cancelled")
    assert client.get(f"/api/sms/{given['id']}").json()["data"]["status"] == "cancelled"
    work(opting_out.withdraw, ali.id)
    assert sql.execute("SELECT look_at - since FROM opt_outs").fetchone()[0] == opting_out.STRAGGLING
    sql.execute("UPDATE opt_outs SET since = since - interval '2 minutes', look_at = look_at - interval '2 minutes'")
    work(opting_out.withdraw, ali.id)
    assert sql.execute("SELECT look_at FROM opt_outs").fetchone() == (None,)
    assert (asked_for["status"], other["status"]) == ("pending", "pending")


def test_what_no_app_gives_back_hides_nothing_that_waits(phone, send, opt_out, work, sql, ali, monkeypatch):
    monkeypatch.setattr(opting_out, "BATCH_SIZE", 2)
    for _ in range(2):
        send("given")
    assert len(phone.pull()) == 2
    sql.execute("UPDATE devices SET app_version = '1.60.0'")
    waiting = send("waiting")
    opt_out()
    work(opting_out.withdraw, ali.id)
    assert sql.execute("SELECT id FROM messages WHERE status = 'cancelled'").fetchall() == [(waiting["id"],)]


def test_statistics_of_an_empty_queue_do_not_make_the_look_for_what_waits_slow(api, ali, sql) -> None:
    """They know neither what is in the queue nor the account, which has sent much."""
    made = (
        "INSERT INTO messages (message_id, user_id, direction, status, recipient_number, message, delivered_at)"
        " SELECT uuidv7(), %s, 'outbound', %s, '+99890' || lpad(n::text, 7, '0'), 'x', now()"
        " FROM generate_series(1, %s) n"
    )
    queued = "INSERT INTO message_queue (message_id, user_id, lane) SELECT id, user_id, 1 FROM messages"
    sql.execute(made, (0, "delivered", 50_000))
    sql.execute(queued)
    sql.execute("DELETE FROM message_queue")
    sql.execute("ANALYZE messages, message_queue")
    sql.execute(made, (ali.id, "delivered", 100_000))
    sql.execute(made, (ali.id, "pending", 8000))
    sql.execute(f"{queued} WHERE status = 'pending'")
    numbers = [f"+99890{n:07}" for n in range(1, 501)]
    assert api.post("/api/opt-outs/import", json={"opt_outs": numbers}, headers=ali.headers).status_code == 201
    with transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = '5s'"))
        opting_out.withdraw(session, ali.id)
    [(cancelled,)] = sql.execute("SELECT count(*) FROM messages WHERE status = 'cancelled'").fetchall()
    assert cancelled == 500
