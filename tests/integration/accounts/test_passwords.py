"""Changing a password, resetting it by mail, proving an address, sessions that end, deleting the account."""

import re
from email import message_from_bytes
from email.policy import default

import pytest
from typer.testing import CliRunner

from app.accounts.commands import user_app
from tests.integration.accounts.test_signing_in import ALI
from tests.integration.core.test_mail import MailServer, mail_server  # noqa: F401 - a fixture
from tests.support.waiting import until

NEW = {"password": "new secret", "password_confirmation": "new secret"}
SAME_ANSWER = "If there is an account with this address, a code was sent to it."


def bearer(answer):
    return {"Authorization": f"Bearer {answer.json()['data']['token']}"}


def registered(api):
    return bearer(api.post("/api/register", json=ALI))


def code_of(server: MailServer) -> tuple[str, str]:
    server.join(20)
    mail = message_from_bytes(server.mail, policy=default)
    return mail["To"], re.search(r"^(\w{43})\s*$", mail.get_content(), re.MULTILINE)[1]


def test_a_changed_password_ends_other_sessions_and_no_key(api):
    first = registered(api)
    other = bearer(api.post("/api/login", json=ALI))
    key = bearer(api.post("/api/tokens", json={"name": "x"}, headers=first))
    answer = api.put("/api/user/password", json={"current_password": "secret", **NEW}, headers=first)
    assert (answer.status_code, answer.json()["message"]) == (200, "Password changed")
    codes = [api.get("/api/user", headers=headers).status_code for headers in (first, other, key)]
    assert codes == [200, 401, 200]
    assert api.post("/api/login", json=ALI).status_code == 401
    assert api.post("/api/login", json=ALI | NEW).status_code == 200


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"current_password": "wrong", **NEW}, {"current_password": ["The password is incorrect."]}),
        (NEW, {"current_password": ["The current password field is required."]}),
        (
            {"current_password": "secret", "password": "short", "password_confirmation": "short"},
            {"password": ["The password field must be at least 6 characters."]},
        ),
        (
            {"current_password": "secret", "password": "new secret"},
            {"password": ["The password field confirmation does not match."]},
        ),
    ],
)
def test_refused_changes(api, body, errors):
    answer = api.put("/api/user/password", json=body, headers=registered(api))
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)
    assert api.post("/api/login", json=ALI).status_code == 200


def test_guesses_of_the_old_password_are_limited(api):
    headers = registered(api)
    body = {"current_password": "wrong", **NEW}
    answers = [api.put("/api/user/password", json=body, headers=headers).status_code for _ in range(11)]
    assert answers == [422] * 10 + [429]


def test_an_account_without_a_password_has_none_to_change(api, ali):
    answer = api.put("/api/user/password", json={"current_password": "secret", **NEW}, headers=ali.headers)
    assert answer.status_code == 422
    assert "has no password" in answer.json()["message"]


def test_a_password_is_reset_by_mail_once(api, mail_server, sql):  # noqa: F811
    session = registered(api)
    key = bearer(api.post("/api/tokens", json={"name": "x"}, headers=session))
    server = mail_server()
    answer = api.post("/api/forgot-password", json={"email": "ALI@example.com"})
    assert (answer.status_code, answer.json()["message"]) == (200, SAME_ANSWER)
    to, code = code_of(server)
    assert to == "ali@example.com"
    assert code.encode() not in sql.execute("SELECT secret_hash FROM account_codes").fetchone()[0]
    answer = api.post("/api/reset-password", json={"code": code, **NEW})
    assert (answer.status_code, answer.json()) == (200, {"success": True, "message": "Password changed"})
    assert api.post("/api/login", json=ALI).status_code == 401
    assert api.post("/api/login", json=ALI | NEW).status_code == 200
    # Nobody had proven the address before, so what was made before is not its owner's.
    assert [api.get("/api/user", headers=headers).status_code for headers in (session, key)] == [401, 401]
    again = api.post("/api/reset-password", json={"code": code, **NEW})
    assert again.json()["errors"] == {"code": ["This code is invalid, was already used, or has expired."]}


def test_a_reset_of_a_proven_account_leaves_its_keys(api, mail_server, sql):  # noqa: F811
    session = registered(api)
    key = bearer(api.post("/api/tokens", json={"name": "x"}, headers=session))
    sql.execute("UPDATE users SET email_verified_at = clock_timestamp()")
    server = mail_server()
    api.post("/api/forgot-password", json={"email": ALI["email"]})
    _, code = code_of(server)
    assert api.post("/api/reset-password", json={"code": code, **NEW}).status_code == 200
    assert [api.get("/api/user", headers=headers).status_code for headers in (session, key)] == [401, 200]


def test_a_code_that_has_expired(api, mail_server, sql):  # noqa: F811
    registered(api)
    server = mail_server()
    api.post("/api/forgot-password", json={"email": ALI["email"]})
    _, code = code_of(server)
    sql.execute("UPDATE account_codes SET expires_at = clock_timestamp() - interval '1 second'")
    assert api.post("/api/reset-password", json={"code": code, **NEW}).status_code == 422
    assert api.post("/api/login", json=ALI).status_code == 200


def by_its_owner(api, session):
    answer = api.put("/api/user/password", json={"current_password": ALI["password"], **NEW}, headers=session)
    assert answer.status_code == 200


