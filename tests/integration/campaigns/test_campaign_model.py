"""Any sequence of feeds, pulls, reports, pauses, resumes, cancels, retries and deaths of phones leaves a campaign in a
possible state, its counts equal to the rows, each recipient with one message, and nothing given out while it stands."""

from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from app.accounts import signin, tokens
from app.accounts.principals import Principal
from app.campaigns import life, progress, records, stopping, supervising
from app.campaigns.models import Campaign
from app.core.database import transaction
from app.core.errors import Refused
from app.core.security import digest
from app.devices import enrolling
from app.messages.dispatch import handout, routing
from app.messages.life import expiry, moving, opting_out, reports, retrying, transitions
from app.messages.life.transitions import Change
from app.messages.states import Event
from app.mobile import wire

RECIPIENTS = 12
POSSIBLE = {
    "running": {"paused", "cancelled", "finished"},
    "paused": {"running", "cancelled", "finished"},
    "finished": {"running", "paused", "cancelled"},
    "cancelled": set(),
}
NO_SERVICE = "Send result: RESULT_ERROR_NO_SERVICE"
GENERIC = "Send result: RESULT_ERROR_GENERIC_FAILURE (1)"
RECOUNT = """
    SELECT CASE WHEN m.id IS NULL THEN 'not_made' WHEN m.status <> 'pending' THEN m.status
                WHEN q.stage = 0 THEN 'waiting' WHEN q.stage = 3 THEN 'held' ELSE 'given' END AS place,
           count(*) AS n, count(*) FILTER (WHERE m.uncertain) AS uncertain
    FROM campaign_recipients r LEFT JOIN messages m ON m.id = r.message_id
    LEFT JOIN message_queue q ON q.message_id = m.id WHERE r.campaign_id = :id GROUP BY 1
"""
numbers = count()


