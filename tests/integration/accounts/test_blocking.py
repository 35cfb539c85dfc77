"""A blocked account at every door."""

import httpx
import pytest

from app import erasing
from app.accounts import blocking
from app.accounts.models import User
from app.core.database import transaction
from app.messages.dispatch import routing
from tests.support.messages_of import add_phone

PASSWORD = "long enough for me"
NO_SERVICE = "Send result: RESULT_ERROR_NO_SERVICE (Failed because service is currently unavailable)"


def block(account):
    with transaction() as session:
        blocking.block(session, session.get_one(User, account.id, with_for_update=True))


@pytest.fixture
def blocked(api, sql, ali):
    """Ali with a phone, a key of each kind and a password, blocked; the headers of the keys."""
    person = {"name": "Bek", "email": "bek@example.com", "password": PASSWORD, "password_confirmation": PASSWORD}
    api.post("/api/register", json=person)
    sql.execute("UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = 'bek@example.com')")
    add_phone(sql, ali, default=True)
    keys = {"key": ali.token(), "enrolling": ali.token("phone:enroll"), "session": ali.headers}
    block(ali)
    return keys


def test_no_token_opens_anything(api, gateway, blocked, ali):
    for kind in ("key", "session"):
        for method, path, body in (
            ("GET", "/api/user", None),
            ("GET", "/api/audit", None),
            ("POST", "/api/sms", {"recipient_number": "+998901234567", "message": "x"}),
            ("POST", "/api/sms/bulk", {"recipients": ["+998901234567"], "message": "x"}),
            ("POST", "/api/contacts/import", {"contacts": []}),
            ("GET", "/api/contacts/export", None),
            ("POST", "/api/tokens", {"name": "x"}),
            ("GET", "/api/campaigns/1/events", None),
        ):
            answer = api.request(method, path, json=body, headers=blocked[kind])
            assert answer.status_code == 401, (kind, path, answer.text)
    enrolled = api.post("/api/mobile/v1/device", json={"name": "Pixel"}, headers=blocked["enrolling"])
    assert enrolled.status_code == 401, enrolled.text


def test_no_browser_stays_and_nobody_signs_in(api, gateway, blocked, ali):
    cookies = {"smsfleet_session": ali.headers["Authorization"].removeprefix("Bearer ")}
    with httpx.Client(base_url=gateway.url, cookies=cookies) as browser:
        assert browser.get("/messages").headers["location"].startswith("/sign-in")
        assert browser.get("/events?topics=messages").status_code == 401
    signed_in = api.post("/api/login", json={"email": "ali@example.com", "password": PASSWORD})
    assert (signed_in.status_code, signed_in.json()["reason_code"]) == (403, "account_blocked")
    # Who does not know the password does not learn that it is blocked.
    wrong = api.post("/api/login", json={"email": "ali@example.com", "password": "wrong"})
    assert wrong.status_code == 401


def test_what_waits_goes_to_no_phone_whatever_the_workers_do(ali, phone, send):
    phone.sync()
    send("Not given yet")
    block(ali)
    assert phone.pull() == []


def test_keywords_count_and_are_answered_by_nobody(client, sql, ali, phone):
    phone.sync()
    assert client.put("/api/opt-outs/settings", json={"opt_out_reply": "Buy this"}).status_code == 200
    block(ali)
    assert phone.receive("+998901112233", "STOP") == 200
    assert sql.execute("SELECT phone_number FROM opt_outs").fetchall() == [("+998901112233",)]
    assert sql.execute("SELECT message FROM messages WHERE direction = 'outbound'").fetchall() == []


def test_what_a_phone_gives_back_meanwhile_is_sent_neither_now_nor_when_the_account_is_let_in_again(
    client, sql, ali, enroll, work
):
    phones = [enroll(name=name) for name in ("first", "second")]
    for each in phones:
        each.sync()
        assert each.pull() == []
    body = {"message": "x", "recipient_number": "+998901112233", "device_id": "active"}
    assert client.post("/api/sms", json=body).status_code == 201
    work(routing.route_waiting, ali.id)
    [(given, message)] = [(each, message) for each in phones for message in each.pull()]
    block(ali)
    sql.execute("UPDATE users SET withdraw_before = withdraw_before - interval '1 minute'")
    work(erasing.erase)
    assert given.report(message["id"], "Failed", error=NO_SERVICE) == 204
    work(routing.route_waiting, ali.id)
    assert [each.pull() for each in phones] == [[], []]
    with transaction() as session:
        blocking.unblock(session, session.get_one(User, ali.id, with_for_update=True))
    work(erasing.erase)
    assert sql.execute("SELECT status FROM messages").fetchall() == [("cancelled",)]
    assert [each.pull() for each in phones] == [[], []]
