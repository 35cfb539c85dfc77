"""What the owner reports, notes and deletes."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.guards import is_not_found, refuses_strangers
from tests.support.messages_of import add_message, add_phone


@pytest.fixture
def send(api, ali, sql):
    """Accept a message for a phone of Ali's, as a program does."""
    phone = add_phone(sql, ali, default=True)

    def make(**fields):
        body = {"message": "Hello", "recipient_number": "+998901234567", **fields}
        answer = api.post("/api/sms", json=body, headers=ali.headers)
        assert (answer.status_code, answer.json()["data"]["device_id"]) == (201, phone)
        return answer.json()["data"]

    return make


def status_of(sql, message: int) -> str:
    return sql.execute("SELECT status FROM messages WHERE id = %s", (message,)).fetchone()[0]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_who_may_change(api, ali, sql, method):
    made = add_message(sql, ali)
    refuses_strangers(api, ali, method, f"/api/sms/{made}", "sms:send", body={"status": "failed"})


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_nobody_elses_and_the_row_before_the_body(api, ali, other, sql, method):
    theirs = add_message(sql, other, status="sent")
    for name in (theirs, "0", "nonsense"):
        for body in ({"status": "delivered"}, {"status": "lost"}):
            answer = api.request(method, f"/api/sms/{name}", json=body, headers=ali.headers)
            assert is_not_found(answer, "SmsMessage")
    assert status_of(sql, theirs) == "sent"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_report_moves_forward_only(api, ali, sql, send, method):
    message = send()
    asked_and_told = [
        ({"status": "pending"}, "pending"),
        ({"status": "received"}, "pending"),
        ({}, "pending"),
        ({"status": None}, "pending"),
        ({"status": "sent"}, "sent"),
        ({"status": "pending"}, "sent"),
        ({"status": "delivered"}, "delivered"),
        ({"status": "failed", "error_message": "late"}, "delivered"),
        ({"status": "sent"}, "delivered"),
    ]
    for name in (message["id"], message["message_id"]):
        for body, told in asked_and_told:
            answer = api.request(method, f"/api/sms/{name}", json=body, headers=ali.headers)
            assert answer.status_code == 200
            assert answer.json() == {
                "success": True,
                "data": {"id": message["id"], "status": told},
                "message": "SMS updated successfully",
            }
        asked_and_told = [({"status": "sent"}, "delivered")]
    shown = api.get(f"/api/sms/{message['id']}", headers=ali.headers).json()["data"]
    assert shown["sent_at"] <= shown["delivered_at"]
    assert shown["error_message"] is None
    assert sql.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)


def test_a_failure_with_its_reason(api, ali, sql, send):
    message = send()["id"]
    answer = api.put(
        f"/api/sms/{message}", json={"status": "failed", "error_message": "No signal"}, headers=ali.headers
    )
    assert answer.json()["data"] == {"id": message, "status": "failed"}
    shown = api.get(f"/api/sms/{message}", headers=ali.headers).json()["data"]
    assert (shown["status"], shown["error_message"], shown["uncertain"]) == ("failed", "No signal", False)


def test_an_error_alone_is_a_note(api, ali, send):
    message = send()["id"]
    for error in ("Checked by hand", None):
        answer = api.patch(f"/api/sms/{message}", json={"error_message": error}, headers=ali.headers)
        assert answer.json()["data"]["status"] == "pending"
        assert api.get(f"/api/sms/{message}", headers=ali.headers).json()["data"]["error_message"] == error


def test_inbound_stays_received(api, ali, sql):
    message = add_message(sql, ali, direction="inbound", sender_number="+998901112233")
    for status in ("received", "sent", "failed", "delivered", "pending"):
        answer = api.put(f"/api/sms/{message}", json={"status": status}, headers=ali.headers)
        assert answer.json()["data"] == {"id": message, "status": "received"}


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"status": "cancelled"}, {"status": ["The selected status is invalid."]}),
        ({"status": "lost"}, {"status": ["The selected status is invalid."]}),
        ({"status": 5}, {"status": ["The selected status is invalid."]}),
        (
            {"error_message": "x" * 1001},
            {"error_message": ["The error message field must not be greater than 1000 characters."]},
        ),
        ({"error_message": {}}, {"error_message": ["The error message field must be a string."]}),
        ([], {"body": ["The request body must be a JSON object."]}),
    ],
)
def test_what_is_wrong_is_named(api, ali, sql, body, errors):
    message = add_message(sql, ali, status="sent")
    answer = api.put(f"/api/sms/{message}", json=body, headers=ali.headers)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)
    assert status_of(sql, message) == "sent"


def test_deleting_hides_withdraws_and_counts(api, ali, sql, send):
    message = send(price=5)
    answer = api.delete(f"/api/sms/{message['message_id']}", headers=ali.headers)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "message": "SMS deleted successfully"})
    assert is_not_found(api.delete(f"/api/sms/{message['id']}", headers=ali.headers), "SmsMessage")
    assert status_of(sql, message["id"]) == "cancelled"
    assert sql.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)
    account = api.get("/api/account", headers=ali.headers).json()["data"]
    assert (account["usage"]["total_sms"], account["usage"]["total_spent"]) == (1, 5)
    assert (account["stats"]["total_pending"], account["stats"]["total_sent"]) == (0, 0)
    assert api.get("/api/sms", headers=ali.headers).json()["data"]["total"] == 0


def test_one_report_of_many_at_once_counts(api, ali, sql, send):
    message = send()["id"]

    def report(status):
        return api.put(f"/api/sms/{message}", json={"status": status}, headers=ali.headers).status_code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(report, ["sent", "delivered", "failed"] * 8)) == {200}
    final = status_of(sql, message)
    assert final in {"delivered", "failed"}
    stats = api.get("/api/sms/delivery-stats", headers=ali.headers).json()["data"]["today"]
    assert stats == {
        "sent": 1,
        "delivered": int(final == "delivered"),
        "failed": int(final == "failed"),
        "delivery_rate": 100 if final == "delivered" else 0,
    }
