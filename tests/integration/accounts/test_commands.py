"""`smsfleet user` and `smsfleet promo`."""

import json
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from app.accounts.commands import promo_app, user_app


def run(app, *arguments):
    return CliRunner().invoke(app, arguments)


def test_created_user_can_log_in_with_the_password_printed(api, configured):
    configured(REGISTRATION="closed")
    made = run(user_app, "create", " Ali@example.com ", "--name", "Ali")
    assert made.exit_code == 0
    password = re.fullmatch(r"user 1 Ali@example.com created, password: (\w{20})\n", made.stdout)[1]
    answer = api.post("/api/login", json={"email": "ali@example.com", "password": password})
    assert answer.json()["data"]["user"] == {"id": 1, "name": "Ali", "email": "Ali@example.com"}


def test_user_that_exists(ali):
    again = run(user_app, "create", ali.email.upper(), "--name", "Ali")
    assert (again.exit_code, again.stdout, "already exists" in again.stderr) == (1, "", True)


@pytest.mark.parametrize("arguments", [["nobody", "--name", "x"], ["a@b.c", "--name", " "], ["a@b.c"]])
def test_refused_users(database, arguments):
    assert run(user_app, "create", *arguments).exit_code == 2


def test_premium(api, ali, sql):
    sql.execute("UPDATE users SET premium_expires_at = '2198-01-31 00:00+00'")
    given = run(user_app, "premium", "ALI@example.com", "--months", "1")
    assert given.stdout == "user ALI@example.com has premium until 2198-02-28T00:00:00.000000Z\n"
    assert run(user_app, "premium", "nobody@example.com", "--months", "1").exit_code == 1
    assert run(user_app, "premium", ali.email, "--months", "0").exit_code == 2


def test_operators(api, ali, sql):
    of = "SELECT is_operator FROM users WHERE email = 'ali@example.com'"
    assert run(user_app, "operator", "ALI@example.com").stdout == "user ALI@example.com is an operator\n"
    assert sql.execute(of).fetchone() == (True,)
    taken = run(user_app, "operator", "ali@example.com", "--revoke")
    assert taken.stdout == "user ali@example.com is no longer an operator\n"
    assert sql.execute(of).fetchone() == (False,)
    assert run(user_app, "operator", "nobody@example.com").exit_code == 1


def test_an_account_is_blocked_and_no_longer(api, ali):
    assert run(user_app, "block", "ali@example.com").stdout == "user ali@example.com is blocked\n"
    assert api.get("/api/user", headers=ali.headers).status_code == 401
    assert run(user_app, "block", "ali@example.com", "--undo").stdout == "user ali@example.com is no longer blocked\n"
    assert api.get("/api/user", headers=ali.token()).status_code == 200


def test_what_is_logged_of_it_is_no_part_of_the_output(ali):
    command = [sys.executable, "-m", "app.cli", "user", "block", ali.email]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "user ali@example.com is blocked\n"
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["account blocked"]


def test_a_lost_second_factor_is_taken_away(api, ali, sql):
    changed = run(user_app, "password", "ali@example.com")
    credentials = {"email": "ali@example.com", "password": changed.stdout.split()[-1]}
    sql.execute("UPDATE users SET totp_secret = 'JBSWY3DPEHPK3PXP', totp_step = 1")
    assert api.post("/api/login", json=credentials).status_code == 401
    assert run(user_app, "no-second-factor", "ali@example.com").exit_code == 0
    assert api.post("/api/login", json=credentials).status_code == 200


def test_a_printed_link_signs_the_operator_in_once(api, ali, sql):
    printed = run(user_app, "link")
    link = urlsplit(printed.stdout.strip())
    assert (printed.exit_code, link.scheme) == (0, "http")
    # Looking at it does not use it up.
    form_token = re.search(r'name="form_token" value="(\w+)"', api.get(link.path).text)[1]
    form = {"data": {"form_token": form_token}, "headers": {"Origin": str(api.base_url).rstrip("/")}}
    assert api.post(link.path, **form).status_code == 303
    assert api.get("/operators").status_code == 200
    assert sql.execute("SELECT is_operator FROM users").fetchone() == (True,)
    assert api.get(link.path).status_code == 422
    assert api.post(link.path, **form).status_code in {403, 422}


def test_promo_codes(api, ali, sql):
    made = run(promo_app, "create", "summer", "--months", "3", "--uses", "2", "--until", "2198-06-30")
    assert made.stdout == "promo code SUMMER created: 3 months\n"
    run(promo_app, "create", "ever", "--months", "1")
    assert run(promo_app, "create", "Summer", "--months", "1").exit_code == 1
    api.post("/api/subscriptions/redeem-promo", json={"code": "summer"}, headers=ali.headers)
    assert run(promo_app, "list").stdout.splitlines() == [
        "SUMMER  months: 3  used: 1 of 2  ends: 2198-07-01T00:00:00.000000Z",
        "EVER  months: 1  used: 0 of unlimited  ends: never",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["", "--months", "1"],
        ["x", "--months", "0"],
        ["x", "--months", "1", "--until", "soon"],
        ["x", "--months", "1", "--until", "2026-06-30"],
        ["x" * 65, "--months", "1"],
    ],
)
def test_refused_promo_codes(database, arguments):
    assert run(promo_app, "create", *arguments).exit_code == 2


def test_users_are_listed(api, ali, sql):
    (line,) = run(user_app, "list").stdout.splitlines()
    assert line.startswith(f"{ali.id}  ali@example.com  not confirmed  free  created: ")


def test_a_password_is_set_and_ends_sessions(api, ali):
    made = run(user_app, "password", "ALI@example.com")
    password = re.fullmatch(rf"user {ali.id} ali@example.com, new password: (\w{{20}})\n", made.stdout)[1]
    assert api.get("/api/user", headers=ali.headers).status_code == 401
    assert api.post("/api/login", json={"email": ali.email, "password": password}).status_code == 200
    assert run(user_app, "password", "nobody@example.com").exit_code == 1


def test_a_user_is_deleted_after_a_question(api, ali, sql):
    assert CliRunner().invoke(user_app, ["delete", ali.email], input="n\n").exit_code == 1
    assert api.get("/api/user", headers=ali.headers).status_code == 200
    assert run(user_app, "delete", str(ali.id), "--yes").exit_code == 0
    assert api.get("/api/user", headers=ali.headers).status_code == 401
    assert run(user_app, "list").stdout == ""
    assert run(user_app, "delete", ali.email, "--yes").stderr == "there is no user ali@example.com\n"
