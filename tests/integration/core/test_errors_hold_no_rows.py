"""What the server says of a row that it refuses has the row's values: none gets into an error, and so into a log."""

import traceback

import pytest
from sqlalchemy import text

from app.core.arrays import copy_table
from app.core.database import transaction
from tests.support.messages_of import add_message

SECRET = "Your code is 4711"


def told(work):
    with pytest.raises(Exception) as caught:
        work()
    return "".join(traceback.format_exception(caught.value)), caught.value


@pytest.fixture
def row(sql, ali):
    return {"id": add_message(sql, ali, message=SECRET), "user": ali.id, "number": "+998901234567"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE messages SET status = 'nonsense' WHERE id = :id",
        "INSERT INTO users (name, email, email_key) SELECT name, email, email_key FROM users WHERE id = :user",
        "INSERT INTO contacts (user_id, phone_number) VALUES (:user, :number), (:user, :number)",
    ],
)
def test_a_refused_statement(row, statement):
    def work():
        with transaction() as session:
            session.execute(text(statement), {key: row[key] for key in row if f":{key}" in statement})

    shown, error = told(work)
    assert error.orig.diag.message_detail, "the server has said more than its first line"
    assert "violates" in shown
    for value in (SECRET, "ali@example.com", "+998901234567", "DETAIL"):
        assert value not in shown


def test_a_refused_copy(database, row):
    def work():
        with transaction() as session:
            values = (row["user"], "+998901234567", SECRET)
            copy_table(session, "contacts", {"user_id": "bigint", "phone_number": "text", "name": "text"}, [values] * 2)

    shown, error = told(work)
    assert "+998901234567" in error.diag.message_detail
    for value in (SECRET, "+998901234567", "DETAIL", "CONTEXT"):
        assert value not in shown
