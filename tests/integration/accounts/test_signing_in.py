"""Registering, signing in and out, and the limits on tries."""

import re
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.waiting import until

ALI = {"name": "Ali Valiyev", "email": "ali@example.com", "password": "secret", "password_confirmation": "secret"}


def test_register(api, sql):
    answer = api.post("/api/register", json=ALI)
    assert answer.status_code == 201
    token = answer.json()["data"].pop("token")
    assert answer.json() == {
        "success": True,
        "data": {
            "user": {"id": 1, "name": "Ali Valiyev", "email": "ali@example.com"},
            "token_type": "Bearer",
            "token": token,
        },
        "message": "Registration successful",
    }
    assert re.fullmatch(r"1\|[0-9A-Za-z]{43}", token)
    (stored,) = sql.execute("SELECT password_hash FROM users").fetchone()
    assert stored.startswith("$argon2id$")
    (secret,) = sql.execute("SELECT secret_hash FROM tokens").fetchone()
    assert token.partition("|")[2].encode() not in secret


def test_login_and_user(api):
    api.post("/api/register", json=ALI)
    answer = api.post("/api/login", json={"email": " ALI@example.COM ", "password": "secret"})
    assert (answer.status_code, answer.json()["message"]) == (200, "Login successful")
    assert answer.json()["data"]["user"] == {"id": 1, "name": "Ali Valiyev", "email": "ali@example.com"}
    user = api.get("/api/user", headers={"Authorization": f"Bearer {answer.json()['data']['token']}"})
    assert user.json() == {
        "success": True,
        "data": {
            "id": 1,
            "name": "Ali Valiyev",
            "email": "ali@example.com",
            "email_verified_at": None,
            "plan": "free",
            "premium_expires_at": None,
        },
    }


@pytest.mark.parametrize("email", ["ali@example.com", "nobody@example.com"])
def test_wrong_password_and_unknown_email_get_one_answer(api, email):
    api.post("/api/register", json=ALI)
    answer = api.post("/api/login", json={"email": email, "password": "wrong"})
    assert (answer.status_code, answer.json()) == (401, {"success": False, "message": "Invalid credentials"})


def test_user_without_a_password_cannot_log_in_with_one(api, ali):
    for password in ("", "nobody has this password"):
        answer = api.post("/api/login", json={"email": ali.email, "password": password})
        assert answer.status_code in {401, 422}


def test_passwords_are_not_trimmed(api):
    api.post("/api/register", json={**ALI, "password": " secret ", "password_confirmation": " secret "})
    assert api.post("/api/login", json={"email": ALI["email"], "password": "secret"}).status_code == 401
    assert api.post("/api/login", json={"email": ALI["email"], "password": " secret "}).status_code == 200


def test_unknown_email_takes_as_long_as_a_wrong_password(api):
    api.post("/api/register", json=ALI)

    def seconds(email):
        began = time.perf_counter()
        api.post("/api/login", json={"email": email, "password": "wrong"})
        return time.perf_counter() - began

    # In turns, so that whatever else this machine does hits both.
    times = [(seconds(ALI["email"]), seconds("nobody@example.com")) for _ in range(9)]
    known, unknown = (statistics.median(column) for column in zip(*times, strict=True))
    assert 0.5 < known / unknown < 2


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"password_confirmation": "other"}, {"password": ["The password field confirmation does not match."]}),
        ({"password_confirmation": None}, {"password": ["The password field confirmation does not match."]}),
        ({"password": "short"}, {"password": ["The password field must be at least 6 characters."]}),
        ({"name": "x" * 256}, {"name": ["The name field must not be greater than 255 characters."]}),
        ({"email": "ali"}, {"email": ["The email field must be a valid email address."]}),
        ({"email": 5}, {"email": ["The email field must be a string."]}),
    ],
)
def test_refused_registrations(api, sql, change, errors):
    answer = api.post("/api/register", json=ALI | change)
    assert (answer.status_code, answer.json()["errors"]) == (422, errors)
    assert sql.execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_confirmation_that_is_absent(api):
    body = {key: value for key, value in ALI.items() if key != "password_confirmation"}
    answer = api.post("/api/register", json=body)
    assert answer.json()["errors"] == {"password": ["The password field confirmation does not match."]}


