# ruff: noqa: RUF001 - letters that look alike are what it is about
"""An account that was prepared for somebody else, and the one spelling of an address."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.core.emails import is_email, normalize
from tests.integration.accounts.test_google import google, sign_in  # noqa: F401 - a fixture
from tests.support.strict_phone import StrictPhone

SQUATTER = {"name": "x", "email": "ali@example.com", "password": "secret", "password_confirmation": "secret"}


def bearer(answer):
    return {"Authorization": f"Bearer {answer.json()['data']['token']}"}


def test_what_a_stranger_prepared_ends_when_the_owner_signs_in_with_google(api, google, gateway, sql):  # noqa: F811
    session = bearer(api.post("/api/register", json=SQUATTER))
    key = bearer(api.post("/api/tokens", json={"name": "x"}, headers=session))
    invited = api.post("/api/devices/enrollment", headers=session).json()["data"]
    api.put("/api/webhooks", json={"webhook_url_incoming": "https://evil.example/in"}, headers=session)
    phone = StrictPhone(gateway.url)
    phone.register(invited["private_token"])
    sent = api.post("/api/sms", json={"message": "x", "recipient_number": "+12025550123"}, headers=session)
    assert sent.status_code == 201

    answer = sign_in(api)
    assert (answer.status_code, answer.json()["data"]["user"]["id"]) == (200, 1)
    owner = bearer(answer)
    assert api.get("/api/user", headers=owner).json()["data"]["email_verified_at"] is not None
    for headers in (session, key):
        assert api.get("/api/user", headers=headers).status_code == 401
    assert api.post("/api/login", json=SQUATTER).status_code == 401
    assert phone.announce() == 401
    private = {"Authorization": f"Bearer {invited['private_token']}"}
    assert api.post("/api/mobile/v1/device", json={"name": "x"}, headers=private).status_code == 401
    assert api.get("/api/devices", headers=owner).json()["data"] == []
    assert api.get("/api/tokens", headers=owner).json()["data"] == []
    assert api.get("/api/webhooks", headers=owner).json()["data"]["webhook_url_incoming"] is None

    from app.core.database import transaction
    from app.messages.life import erasing

    with transaction() as database:
        erasing.erase(database)
    message = api.get(f"/api/sms/{sent.json()['data']['id']}", headers=owner).json()["data"]
    assert message["status"] == "cancelled", "it would be sent by the owner's phones"
    assert sql.execute("SELECT withdraw_before FROM users").fetchone() == (None,)
    phone.close()


def test_a_key_made_while_the_account_changes_hands_ends_too(api, google, sql):  # noqa: F811
    """Half of a call is over, its token judged good, when the account is taken over; the other half makes a key."""
    session = bearer(api.post("/api/register", json=SQUATTER))
    (token,) = sql.execute("SELECT id FROM tokens").fetchone()
    with psycopg.connect(sql.info.dsn, password=sql.info.password) as held, ThreadPoolExecutor() as pool:
        held.execute("SELECT FROM tokens WHERE id = %s FOR KEY SHARE", [token])
        signing_in = pool.submit(sign_in, api)
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not sql.execute(waits).fetchone()[0]:
            threading.Event().wait(0.01)
        held.execute(
            "INSERT INTO tokens (user_id, kind, name, secret_hash, abilities) VALUES (1, 'key', 'x', 'x', '{*}')"
        )
        held.commit()
        assert signing_in.result().status_code == 200
    assert sql.execute("SELECT kind FROM tokens").fetchall() == [("session",)]
    assert api.post("/api/tokens", json={"name": "x"}, headers=session).status_code == 401


def test_a_google_account_is_never_replaced_by_another(api, google, sql):  # noqa: F811
    sign_in(api)
    google.claims["sub"] = "2000"
    answer = sign_in(api)
    assert answer.status_code == 422
    assert "another Google account" in answer.json()["message"]
    assert sql.execute("SELECT google_subject FROM users").fetchall() == [("1000",)]


def test_a_proven_account_keeps_its_keys_and_password_when_google_is_linked(api, google, sql):  # noqa: F811
    session = bearer(api.post("/api/register", json=SQUATTER))
    sql.execute("UPDATE users SET email_verified_at = clock_timestamp()")
    assert sign_in(api).json()["data"]["user"]["id"] == 1
    assert api.get("/api/user", headers=session).status_code == 200
    assert api.post("/api/login", json=SQUATTER).status_code == 200


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        (" Ali@Example.COM ", "ali@example.com"),
        ("lİvİa@example.com", "li̇vi̇a@example.com"),
        ("ａｌｉ＠example.com", "ali@example.com"),
        ("STRASSE@example.com", "straße@example.com"),
        ("a@BÜCHER.example", "a@xn--bcher-kva.example"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@xn--BCHER-kva.example", "a@xn--bcher-kva.example"),
    ],
)
def test_spellings_of_one_address(typed, same):
    assert normalize(typed) == normalize(same)
    assert is_email(typed)


@pytest.mark.parametrize(
    "typed", ["", "ali", "@example.com", "a@", "a@b@c", "a b@example.com", "a@-.example", "ﷺ" * 60]
)
def test_what_is_no_address(typed):
    assert not is_email(typed)


def test_an_address_is_one_account_in_all_its_spellings(api, sql):
    assert api.post("/api/register", json=SQUATTER | {"email": "lİvİa@bücher.example"}).status_code == 201
    again = api.post("/api/register", json=SQUATTER | {"email": "Lİvi̇A@xn--bcher-kva.example"})
    assert again.json()["errors"] == {"email": ["The email has already been taken."]}
    assert api.post("/api/login", json=SQUATTER | {"email": "li̇vi̇a@BÜCHER.example"}).status_code == 200
    assert sql.execute("SELECT email FROM users").fetchall() == [("lİvİa@bücher.example",)]


def test_failed_logins_are_counted_for_all_spellings(api):
    for number in range(11):
        spelling = "".join(letter if number >> place & 1 else letter.upper() for place, letter in enumerate("livi"))
        answer = api.post("/api/login", json={"email": f"{spelling}@example.com", "password": "wrong"})
    assert answer.status_code == 429
    wide = api.post("/api/login", json={"email": "ｌivi@example.com", "password": "wrong"})
    assert wide.status_code == 429
