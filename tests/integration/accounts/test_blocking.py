"""A blocked account at every door."""

import httpx
import pytest

from app.accounts import blocking
from app.accounts.models import User
from app.core.database import transaction
from tests.support.messages_of import add_phone

PASSWORD = "long enough for me"


@pytest.fixture
def blocked(api, sql, ali):
    """Ali with a phone, a key of each kind and a password, blocked; the headers of the keys."""
    person = {"name": "Bek", "email": "bek@example.com", "password": PASSWORD, "password_confirmation": PASSWORD}
    api.post("/api/register", json=person)
    sql.execute("UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = 'bek@example.com')")
    add_phone(sql, ali, default=True)
    keys = {"key": ali.token(), "enrolling": ali.token("phone:enroll"), "session": ali.headers}
    with transaction() as session:
        blocking.block(session, session.get_one(User, ali.id, with_for_update=True))
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