def test_email_is_taken_in_any_case_and_by_one_of_many_at_once(api, sql):
    def register(number):
        email = "ALI@example.com" if number % 2 else "ali@example.com"
        return api.post("/api/register", json={**ALI, "email": email})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(register, range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [422] * 7
    refused = next(answer for answer in answers if answer.status_code == 422)
    assert refused.json()["errors"] == {"email": ["The email has already been taken."]}
    assert sql.execute("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM tokens)").fetchone() == (1, 1)


def test_closed_registration(api, configured):
    configured(REGISTRATION="closed")
    answer = api.post("/api/register", json=ALI)
    assert (answer.status_code, answer.json()) == (403, {"success": False, "message": "Registration is closed"})


def test_logout_ends_the_token_used_and_no_other(api, ali):
    second = ali.token(kind="session")
    answer = api.post("/api/logout", headers=second)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "message": "Logout successful"})
    assert api.get("/api/user", headers=second).status_code == 401
    assert api.post("/api/logout", headers=second).status_code == 401
    assert api.get("/api/user", headers=ali.headers).status_code == 200


def test_failed_logins_are_limited_by_account(api):
    api.post("/api/register", json=ALI)
    right, wrong = ({"email": ALI["email"], "password": password} for password in ("secret", "wrong"))
    for _ in range(9):
        assert api.post("/api/login", json=wrong).status_code == 401
    for _ in range(5):
        assert api.post("/api/login", json=right).status_code == 200
    assert api.post("/api/login", json=wrong | {"email": "ALI@EXAMPLE.COM"}).status_code == 401
    for body in (wrong, right):
        answer = api.post("/api/login", json=body)
        assert (answer.status_code, answer.json()) == (429, {"success": False, "message": "Too Many Attempts."})
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert api.post("/api/login", json={"email": "b@example.com", "password": "x"}).status_code == 401


def test_a_login_without_a_password_is_no_try(api):
    for password in ("", None):
        for _ in range(6):
            answer = api.post("/api/login", json={"email": ALI["email"], "password": password})
            assert (answer.status_code, answer.json()["errors"]) == (
                422,
                {"password": ["The password field is required."]},
            )
    assert api.post("/api/login", json={"email": ALI["email"], "password": "wrong"}).status_code == 401


def test_many_failed_logins_at_once_are_no_way_around(api):
    with ThreadPoolExecutor(20) as pool:
        body = {"email": "a@example.com", "password": "wrong"}
        answers = list(pool.map(lambda _: api.post("/api/login", json=body).status_code, range(40)))
    assert (answers.count(401), answers.count(429)) == (10, 30)


def test_logins_are_limited_by_address(api):
    codes = [api.post("/api/login", json={}).status_code for _ in range(101)]
    assert codes == [422] * 100 + [429]


def test_an_email_that_looks_like_an_address_is_counted_apart_from_it(api):
    for _ in range(11):
        answer = api.post("/api/login", json={"email": "127.0.0.1", "password": "x"})
    assert answer.status_code == 429
    codes = [api.post("/api/login", json={}).status_code for _ in range(90)]
    assert codes == [422] * 89 + [429]


def test_registrations_are_limited_by_address(api):
    codes = [api.post("/api/register", json={}).status_code for _ in range(31)]
    assert codes == [422] * 30 + [429]
    assert api.post("/api/login", json={}).status_code == 422


def test_signing_in_goes_on_without_valkey(api, servers):
    api.post("/api/register", json=ALI)
    servers.valkey.stop()
    try:
        began = time.monotonic()
        codes = [api.post("/api/login", json={"email": ALI["email"], "password": "no"}).status_code for _ in range(12)]
        took = time.monotonic() - began
    finally:
        servers.valkey.start()
    assert codes == [401] * 12
    assert took < 5
    until(lambda: api.post("/api/login", json={"email": "x@y.z", "password": "no"}).status_code == 429)


def test_signing_in_goes_on_where_valkey_hangs(api, configured):
    """A server that takes connections and never answers costs a moment, not the request."""
    from app.core import throttling

    api.post("/api/register", json=ALI)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        configured(REDIS_URL=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        throttling._counters.cache_clear()
        try:
            began = time.monotonic()
            assert api.post("/api/login", json={"email": ALI["email"], "password": "secret"}).status_code == 200
            assert time.monotonic() - began < 3
        finally:
            throttling._counters.cache_clear()


def test_a_program_that_says_nothing_of_itself_signs_in(gateway, database):
    """Its requests have no User-Agent, as those of sockets and of some libraries."""
    import http.client
    import json

    person = {"name": "Ali", "email": "ali@example.com", "password": "secret", "password_confirmation": "secret"}
    for path, status in (("/api/register", 201), ("/api/login", 200)):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        connection.request("POST", path, json.dumps(person), {"Content-Type": "application/json"})
        assert connection.getresponse().status == status
        connection.close()
