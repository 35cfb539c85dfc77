"""An opt-out against what is under way when it comes, each side held open: after its commit nothing leaves for the
number but what a phone was given before.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.campaigns import supervising
from app.core.database import transaction
from app.core.security import digest
from app.messages.accepting import bulk, intake, requests
from app.messages.accepting.recipients import Recipient
from app.messages.dispatch import handout, routing
from app.messages.life import opting_out
from app.messages.schemas import BulkDraft, SmsDraft
from app.messages.states import Stage
from app.optouts import book, consent
from app.optouts.models import By
from tests.support.waiting import until

NUMBER = "+998901112233"


@pytest.fixture
def phone(phone):
    phone.sync()
    return phone


@pytest.fixture
def others():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def opted_out(sql):
    return sql.execute("SELECT count(*) FROM opt_outs").fetchone()[0]


def waits_for_an_account(sql):
    return sql.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()[0]


def ended(sql):
    return sql.execute(
        "SELECT status, error_message, released_at FROM messages WHERE direction = 'outbound'"
    ).fetchall()


CANCELLED = [("cancelled", opting_out.transitions.RECIPIENT_OPTED_OUT, None)]


def principal(ali):
    from app.accounts.principals import principal_of
    from app.core.security import parse_token

    with transaction() as session:
        return principal_of(session, parse_token(ali.headers["Authorization"].removeprefix("Bearer ")))


def write_bulk(session, ali, phone):
    draft = BulkDraft(message="x", recipients=[NUMBER], device_id=phone.device_id)
    bulk.accept_bulk(session, principal(ali), draft, [Recipient(NUMBER, None, 0)], [])


def write_single(session, ali, phone):
    from app.core.security import parse_token

    draft = SmsDraft(message="x", recipient_number=NUMBER, device_id=phone.device_id)
    token = parse_token(ali.headers["Authorization"].removeprefix("Bearer "))
    intake.accept_one(session, requests.Send(token, draft))


@pytest.mark.parametrize("write", [write_bulk, write_single])
def test_what_is_being_accepted_when_the_stop_comes_is_not_given_out(phone, ali, sql, work, write):
    with transaction() as session:
        write(session, ali, phone)
        assert phone.receive(NUMBER, "STOP") == 200, "it waits for nobody who accepts"
        assert opted_out(sql) == 1
        work(opting_out.withdraw, ali.id)
    assert phone.pull() == []
    assert ended(sql) == CANCELLED
    assert sql.execute("SELECT count(*) FROM message_queue").fetchone() == (0,)


def test_a_feed_under_way_when_the_stop_comes_gives_nothing_out(phone, running, ali, sql, work):
    with transaction() as session:
        supervising.look(session, ali.id)
        assert phone.receive(NUMBER, "STOP") == 200
        work(opting_out.withdraw, ali.id)
    work(routing.route_waiting, ali.id)
    assert phone.pull() == []
    assert ended(sql) == CANCELLED
    shown = running()
    assert (shown["counts"]["cancelled"], shown["counts"]["waiting"]) == (1, 0)


def test_a_feed_after_the_stop_leaves_it_out(phone, running, ali, sql, work):
    phone.receive(NUMBER, "STOP")
    work(supervising.look, ali.id)
    assert ended(sql) == []
    assert running()["counts"]["left_out"] == 1
    assert sql.execute("SELECT value, reason FROM campaign_left_out").fetchall() == [(NUMBER, "opted_out")]


@pytest.fixture
def running(client, sql, phone):
    """A campaign to one number that is running, and what is shown of it."""
    number = client.post("/api/campaigns", json={"name": "Sale", "message": "Hello"}).json()["data"]["id"]
    sql.execute("INSERT INTO campaign_recipients (campaign_id, place, number) VALUES (%s, 1, %s)", (number, NUMBER))
    sql.execute("UPDATE campaigns SET recipients = 1 WHERE id = %s", (number,))
    assert client.post(f"/api/campaigns/{number}/start").status_code == 200
    return lambda: client.get(f"/api/campaigns/{number}").json()["data"]


def test_what_is_held_or_scheduled_is_withdrawn(phone, running, send, client, ali, sql, work):
    work(supervising.look, ali.id)
    (campaign,) = client.get("/api/campaigns").json()["data"]["data"]
    assert client.post(f"/api/campaigns/{campaign['id']}/pause").status_code == 200
    send("later", recipient_number=NUMBER, send_at=phone.now(3600))
    assert sql.execute("SELECT stage FROM message_queue").fetchall() == [(Stage.HELD,), (Stage.HELD,)]
    phone.receive(NUMBER, "STOP")
    work(opting_out.withdraw, ali.id)
    assert ended(sql) == CANCELLED * 2
    assert client.post(f"/api/campaigns/{campaign['id']}/resume").status_code == 200
    assert phone.pull() == []


def test_it_is_withdrawn_where_no_phone_asks_for_it(phone, ali, sql, work):
    with transaction() as session:
        write_bulk(session, ali, phone)
        phone.receive(NUMBER, "STOP")
        work(opting_out.withdraw, ali.id)
    assert [status for status, *_ in ended(sql)] == ["pending"]
    sql.execute("UPDATE opt_outs SET look_at = clock_timestamp() - interval '3 seconds'")
    with transaction() as session:
        opting_out.sweep(session)
        assert [user for _, user in session.info["reminders"]] == [ali.id]
    work(opting_out.withdraw, ali.id)
    assert ended(sql) == CANCELLED


def test_a_stop_waits_for_the_hand_out_that_has_looked(phone, send, sql, others):
    send("before", recipient_number=NUMBER)
    with transaction() as session:
        ((_, given),) = opting_out.hand_out(session, [handout.Pull(digest(phone.token), "1.68.0")])
        assert [message.text for message in given] == ["before"]
        stop = others.submit(phone.receive, NUMBER, "STOP")
        until(lambda: waits_for_an_account(sql))
        assert opted_out(sql) == 0
    assert stop.result() == 200
    assert opted_out(sql) == 1
    assert [status for status, *_ in ended(sql)] == ["pending"], "the phone has it"


def test_a_hand_out_waits_for_the_stop_that_is_about_to_commit(phone, send, sql, ali, others):
    send("too late", recipient_number=NUMBER)
    send("another", recipient_number="+998901112234")
    with transaction() as session:
        book.add(session, [book.New(ali.id, NUMBER, By.OWNER)])
        consent.settle(session, [ali.id])
        pull = others.submit(phone.pull)
        until(lambda: waits_for_an_account(sql))
        assert not pull.done()
    assert [message["message"] for message in pull.result()] == ["another"]
    assert CANCELLED[0] in ended(sql)


def test_no_other_account_waits_for_it(phone, enroll, other, api, ali, sql):
    theirs = enroll(other, name="theirs")
    body = {"message": "x", "recipient_number": NUMBER, "device_id": theirs.device_id}
    assert api.post("/api/sms", json=body, headers=other.headers).status_code == 201
    with transaction() as session:
        book.add(session, [book.New(ali.id, NUMBER, By.OWNER)])
        consent.settle(session, [ali.id])
        assert [message["message"] for message in theirs.pull()] == ["x"]


def test_a_phone_that_never_got_it_is_not_offered_it_again(enroll, client, sql, later, ali, work):
    old = enroll(version="1.60.0", name="old")
    old.sync()
    body = {"message": "x", "recipient_number": NUMBER, "device_id": old.device_id}
    client.post("/api/sms", json=body)
    assert len(old.pull()) == 1
    later(31)
    assert len(old.pull()) == 1, "as nothing was reported"
    old.receive(NUMBER, "STOP")
    work(opting_out.withdraw, ali.id)
    later(31)
    assert old.pull() == []


def test_the_pace_is_not_spent_on_what_is_cancelled(phone, send, settings_of, sql):
    """A phone with limits chooses with care, and one with a delay has one slot at a time."""
    settings_of(phone, send_delay_seconds=3600, limits={"per_day": 1})
    send("x", recipient_number=NUMBER)
    sql.execute(
        "INSERT INTO opt_outs (user_id, phone_number, by) SELECT user_id, recipient_number, 'owner' FROM messages"
    )
    send("y", recipient_number="+998901112234")
    assert phone.pull() == []
    assert CANCELLED[0] in ended(sql)
    assert [message["message"] for message in phone.pull()] == ["y"]


def test_the_same_number_from_two_phones_at_once_opts_out_once(phone, enroll, sql, others):
    second = enroll(name="second")
    second.sync()
    posts = [others.submit(each.receive, NUMBER, "STOP") for each in (phone, second)]
    assert [post.result() for post in posts] == [200, 200]
    assert opted_out(sql) == 1


@pytest.fixture
def held_after_adding(sql):
    """Who has added an opt-out, or found one there, goes no further before `sql` has unlocked it."""
    sql.execute(
        "CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END'"
    )
    sql.execute("CREATE TRIGGER wait_here AFTER INSERT ON opt_outs FOR STATEMENT EXECUTE FUNCTION wait_here()")
    sql.execute("SELECT pg_advisory_lock(1)")
    yield
    sql.execute("SELECT pg_advisory_unlock_all()")
    sql.execute("DROP FUNCTION wait_here CASCADE")


@pytest.mark.usefixtures("held_after_adding")
def test_one_that_is_removed_while_it_is_added_again_is_there_afterwards(client, ali, sql, others):
    sql.execute("INSERT INTO opt_outs (user_id, phone_number, by) VALUES (%s, %s, 'owner')", (ali.id, NUMBER))
    answer = others.submit(client.post, "/api/opt-outs", json={"phone_number": NUMBER})
    until(lambda: waits_for_an_account(sql))
    sql.execute("DELETE FROM opt_outs")
    sql.execute("SELECT pg_advisory_unlock(1)")
    assert answer.result().status_code == 201, answer.result().text
    assert opted_out(sql) == 1
