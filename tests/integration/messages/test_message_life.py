"""Any sequence of sends, pulls, reports, cancels, retries, moves, expiries and deletes leaves a message in a possible
state, the counters equal to the rows, and no message on two phones."""

from collections import Counter
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from app.accounts import signin, tokens, usage
from app.accounts.principals import Principal
from app.accounts.usage import UsageKind
from app.core.database import transaction
from app.core.errors import Refused
from app.core.security import digest, parse_token
from app.devices import enrolling
from app.messages.accepting import intake, requests
from app.messages.dispatch import handout, routing
from app.messages.life import cancelling, expiry, moving, opting_out, reports, retrying, transitions
from app.messages.life.transitions import Change
from app.messages.schemas import SmsDraft
from app.messages.states import Event, Status
from app.mobile import wire

STATES = ["Pending", "Processed", "Sent", "Delivered", "Failed", "Cancelled", "Cancelling"]
LEFT = {"Sent", "Delivered"}
POSSIBLE = {
    "pending": {"sent", "delivered", "failed", "cancelled"},
    "sent": {"delivered", "failed"},
    "failed": {"pending", "sent", "delivered"},
    "cancelled": {"sent", "delivered", "failed"},
    "delivered": set(),
}
numbers = count()


class Life(RuleBasedStateMachine):
    messages = Bundle("messages")

    @initialize()
    def begin(self):
        with transaction() as session:
            user = signin.add_user(session, name="x", email=f"life{next(numbers)}@example.com", password_hash=None)
            self.user = user.id
            token = tokens.issue(session, user.id, "session", "x")
            self.key = parse_token(token.plain)
            owner = Principal(
                user.id,
                token.id,
                "session",
                frozenset({"*"}),
                is_premium=False,
                default_device_id=None,
                default_region=None,
            )
            self.phones = [enrolling.enroll(session, owner, f"phone {n}", [], None) for n in range(2)]
            for device, _ in self.phones:
                device.app_version = "1.68.0"
            session.execute(
                text(
                    "INSERT INTO webhook_urls (user_id, hook, url, origin)"
                    " VALUES (:user, 'status', 'http://example.org/s', 'http://example.org:80')"
                ),
                {"user": user.id},
            )
        self.given: dict[str, int] = {}
        self.reported: set[str] = set()
        self.statuses: dict[int, str] = {}
        self.names: dict[int, set[str]] = {}
        self.withdrawn: set[int] = set()
        self.left: set[tuple[int, int]] = set()

    def send(self, named):
        device = "active" if named is None else self.phones[named][0].id
        draft = SmsDraft(message="x", recipient_number="+998901112233", device_id=device)
        with transaction() as session:
            (outcome,) = intake.accept(session, [requests.Send(self.key, draft)])
        if isinstance(outcome, Refused):
            return None
        self.statuses[outcome["id"]] = "pending"
        self.names[outcome["id"]] = set()
        self.route()
        return outcome["id"]

    @rule()
    def route(self):
        with transaction() as session:
            routing.route_waiting(session, self.user)

    @rule(target=messages, named=st.sampled_from([None, 0, 1]))
    def only_send(self, named):
        return self.send(named)

    @rule(target=messages, named=st.sampled_from([None, 0, 1]), state=st.sampled_from(STATES))
    def send_and_hear(self, named, state):
        """What mostly happens, so that the rest meets messages which phones have."""
        message = self.send(named)
        known = set(self.given)
        for phone in (0, 1):
            self.pull(phone, waits=False)
        for name in set(self.given) - known:
            self.tell(name, state, set())
        return message

    @rule(phone=st.integers(0, 1), waits=st.booleans())
    def pull(self, phone, waits):
        device, token = self.phones[phone]
        with transaction() as session:
            if waits:
                session.execute(
                    text("UPDATE message_queue SET offered_at = offered_at - interval '31 s' WHERE user_id = :user"),
                    {"user": self.user},
                )
            ((owner, answer),) = opting_out.hand_out(session, [handout.Pull(digest(token), "1.68.0")])
        assert owner == device.id
        for message in answer:
            name = reports.wire_name(message.message_id, message.attempt)
            assert self.given.setdefault(name, phone) == phone, "given to a second phone"
            if not message.cancelling:
                assert name not in self.reported, "given again after a report"
                number = self.number(message.message_id)
                assert number not in self.withdrawn
                self.names[number].add(name)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), state=st.sampled_from(STATES), history=st.sets(st.sampled_from(["Sent", "Delivered"])))
    def report(self, data, state, history):
        self.tell(data.draw(st.sampled_from(sorted(self.given))), state, history)

    @precondition(lambda self: self.given)
    @rule(state=st.sampled_from(STATES), back=st.integers(1, 3))
    def report_of_a_late_one(self, state, back):
        self.tell(sorted(self.given)[-min(back, len(self.given))], state, set())

    def tell(self, name, state, history):
        item = {
            "id": name,
            "state": state,
            "recipients": [{"phoneNumber": "x", "state": state}],
            "states": dict.fromkeys(history, "2026-06-08T10:00:00.000Z"),
        }
        _, token = self.phones[self.given[name]]
        uuid, attempt = reports.parse_wire_name(name)
        (before,) = self.rows("SELECT id, attempt, left_attempt FROM messages WHERE message_id = :uuid", uuid=uuid)
        with transaction() as session:
            assert reports.record(session, [reports.Reported(digest(token), [wire.parse_report(item)])]) == [None]
        self.reported.add(name)
        told = {state, *history} & LEFT
        # That an earlier sending left is no news where that was known when its owner asked for another, nor beside its
        # failure.
        known = attempt <= before.left_attempt or state in {"Failed", "Cancelled"}
        if told and ("Delivered" in told or attempt == before.attempt or not known):
            (status,) = self.rows("SELECT status FROM messages WHERE id = :id", id=before.id)[0]
            assert status in {"sent", "delivered", "failed"}, "what left is believed"
        if told:
            self.left.add((before.id, attempt))

    @rule(message=messages)
    def cancel(self, message):
        if message is None or self.deleted(message):
            return
        with transaction() as session:
            asked = cancelling.ask(session, self.user, str(message))
        if asked.status is Status.CANCELLED:
            (attempt, uuid) = self.rows("SELECT attempt, message_id FROM messages WHERE id = :id", id=message)[0]
            assert reports.wire_name(uuid, attempt) not in self.given, "a phone may still send it"
            self.withdrawn.add(message)

    @rule(message=messages)
    def retry(self, message):
        if message is None or self.deleted(message):
            return
        (row,) = self.rows("SELECT * FROM messages WHERE id = :id", id=message)
        try:
            with transaction() as session:
                retrying.retry(session, row._mapping)
        except Refused:
            return
        assert row.status == "failed"
        (left,) = self.rows("SELECT left_attempt FROM messages WHERE id = :id", id=message)[0]
        assert not left or (message, left) in self.left, "only what was told is known"
        self.withdrawn.discard(message)
        self.route()

    @rule(message=messages, event=st.sampled_from([Event.SENT, Event.DELIVERED, Event.FAILED, Event.DELETED]))
    def owner_says(self, message, event):
        if message is not None:
            (attempt,) = self.rows("SELECT attempt FROM messages WHERE id = :id", id=message)[0]
            with transaction() as session:
                transitions.apply(session, [Change(message, event)])
            if event in {Event.SENT, Event.DELIVERED}:
                self.left.add((message, attempt))

    @rule(message=messages, minutes=st.sampled_from([0, 11]))
    def expire(self, message, minutes):
        with transaction() as session:
            session.execute(
                text(
                    "UPDATE message_queue SET valid_until = clock_timestamp() - make_interval(mins => :minutes)"
                    " WHERE message_id = :message"
                ),
                {"minutes": minutes, "message": message},
            )
        with transaction() as session:
            expiry.expire(session)

    @rule(phone=st.integers(0, 1), active=st.sampled_from([False, True, True]))
    def switch(self, phone, active):
        with transaction() as session:
            session.execute(
                text("UPDATE devices SET is_active = :active WHERE id = :id"),
                {"active": active, "id": self.phones[phone][0].id},
            )
        with transaction() as session:
            moving.move(session, self.user)
        self.route()

    @invariant()
    def every_change_was_possible(self):
        if not hasattr(self, "user"):
            return
        found = self.rows(
            "SELECT m.id, m.status, m.deleted_at IS NOT NULL AS deleted, m.uncertain,"
            " q.message_id IS NOT NULL AS queued"
            " FROM messages m LEFT JOIN message_queue q ON q.message_id = m.id WHERE m.user_id = :user",
            user=self.user,
        )
        for row in found:
            before = self.statuses[row.id]
            assert row.status == before or self.reachable(before, row.status), (before, row.status)
            assert row.queued == (row.status == "pending"), "a queue row for pending ones, and for no others"
            assert not row.uncertain or row.status == "failed"
            self.statuses[row.id] = row.status
        self.counters_are_the_rows(found)

    @staticmethod
    def reachable(before, after):
        """In one rule, which may pass several statuses."""
        seen, waiting = set(), {before}
        while waiting:
            status = waiting.pop()
            seen.add(status)
            waiting |= {found for found in POSSIBLE[status] if found != "pending" or before == "failed"} - seen
        return after in seen

    def counters_are_the_rows(self, found):
        with transaction() as session:
            figures = usage.figures(session, self.user)
            visible = usage.visible(session, self.user)
        by_status = Counter(row.status for row in found)
        assert figures[UsageKind.ACCEPTED].total == len(found)
        assert figures[UsageKind.SENT].total == sum(by_status[status] for status in ("sent", "delivered", "failed"))
        for kind in (UsageKind.DELIVERED, UsageKind.FAILED, UsageKind.CANCELLED):
            assert figures[kind].total == by_status[kind.value]
        shown = Counter(row.status for row in found if not row.deleted)
        assert {status: n for status, n in visible.by_status.items() if n} == dict(shown)

    @staticmethod
    def rows(statement, **values):
        with transaction() as session:
            return session.execute(text(statement), values).all()

    def number(self, uuid):
        return self.rows("SELECT id FROM messages WHERE message_id = :uuid", uuid=uuid)[0].id

    def deleted(self, message):
        return self.rows("SELECT deleted_at FROM messages WHERE id = :id", id=message)[0].deleted_at is not None


@pytest.mark.timeout(300)
def test_the_life_of_a_message(database):
    limits = settings(
        max_examples=30,
        stateful_step_count=40,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(Life, settings=limits)