def by_the_operator(_api, _session):
    assert CliRunner().invoke(user_app, ["password", ALI["email"]]).exit_code == 0


@pytest.mark.parametrize("change", [by_its_owner, by_the_operator])
def test_a_code_from_before_the_password_was_changed(api, mail_server, change):  # noqa: F811
    session = registered(api)
    server = mail_server()
    api.post("/api/forgot-password", json={"email": ALI["email"]})
    _, code = code_of(server)
    change(api, session)
    body = {"code": code, "password": "of a thief", "password_confirmation": "of a thief"}
    assert api.post("/api/reset-password", json=body).status_code == 422
    assert api.post("/api/login", json=ALI | {"password": "of a thief"}).status_code == 401


def test_an_unknown_address_gets_the_same_answer_and_no_mail(api, configured, sql):
    configured(SMTP_URL="smtp://127.0.0.1:1")
    answer = api.post("/api/forgot-password", json={"email": "nobody@example.com"})
    assert (answer.status_code, answer.json()["message"]) == (200, SAME_ANSWER)
    assert sql.execute("SELECT count(*) FROM account_codes").fetchone() == (0,)


def test_without_a_mail_server_nothing_is_promised(api):
    registered(api)
    for email in (ALI["email"], "nobody@example.com"):
        answer = api.post("/api/forgot-password", json={"email": email})
        assert answer.status_code == 503
        assert "cannot send mail" in answer.json()["message"]


def test_a_second_code_within_a_minute_is_not_mailed(api, configured, sql):
    registered(api)
    configured(SMTP_URL="smtp://127.0.0.1:1")
    first = None
    for _ in range(3):
        api.post("/api/forgot-password", json={"email": ALI["email"]})
        found = until(lambda: sql.execute("SELECT secret_hash FROM account_codes").fetchone())
        first = first or found
    assert found == first


def test_an_address_is_proven_by_the_mail_and_the_session_together(api, mail_server):  # noqa: F811
    server = mail_server()
    session = registered(api)
    to, code = code_of(server)
    assert to == ALI["email"]
    stranger = bearer(api.post("/api/register", json=ALI | {"email": "stranger@example.com"}))
    refused = api.post("/api/user/email/verify", json={"code": code}, headers=stranger)
    assert refused.status_code == 422
    assert api.get("/api/user", headers=session).json()["data"]["email_verified_at"] is None
    proven = api.post("/api/user/email/verify", json={"code": code}, headers=session)
    assert (proven.status_code, proven.json()["message"]) == (200, "E-mail address confirmed")
    assert api.get("/api/user", headers=session).json()["data"]["email_verified_at"] is not None
    assert api.post("/api/user/email/verify", json={"code": code}, headers=session).status_code == 422


def test_a_code_for_one_thing_is_none_for_another(api, mail_server):  # noqa: F811
    server = mail_server()
    registered(api)
    _, code = code_of(server)
    assert api.post("/api/reset-password", json={"code": code, **NEW}).status_code == 422
    assert api.post("/api/login", json=ALI).status_code == 200


def test_sessions_are_listed_and_ended_one_by_one(api, other):
    first = registered(api)
    second = bearer(api.post("/api/login", json=ALI, headers={"User-Agent": "Shop/2.1"}))
    api.post("/api/tokens", json={"name": "a key, no session"}, headers=first)
    listed = api.get("/api/sessions", headers=first).json()["data"]
    assert listed[0]["name"] == "Shop/2.1"
    assert [row["current"] for row in listed] == [False, True]
    assert all(row["expires_at"] for row in listed)
    path = f"/api/sessions/{listed[0]['id']}"
    assert api.delete(path, headers=other.headers).status_code == 404
    assert api.delete(path, headers=first).json() == {"success": True, "message": "Session ended"}
    assert api.get("/api/user", headers=second).status_code == 401
    assert api.delete(path, headers=first).status_code == 404


def test_a_session_ends_when_it_is_not_used_and_lives_on_when_it_is(api, configured, sql):
    from app.accounts import sessions, token_use
    from app.core.database import transaction

    configured(SESSION_IDLE="3600", SESSION_LIFETIME="7200")
    headers = registered(api)

    def lasts():
        query = "SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM tokens"
        return float(sql.execute(query).fetchone()[0])

    assert 3500 < lasts() <= 3600
    sql.execute("UPDATE tokens SET expires_at = clock_timestamp() + interval '60 s', last_used_at = NULL")
    api.get("/api/user", headers=headers)
    token_use.write_token_usage()
    assert 3500 < lasts() <= 3600
    sql.execute(
        "UPDATE tokens SET created_at = clock_timestamp() - interval '7000 s', last_used_at = NULL,"
        " expires_at = clock_timestamp() + interval '60 s'"
    )
    api.get("/api/user", headers=headers)
    token_use.write_token_usage()
    assert 150 < lasts() <= 200, "its longest life"
    sql.execute("UPDATE tokens SET expires_at = clock_timestamp() - interval '1 s'")
    assert api.get("/api/user", headers=headers).status_code == 401
    with transaction() as session:
        sessions.clean(session)
    assert sql.execute("SELECT count(*) FROM tokens").fetchone() == (0,)


def test_a_key_made_in_a_session_outlives_it(api):
    made = api.post("/api/tokens", json={"name": "x"}, headers=registered(api))
    assert made.json()["data"]["expires_at"] is None
