"""What a pull costs: limits and SIM choice are paid for by the phones that have them."""

import pytest
from sqlalchemy import event

from app.core.database import get_hot_engine, transaction
from app.core.security import digest
from app.messages.dispatch import handout
from app.messages.life import opting_out


@pytest.fixture
def statements():
    """The statements of one hand-out."""

    def of(phone):
        seen = []

        def note(_connection, _cursor, statement, *_):
            seen.append(" ".join(statement.split()))

        event.listen(get_hot_engine(), "before_cursor_execute", note)
        try:
            with transaction(hot=True) as session:
                opting_out.hand_out(session, [handout.Pull(digest(phone.token), "1.68.0")])
        finally:
            event.remove(get_hot_engine(), "before_cursor_execute", note)
        return seen

    return of


def test_a_pull_takes_seven_statements_at_most(phone, send, statements, later):
    assert len(statements(phone)) <= 6, "nothing to give"
    send()
    with_one = statements(phone)
    assert len(with_one) <= 7
    assert not any("device_releases" in statement for statement in with_one)


def test_only_phones_with_limits_pay_for_them(phone, send, statements, settings_of):
    settings_of(phone, limits={"per_minute": 10})
    send()
    assert any("device_releases" in statement for statement in statements(phone))