class CampaignLife(RuleBasedStateMachine):
    @initialize(rule=st.booleans(), canary=st.booleans())
    def begin(self, rule, canary):
        with transaction() as session:
            user = signin.add_user(session, name="x", email=f"campaign{next(numbers)}@example.com", password_hash=None)
            self.user = user.id
            token = tokens.issue(session, user.id, "session", "x")
            owner = Principal(
                user.id, token.id, "session", frozenset({"*"}), is_premium=False, default_device_id=None,
                default_region=None,
            )  # fmt: skip
            self.phones = [enrolling.enroll(session, owner, f"phone {n}", [], None) for n in range(2)]
            for device, _ in self.phones:
                device.app_version = "1.68.0"
            campaign = Campaign(user_id=user.id, name="x", message="Hello", recipients=RECIPIENTS)
            campaign.stop_rule = {"failed_share": 0.5, "of_last": 4} if rule else None
            campaign.canary = {"first": 3, "sent_share": 0.5, "within_minutes": 5} if canary else None
            session.add(campaign)
            session.flush()
            self.id = campaign.id
            session.execute(
                text(
                    "INSERT INTO campaign_recipients (campaign_id, place, number)"
                    " SELECT :id, n, '+9989011122' || lpad(n::text, 2, '0') FROM generate_series(1, :most) n"
                ),
                {"id": self.id, "most": RECIPIENTS},
            )
            life.start(session, campaign, None)
        self.status = "running"
        self.given: dict[str, int] = {}
        self.stands = False
        self.on_air: set[str] = set()

    def campaign(self, session):
        return records.find(session, self.user, str(self.id), lock=True)

    @rule()
    def look(self):
        with transaction() as session:
            session.execute(
                text("UPDATE campaigns SET next_look_at = clock_timestamp() WHERE next_look_at IS NOT NULL")
            )
        with transaction() as session:
            supervising.look(session, self.user)

    @rule()
    def route(self):
        with transaction() as session:
            routing.route_waiting(session, self.user)

    @rule(phone=st.integers(0, 1))
    def pull(self, phone):
        _, token = self.phones[phone]
        with transaction() as session:
            session.execute(text("UPDATE message_queue SET offered_at = offered_at - interval '31 s'"))
            ((_, answer),) = opting_out.hand_out(session, [handout.Pull(digest(token), "1.68.0")])
        for message in answer:
            name = reports.wire_name(message.message_id, message.attempt)
            assert not self.stands or name in self.given, "given out after a pause or a cancel had answered"
            assert self.given.setdefault(name, phone) == phone

    @rule()
    def feed_and_pull(self):
        self.look()
        self.route()
        for phone in (0, 1):
            self.pull(phone)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), state=st.sampled_from(["Processed", "Sent", "Delivered", "Cancelled"]))
    def report(self, data, state):
        self.tell(data.draw(st.sampled_from(sorted(self.given))), state, None)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), error=st.sampled_from([NO_SERVICE, GENERIC]))
    def report_failure(self, data, error):
        self.tell(data.draw(st.sampled_from(sorted(self.given))), "Failed", error)

    @precondition(lambda self: self.given)
    @rule(state=st.sampled_from(["Delivered", "Failed"]))
    def report_all(self, state):
        for name in sorted(self.given):
            self.tell(name, state, GENERIC if state == "Failed" else None)

    def tell(self, name, state, error):
        item = {"id": name, "state": state, "recipients": [{"phoneNumber": "x", "state": state, "error": error}]}
        _, token = self.phones[self.given[name]]
        with transaction() as session:
            reports.record(session, [reports.Reported(digest(token), [wire.parse_report(item)])])

    @rule()
    def pause(self):
        try:
            stopping.pause(self.user, str(self.id))
        except Refused:
            return
        self.stands = True

    @rule()
    def cancel(self):
        try:
            stopping.cancel(self.user, str(self.id))
        except Refused:
            return
        self.stands = True

    @rule()
    def resume(self):
        try:
            with transaction() as session:
                life.resume(session, self.campaign(session))
        except Refused:
            return
        self.stands = False

    @rule(uncertain=st.booleans())
    def retry_failed(self, uncertain):
        try:
            with transaction() as session:
                life.retry_failed(session, self.campaign(session), uncertain=uncertain)
        except Refused:
            return

    @rule(place=st.integers(1, RECIPIENTS))
    def retry_one(self, place):
        rows = self.rows(
            "SELECT m.* FROM messages m JOIN campaign_recipients r ON r.message_id = m.id"
            " WHERE r.campaign_id = :id AND r.place = :place AND m.status = 'failed'",
            place=place,
        )
        # One of a campaign that is over goes by itself.
        if rows and self.status != "cancelled":
            with transaction() as session:
                retrying.retry(session, rows[0]._mapping)

    @rule(event=st.sampled_from([Event.SENT, Event.WITHDRAWN, Event.RECALLED]), place=st.integers(1, RECIPIENTS))
    def owner_says(self, event, place):
        rows = self.rows(
            "SELECT message_id FROM campaign_recipients WHERE campaign_id = :id AND place = :place", place=place
        )
        with transaction() as session:
            transitions.apply(session, [Change(row.message_id, event) for row in rows if row.message_id])

    @rule(phone=st.integers(0, 1))
    def lose(self, phone):
        with transaction() as session:
            session.execute(
                text("UPDATE device_state SET seen_at = clock_timestamp() - interval '1 hour', pulled_at = NULL"
                     " WHERE device_id = :id"),
                {"id": self.phones[phone][0].id},
            )  # fmt: skip
        with transaction() as session:
            moving.move(session, self.user)

    @rule(minutes=st.sampled_from([0, 11]))
    def expire(self, minutes):
        with transaction() as session:
            session.execute(
                text(
                    "UPDATE message_queue SET valid_until = clock_timestamp() - make_interval(mins => :minutes)"
                    " WHERE message_id = (SELECT min(message_id) FROM message_queue WHERE user_id = :user)"
                ),
                {"minutes": minutes, "user": self.user},
            )
        with transaction() as session:
            expiry.expire(session)

    @rule()
    def fold(self):
        with transaction() as session:
            progress.fold_all(session)

    @invariant()
    def the_state_is_possible_and_the_counts_are_the_rows(self):
        if not hasattr(self, "id"):
            return
        [(status,)] = self.rows("SELECT status FROM campaigns WHERE id = :id")
        assert status == self.status or status in POSSIBLE[self.status], (self.status, status)
        if status != self.status and status in {"running", "finished"}:
            self.stands = False
        self.status = status
        found = self.rows(RECOUNT)
        expected = {row.place: row.n for row in found}
        with transaction() as session:
            told = progress.counts(session, [self.id])[self.id].model_dump()
            detail = progress.detail(session, session.get(Campaign, self.id)).counts.model_dump()
        assert told == detail
        assert told.pop("recipients") == RECIPIENTS
        assert told.pop("uncertain") == sum(row.uncertain for row in found)
        assert {name: n for name, n in told.items() if n} == expected
        [(made, of_recipients)] = self.rows(
            "SELECT (SELECT count(*) FROM messages WHERE campaign_id = :id),"
            " (SELECT count(DISTINCT message_id) FROM campaign_recipients WHERE campaign_id = :id)"
        )
        assert made == of_recipients, "a message of each recipient, and of nobody else"
        if status == "finished":
            assert "not_made" not in expected
        if self.stands:
            assert "waiting" not in expected

    def rows(self, statement, **values):
        with transaction() as session:
            return session.execute(text(statement), {"id": self.id} | values).all()


@pytest.mark.timeout(300)
def test_the_life_of_a_campaign(database):
    limits = settings(
        max_examples=15,
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(CampaignLife, settings=limits)
