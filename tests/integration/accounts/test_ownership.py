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

    from app import erasing
    from app.core.database import transaction

    with transaction() as database:
        erasing.erase(database)
    message = api.get(f"/api/sms/{sent.json()['data']['id']}", headers=owner).json()["data"]
    assert message["status"] == "cancelled", "it would be sent by the owner's phones"
    phone.close()


def test_the_rights_of_an_operator_do_not_come_with_a_mailbox(api, google, sql):  # noqa: F811
    """Whoever was made an operator had the account, and may have made the address up."""
    api.post("/api/register", json=SQUATTER)
    sql.execute("UPDATE users SET is_operator = true")
    owner = bearer(sign_in(api))
    assert sql.execute("SELECT is_operator FROM users").fetchone() == (False,)
    assert "operator_unmade" in {each["action"] for each in api.get("/api/audit", headers=owner).json()["data"]["data"]}
    sql.execute("UPDATE users SET is_operator = true")
    sign_in(api)
    assert sql.execute("SELECT is_operator FROM users").fetchone() == (True,), "it is proven"


def test_what_a_call_under_way_sends_after_the_takeover_is_withdrawn_too(api, google, sql, work_erasing):  # noqa: F811
    session = bearer(api.post("/api/register", json=SQUATTER))
    body = {"message": "x", "recipient_number": "+12025550123"}
    private = api.post("/api/devices/enrollment", headers=session).json()["data"]["private_token"]
    api.post("/api/mobile/v1/device", json={"name": "x"}, headers={"Authorization": f"Bearer {private}"})
    earlier = api.post("/api/sms", json=body, headers=session).json()["data"]["id"]
    owner = bearer(sign_in(api))
    work_erasing()
    # Its token was judged before, and it is written now.
    late = sql.execute("INSERT INTO messages (message_id, user_id, direction, kind, status, recipient_number, message,"
        " price) SELECT gen_random_uuid(), user_id, direction, kind, 'pending', recipient_number, message, price"
        " FROM messages RETURNING id").fetchone()[0]  # fmt: skip
    sql.execute("INSERT INTO message_queue (message_id, user_id, device_id, lane) VALUES (%s, 1, 0, 0)", [late])
    work_erasing()
    for number in (earlier, late):
        assert api.get(f"/api/sms/{number}", headers=owner).json()["data"]["status"] == "cancelled"
    assert sql.execute("SELECT withdraw_before IS NULL FROM users").fetchone() == (False,)
    sql.execute("UPDATE users SET withdraw_before = withdraw_before - interval '11 seconds'")
    work_erasing()
    assert sql.execute("SELECT withdraw_before IS NULL FROM users").fetchone() == (True,)


@pytest.fixture
def work_erasing():
    from app import erasing
    from app.core.database import transaction

    def work():
        with transaction() as session:
            erasing.erase(session)

    return work


WRITES = {
    "a webhook": lambda api, h: api.put("/api/webhooks", json={"webhook_url_status": "https://x.example/"}, headers=h),
    "a secret that is shown": lambda api, h: api.get("/api/webhooks/secret", headers=h),
    "a new secret": lambda api, h: api.post("/api/webhooks/secret", headers=h),
    "a key": lambda api, h: api.post("/api/tokens", json={"name": "x"}, headers=h),
    "a private token": lambda api, h: api.post("/api/devices/enrollment", headers=h),
    "an answer to keywords": lambda api, h: api.put("/api/opt-outs/settings", json={"help_reply": "x"}, headers=h),
    "a bulk": lambda api, h: api.post(
        "/api/sms/bulk", json={"message": "x", "recipients": ["+12025550123"]}, headers=h
    ),
}
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_no_call_under_way_leaves_anything_that_acts_for_the_one_before(api, google, sql, write):  # noqa: F811
    """The call has been let in; before its own row is written, the account is taken over."""
    session = bearer(api.post("/api/register", json=SQUATTER))
    private = api.post("/api/devices/enrollment", headers=session).json()["data"]["private_token"]
    api.post("/api/mobile/v1/device", json={"name": "x"}, headers={"Authorization": f"Bearer {private}"})
    tables = ("tokens", "webhook_urls", "webhook_secrets", "messages", "opt_out_settings")
    with psycopg.connect(sql.info.dsn, password=sql.info.password) as held, ThreadPoolExecutor() as pool:
        # The takeover's own lock, as it is about to commit: who asks is still in force for others.
        held.execute("SELECT FROM users WHERE id = 1 FOR NO KEY UPDATE")
        held.execute("DELETE FROM tokens")
        under_way = pool.submit(write, api, session)
        while not sql.execute(WAITING).fetchone()[0]:
            assert not under_way.done(), under_way.result().text
            threading.Event().wait(0.01)
        held.commit()
        assert under_way.result().status_code == 401
    assert [sql.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables] == [0] * len(tables)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_takeover_waits_for_a_call_under_way_and_ends_what_it_made(api, google, sql, write):  # noqa: F811
    """The call holds its token while another call of the same account takes the account over."""
    session = bearer(api.post("/api/register", json=SQUATTER))
    private = api.post("/api/devices/enrollment", headers=session).json()["data"]["private_token"]
    api.post("/api/mobile/v1/device", json={"name": "x"}, headers={"Authorization": f"Bearer {private}"})
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(write, api, session) for _ in range(4)]
        taken = pool.submit(sign_in, api)
        assert {call.result().status_code for call in calls} <= {200, 201, 401}
        assert taken.result().status_code == 200
    owner = bearer(taken.result())
    assert api.get("/api/webhooks", headers=owner).json()["data"]["webhook_url_status"] is None
    assert sql.execute("SELECT count(*) FROM webhook_secrets").fetchone() == (0,)
    assert api.get("/api/opt-outs/settings", headers=owner).json()["data"]["help_reply"] is None
    assert sql.execute("SELECT kind FROM tokens").fetchall() == [("session",)]


def test_one_that_google_was_linked_to_before_addresses_were_proven_counts_as_prepared(api, google, sql):  # noqa: F811
    """Nobody can tell whether the password, set before, is of the one who signs in."""
    session = bearer(api.post("/api/register", json=SQUATTER))
    sql.execute("UPDATE users SET google_subject = '1000'")
    owner = bearer(sign_in(api))
    assert api.get("/api/user", headers=owner).json()["data"]["email_verified_at"] is not None
    assert api.get("/api/user", headers=session).status_code == 401
    assert api.post("/api/login", json=SQUATTER).status_code == 401
    # From then on it is theirs, and stays as it is.
    assert sign_in(api).status_code == 200
    assert api.get("/api/user", headers=owner).status_code == 200


def test_one_of_these_that_was_proven_by_mail_keeps_what_it_has(api, google, sql):  # noqa: F811
    session = bearer(api.post("/api/register", json=SQUATTER))
    sql.execute("UPDATE users SET google_subject = '1000', email_verified_at = clock_timestamp()")
    assert sign_in(api).status_code == 200
    assert api.get("/api/user", headers=session).status_code == 200
    assert api.post("/api/login", json=SQUATTER).status_code == 200


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
