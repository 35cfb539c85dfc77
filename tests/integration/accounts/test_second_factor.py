"""Signing in with a second factor, as somebody tries who has the password."""

import time

import pytest

from app.accounts import login_limits, second_factor
from app.core.security import digest

PASSWORD = "long enough for me"
SECRET = "JBSWY3DPEHPK3PXP"
RECOVERY = ["abcdefghijk1", "abcdefghijk2"]


@pytest.fixture
def sign_in(api, sql, monkeypatch):
    """Signs Ali in, who has a second factor, with a code; the answer."""
    monkeypatch.setattr(login_limits, "FAILED_LOGINS", 1000)
    person = {"name": "Ali", "email": "ali@example.com", "password": PASSWORD, "password_confirmation": PASSWORD}
    assert api.post("/api/register", json=person).status_code == 201
    hashes = [digest(each) for each in RECOVERY]
    sql.execute("UPDATE users SET totp_secret = %s, totp_step = 1, recovery_codes = %s", [SECRET, hashes])

    def sign_in(code=None):
        given = {"email": "ali@example.com", "password": PASSWORD, "code": code}
        return api.post("/api/login", json=given)

    return sign_in


def code_now():
    return second_factor.code_of(SECRET, int(time.time()) // second_factor.STEP_SECONDS)


def test_a_code_is_good_once_and_none_before_it_is_any_more(sign_in) -> None:
    step = int(time.time()) // second_factor.STEP_SECONDS
    code = second_factor.code_of(SECRET, step)
    assert sign_in().status_code == 401
    assert sign_in(code).status_code == 200
    assert sign_in(code).status_code == 401
    assert sign_in(second_factor.code_of(SECRET, step - 1)).status_code == 401
    assert sign_in(RECOVERY[0]).status_code == 200
    assert sign_in(RECOVERY[0]).status_code == 401


def test_codes_are_not_guessed_for_long_and_recovery_codes_go_on_working(sign_in) -> None:
    good = {second_factor.code_of(SECRET, int(time.time()) // 30 + step) for step in range(-2, 10)}
    wrong = next(code for code in ("123456", "123457") if code not in good)
    for _ in range(login_limits.WRONG_CODES_A_DAY):
        assert sign_in(wrong).status_code == 401
    refused = sign_in(code_now())
    assert refused.status_code == 429
    assert 86_000 < int(refused.headers["Retry-After"]) <= 86_400
    assert sign_in(RECOVERY[1]).status_code == 200
    assert sign_in(code_now()).status_code == 429


def test_right_codes_are_not_counted(sign_in, monkeypatch, sql) -> None:
    monkeypatch.setattr(login_limits, "WRONG_CODES_A_DAY", 2)
    for _ in range(4):
        sql.execute("UPDATE users SET totp_step = 1")
        assert sign_in(code_now()).status_code == 200
