"""Getting in and out, in a browser."""

import re

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.needs_browser

PASSWORD = "correct horse"


def link(path="/start/"):
    from app.accounts import sign_in_links
    from app.core import operator_link
    from app.core.database import transaction

    secret = operator_link.new_secret()
    with transaction() as session:
        sign_in_links.make(session, secret)
    return path + secret


def fill_account(visitor, email="ali@example.com"):
    page = visitor.page
    page.fill("#name", "Ali")
    page.fill("#email", email)
    page.fill("#password", PASSWORD)
    page.fill("#password_confirmation", PASSWORD)


def test_the_first_start_makes_the_operator_and_the_link_is_good_once(browse, sql) -> None:
    visitor = browse()
    address = link()
    visitor.open(address)
    visitor.is_accessible()
    fill_account(visitor)
    visitor.submit("Make the account")
    visitor.says("First steps")
    assert sql.execute("SELECT email, is_operator FROM users").fetchall() == [("ali@example.com", True)]

    other = browse()
    other.open(address)
    other.says("already used")
    other.complaints.clear()  # the browser reports the status
    other.open(link())
    other.submit("Sign in")
    other.says("First steps")


def test_an_account_that_was_there_first_becomes_an_operators_only_where_that_is_said(browse, ali, sql) -> None:
    visitor = browse()
    visitor.open(link())
    visitor.says("This link makes ali@example.com the operator")
    visitor.says("If that account is not yours, do not go on")
    visitor.is_accessible()
    visitor.submit("Make it the operator and sign in")
    visitor.says("First steps")
    made = "SELECT user_id, details->>'by' FROM audit_events WHERE action = 'operator_made'"
    assert sql.execute(made).fetchall() == [(ali.id, "link")]
    visitor.submit("Sign out")
    visitor.open(link())
    visitor.says("This link signs you in as ali@example.com")
    visitor.submit("Sign in")
    assert sql.execute(made).fetchall() == [(ali.id, "link")]


def test_signing_in_and_out(browse, sql) -> None:
    visitor = browse()
    visitor.open("/messages?status=failed")
    assert visitor.page.url.endswith("/sign-in?next=/messages%3Fstatus%3Dfailed")
    visitor.is_accessible()
    visitor.page.get_by_role("link", name="Make an account").click()
    visitor.is_accessible()
    fill_account(visitor)
    visitor.page.fill("#password_confirmation", "another")
    visitor.submit("Make the account")
    visitor.says("confirmation does not match")
    assert visitor.page.input_value("#name") == "Ali"
    visitor.complaints.clear()
    fill_account(visitor)
    visitor.submit("Make the account")
    visitor.says("First steps")
    visitor.submit("Sign out")
    visitor.says("You are signed out.")
    assert sql.execute("SELECT count(*) FROM tokens").fetchone() == (0,)

    visitor.open("/messages?status=failed")
    visitor.page.fill("#email", "ali@example.com")
    visitor.page.fill("#password", "wrong")
    visitor.submit("Sign in")
    visitor.says("Invalid credentials")
    visitor.complaints.clear()
    visitor.page.fill("#password", PASSWORD)
    visitor.submit("Sign in")
    assert visitor.page.url.endswith("/messages?status=failed")


def test_a_forgotten_password_by_mail(browse, mailbox, sql) -> None:
    visitor = browse()
    visitor.open("/register")
    fill_account(visitor)
    visitor.submit("Make the account")
    visitor.submit("Sign out")
    until(lambda: len(mailbox.mails) == 1)
    visitor.open("/forgot-password")
    visitor.is_accessible()
    visitor.page.fill("#email", "ali@example.com")
    visitor.submit("Send a link")
    visitor.says("is on its way")
    until(lambda: len(mailbox.mails) == 2)
    [path] = re.findall(r"/reset-password\?code=\w+", mailbox.mails[1].get_content())
    visitor.open(path)
    visitor.is_accessible()
    visitor.page.fill("#password", "battery staple")
    visitor.page.fill("#password_confirmation", "battery staple")
    visitor.submit("Set the password")
    visitor.says("Your password is changed.")
    visitor.page.fill("#email", "ali@example.com")
    visitor.page.fill("#password", "battery staple")
    visitor.submit("Sign in")
    visitor.says("First steps")
