"""An account with two phones and three messages in a chosen state, and what must hold of them whatever happens."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.accounts import signin, tokens, usage
from app.accounts.principals import Principal
from app.accounts.usage import UsageKind
from app.campaigns import eligibility, life, progress, supervising
from app.campaigns import records as campaigns
from app.campaigns.schemas import CampaignDraft
from app.core.batching import Later
from app.core.database import transaction
from app.core.errors import AppError, Conflict, is_locked
from app.core.outbound import get_redis
from app.core.security import digest, parse_token
from app.devices import enrolling
from app.messages.accepting import intake, requests
from app.messages.dispatch import handout, marks, releasing, routing
from app.messages.life import cancelling, expiry, moving, opting_out, reports
from app.messages.schemas import SmsDraft
from app.messages.states import Status
from app.mobile import wire
from app.webhooks import claims, records
from app.webhooks.claims import Call
from app.webhooks.sender import Result
from tests.interleavings.harness import runner

APP = "1.68.0"
NUMBER = "+998901112233"
MESSAGES = 3
NO_SERVICE = "Send result: RESULT_ERROR_NO_SERVICE (Failed because service is currently unavailable)"
# This one may have left, so it is not tried elsewhere.
GENERIC = "Send result: RESULT_ERROR_GENERIC_FAILURE (Generic failure cause)"
MAX_ROUNDS = 3
LEFT = {"Sent", "Delivered"}
FINAL = {"delivered", "failed"}
# What ends a transaction for another's sake may be met, a deadlock may not: locks are taken in one order.
DEADLOCK = "40P01"

_EMPTIED = (
    "messages", "message_queue", "message_steps", "usage_deltas", "usage_totals", "device_deltas", "device_totals",
    "webhook_deliveries", "webhook_queue", "webhook_attempts", "webhook_targets", "webhook_urls", "idempotency_keys",
    "queue_marks", "dispatch_cursors", "device_state", "device_health", "opt_outs", "held_campaigns", "campaigns",
    "campaign_recipients", "campaign_left_out", "campaign_totals", "campaign_minutes", "campaign_deltas",
)  # fmt: skip


def hot(flush: Callable[[Session, list[Any]], Any], item: Any, *, autocommit: bool = False) -> Any:
    """A hot call as `core.batching` makes it: again where its row is locked, in a transaction of its own each time."""
    while True:
        try:
            with transaction(hot=True, autocommit=autocommit) as session:
                (outcome,) = flush(session, [item])
        except DBAPIError as error:
            if not is_locked(error):
                raise
            outcome = Later()
        if not isinstance(outcome, Later):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        _wait()


def plain(work: Callable[..., Any], *arguments: Any) -> Any:
    """A plain route; its client repeats it where it is told to come again. What it refuses is its result."""
    while True:
        try:
            with transaction() as session:
                return work(session, *arguments)
        except Conflict:
            pass
        except AppError as refusal:
            return refusal
        except DBAPIError as error:
            if not is_locked(error):
                raise
        _wait()


def again_on_conflict(call: Callable[[], Any]) -> Any:
    """For a call that opens its own transactions."""
    while True:
        try:
            return call()
        except Conflict:
            _wait()


def _wait() -> None:
    runner().waits = True
    time.sleep(0.002)


# What is looked at after a while is looked at now.
_LOOK_AGAIN = text("UPDATE campaigns SET next_look_at = clock_timestamp() WHERE next_look_at IS NOT NULL")
_IS_WAITING = text("SELECT EXISTS (SELECT FROM message_queue WHERE stage IN (0, 3))")
_RECOUNT = text("""
    SELECT CASE WHEN m.id IS NULL THEN 'not_made' WHEN m.status <> 'pending' THEN m.status
                WHEN q.stage = 0 THEN 'waiting' WHEN q.stage = 3 THEN 'held' ELSE 'given' END AS place,
           count(*) AS n, count(DISTINCT m.id) AS messages
    FROM campaign_recipients r LEFT JOIN messages m ON m.campaign_id = r.campaign_id AND m.recipient_number = r.number
    LEFT JOIN message_queue q ON q.message_id = m.id WHERE r.state <> 2 GROUP BY 1
""")


class World:
    """Reset by `begin` for each try."""

    def __init__(self) -> None:
        with transaction() as session:
            user = signin.add_user(session, name="x", email=f"{time.time_ns()}@example.com", password_hash=None)
            assert user is not None
            self.user = user.id
            token = tokens.issue(session, user.id, "session", "x")
            self.key = parse_token(token.plain)
            self.owner = Principal(
                user.id,
                token.id,
                "session",
                frozenset({"*"}),
                is_premium=False,
                default_device_id=None,
                default_region=None,
            )
            self.phones = [enrolling.enroll(session, self.owner, f"phone {n}", [], None) for n in range(2)]
            for device, _ in self.phones:
                device.app_version = APP
            session.flush()
            self.devices = [device.id for device, _ in self.phones]
            self.tokens = [token for _, token in self.phones]
        self._lock = threading.Lock()

    def begin(self, start: str) -> None:
        """Everything as it is before a try, with the messages in the state `start`."""
        self.given: dict[str, set[int]] = defaultdict(set)  # names of messages, and the phones they were given to
        self.on_air: Counter[str] = Counter()
        self.ended: set[str] = set()  # names that a phone will never send: failed there, or taken back
        self.recalled: set[str] = set()
        self.calls: list[Call] = []
        self.claimed: list[list[Call]] = []
        self.retried: Counter[int] = Counter()
        self.withdrawn: set[int] = set()
        self.answers: dict[str, set[tuple[int, ...]]] = defaultdict(set)  # of sends with a key, by route
        self.may_go_twice = False  # by the owner's own retry of what is uncertain
        self.tells = True
        self.moved = False  # what its status webhooks are posted to
        self.owner_spoke = False
        self.campaign = 0
        self.opted_out = False
        get_redis().flushall()  # an operation that is tried again and again would meet its limit
        with transaction() as session:
            session.execute(text("; ".join(f"DELETE FROM {table}" for table in _EMPTIED)))
            session.execute(
                text(
                    "UPDATE devices SET is_active = true, removed_at = NULL, token_hash = u.token FROM"
                    " unnest(CAST(:ids AS bigint[]), CAST(:tokens AS bytea[])) AS u(id, token) WHERE devices.id = u.id"
                ),
                {"ids": self.devices, "tokens": [digest(token) for token in self.tokens]},
            )
            session.execute(
                text("INSERT INTO device_state (device_id, seen_at) SELECT unnest(:ids), clock_timestamp()"),
                {"ids": self.devices},
            )
            session.execute(
                text(
                    "INSERT INTO webhook_urls (user_id, hook, url, origin)"
                    " VALUES (:user, 'status', 'http://example.org/s', 'http://example.org:80')"
                ),
                {"user": self.user},
            )
            STARTS[start](self, session)
            self.messages = [row.id for row in self.rows(session, "SELECT id FROM messages ORDER BY id")]
            self.deliveries = [row.id for row in self.rows(session, "SELECT id FROM webhook_deliveries ORDER BY id")]
            session.info.clear()

    # What phones and their owner do, in a session that is given

    def send(self, key: str | None = None, send_at: datetime | None = None) -> requests.Send:
        draft = SmsDraft(
            message="x",
            recipient_number=NUMBER,
            device_id="active",
            callback_url="http://example.org/c",
            send_at=send_at,
        )
        return requests.Send(self.key, draft, key, b"hash" if key else b"")

    def accept(self, session: Session, send_at: datetime | None = None) -> None:
        for outcome in intake.accept(session, [self.send(None, send_at) for _ in range(MESSAGES)]):
            assert not isinstance(outcome, Exception), outcome

    def route(self, session: Session) -> int:
        return routing.route_waiting(session, self.user)

    def take(self, phone: int, answer: tuple[int, list[handout.Released]]) -> None:
        """What the phone does with the answer to its pull."""
        with self._lock:
            for message in answer[1]:
                name = reports.wire_name(message.message_id, message.attempt)
                self.given[name].add(phone)
                if message.cancelling:
                    self.recalled.add(name)

    def pull(self, phone: int) -> handout.Pull:
        return handout.Pull(digest(self.tokens[phone]), APP)

    def pull_in(self, session: Session) -> None:
        """Both phones pull, those that may."""
        for phone, answer in enumerate(opting_out.hand_out(session, [self.pull(phone) for phone in (0, 1)])):
            if not isinstance(answer, Exception):
                self.take(phone, answer)

    def names(self, phone: int) -> list[str]:
        """The names that the phone was given and has not ended."""
        return sorted(name for name, phones in self.given.items() if phone in phones and name not in self.ended)

    def report(
        self, phone: int, state: str, which: Collection[str] | None = None, error: str | None = None
    ) -> reports.Reported:
        """The phone does what it then says, of all it has. What goes on air does so before it is said."""
        names = self.names(phone) if which is None else sorted(which)
        if state not in LEFT:
            names = [name for name in names if not self.on_air[name]]
        with self._lock:
            if state in LEFT:
                self.on_air.update(name for name in names if not self.on_air[name])
            elif state in {"Failed", "Cancelled"}:
                self.ended.update(names)
        items = [
            {"id": name, "state": state, "recipients": [{"phoneNumber": "x", "state": state, "error": error}]}
            for name in names
        ]
        parsed = [wire.parse_report(item) for item in items]
        return reports.Reported(digest(self.tokens[phone]), [report for report in parsed if report])

    def report_in(self, session: Session, state: str, error: str | None = None) -> None:
        said = [self.report(phone, state, error=error) for phone in (0, 1)]
        assert reports.record(session, said) == [None, None]

    def set_back(self, session: Session, seconds: float) -> None:
        """Let the end of every pending message's validity be so long ago."""
        session.execute(
            text("UPDATE message_queue SET valid_until = clock_timestamp() - make_interval(secs => :seconds)"),
            {"seconds": seconds},
        )

    def claim_in(self, session: Session) -> None:
        self.calls = claims.claim(session, 100).calls
        assert self.calls

    def results(self, status: int) -> list[Result]:
        return [Result(call, status, None, None if status == 200 else "no", 5) for call in self.calls]

    # What must hold

    def rows(self, session: Session, statement: str, **values: Any) -> list[Any]:
        return list(session.execute(text(statement), {"user": self.user} | values).all())

    def judge(self) -> list[str]:
        """What is wrong now."""
        with transaction() as session:
            return self._wrong(session)

    def _wrong(self, session: Session) -> list[str]:
        found = self.rows(
            session,
            "SELECT m.id, m.message_id, m.attempt, m.status, m.deleted_at, m.uncertain, m.device_id, q.stage,"
            " q.device_id AS place FROM messages m LEFT JOIN message_queue q ON q.message_id = m.id"
            " WHERE m.user_id = :user ORDER BY m.id",
        )
        wrong = [
            f"message {row.id} is {row.status} and its queue row is {row.stage}"
            for row in found
            if (row.stage is not None) != (row.status == "pending")
        ]
        wrong += [
            f"message {row.id} is of phone {row.device_id} and waits for {row.place}"
            for row in found
            if row.place is not None and row.place != (row.device_id or 0)
        ]
        wrong += [
            f"message {row.id} is uncertain and {row.status}"
            for row in found
            if row.uncertain and row.status != "failed"
        ]
        wrong += [f"{name} was given to two phones" for name, phones in self.given.items() if len(phones) > 1]
        wrong += [f"{route} with one key made {made}" for route, made in self.answers.items() if len(made) > 1]
        if self.answers and len(found) != sum(len(numbers) for made in self.answers.values() for numbers in made):
            wrong.append(f"sends with keys made {dict(self.answers)}, and there are {len(found)} messages")
        wrong += self._counters(session, found)
        wrong += self._of_campaign(session)
        wrong += self._told(session, found)
        wrong += self._deliveries(session)
        return wrong

    def _counters(self, session: Session, found: list[Any]) -> list[str]:
        figures, visible = usage.figures(session, self.user), usage.visible(session, self.user)
        status = Counter(row.status for row in found)
        expected = {
            UsageKind.ACCEPTED: len(found),
            UsageKind.SENT: status["sent"] + status["delivered"] + status["failed"],
            UsageKind.DELIVERED: status["delivered"],
            UsageKind.FAILED: status["failed"],
            UsageKind.CANCELLED: status["cancelled"],
        }
        wrong = [
            f"{kind} is counted {figures[kind].total} times and is {number}"
            for kind, number in expected.items()
            if figures[kind].total != number
        ]
        shown = {name: n for name, n in visible.by_status.items() if n}
        recount = dict(Counter(row.status for row in found if row.deleted_at is None))
        if shown != recount:
            wrong.append(f"lists show {shown} and there is {recount}")
        delivered = self.rows(
            session,
            "SELECT COALESCE(sum(n), 0) AS n FROM (SELECT n, kind, device_id FROM device_deltas"
            " UNION ALL SELECT n, kind, device_id FROM device_totals) f WHERE kind = 'delivered'",
        )[0].n
        by_phones = sum(row.status == "delivered" and row.device_id is not None for row in found)
        if delivered != by_phones:
            wrong.append(f"phones count {delivered} delivered and there are {by_phones}")
        return wrong

    def _of_campaign(self, session: Session) -> list[str]:
        """Each recipient has one message at most, and the counts are the recount."""
        if not self.campaign:
            return []
        counts = progress.counts(session, [self.campaign])[self.campaign].model_dump()
        found = {row.place: row.n for row in session.execute(_RECOUNT)}
        wrong = [
            f"of the campaign {found.get(place, 0)} are {place}, and {counts[place]} are counted"
            for place in ("not_made", "waiting", "held", "given", "sent", "delivered", "failed", "cancelled")
            if found.get(place, 0) != counts[place]
        ]
        if sum(found.values()) != counts["recipients"]:
            wrong.append(f"{counts['recipients']} recipients have messages: {found}")
        return wrong

    def _told(self, session: Session, found: list[Any]) -> list[str]:
        """Account URLs hear each status, the present one last; callbacks hear of the end once."""
        told: dict[int, list[str]] = defaultdict(list)
        called: Counter[int] = Counter()
        retried = self.retried
        if self.campaign:  # its looking after does it
            retried = Counter(self._retried(session))
        for row in self.rows(
            session,
            "SELECT message_id, hook, body::json->'data'->>'status' AS status FROM webhook_deliveries ORDER BY id",
        ):
            if row.hook == "callback":
                called[row.message_id] += 1
            else:
                told[row.message_id].append(row.status)
        wrong = []
        for row in found:
            statuses = told[row.id]
            if self.tells and row.status != "pending" and statuses[-1:] != [row.status]:
                wrong.append(f"message {row.id} is {row.status}, and its URL was told {statuses}")
            if max(Counter(statuses).values(), default=0) > 1 + retried[row.id]:
                wrong.append(f"message {row.id}: its URL was told {statuses}")
            final = retried[row.id] + (row.status in FINAL)
            if row.status != "sent" and called[row.id] != final:
                wrong.append(f"message {row.id} is {row.status}, and its callback was called {called[row.id]} times")
        return wrong

    def _retried(self, session: Session) -> list[int]:
        return [
            row.message_id for row in self.rows(session, "SELECT message_id FROM message_steps WHERE step = 'retried'")
        ]

    def _deliveries(self, session: Session) -> list[str]:
        rows = self.rows(
            session,
            "SELECT COALESCE(d.id, q.delivery_id) AS id, d.state, q.delivery_id, q.lease_id,"
            " q.hook = 'status' AND q.lease_id IS NULL AND q.next_attempt_at > clock_timestamp() AS is_later, EXISTS ("
            "    SELECT FROM webhook_attempts a WHERE a.delivery_id = d.id AND a.status_code = 200) AS accepted"
            " FROM webhook_deliveries d FULL JOIN webhook_queue q ON q.delivery_id = d.id ORDER BY 1",
        )
        wrong = [
            f"delivery {row.id} is {row.state or 'gone'} and {'waits' if row.delivery_id else 'does not wait'}"
            for row in rows
            if (row.state != "pending" if row.delivery_id else row.state == "pending" and not row.accepted)
        ]
        if self.moved:
            wrong += [f"delivery {row.id} does not go to the new URL at once" for row in rows if row.is_later]
        holders = {row.id: row.lease_id for row in rows}
        twice = [
            number
            for number, times in Counter(call.delivery_id for calls in self.claimed for call in calls).items()
            if times > 1
        ]
        wrong += [f"delivery {number} was claimed twice" for number in twice]
        wrong += [
            f"delivery {call.delivery_id} was claimed and is held by {holders[call.delivery_id]}"
            for calls in self.claimed
            for call in calls
            if holders[call.delivery_id] != call.lease_id
        ]
        return wrong

    def finish(self) -> list[str]:
        """Let everything go on to its end, as the workers and the phones would; what was lost or went out twice."""
        with transaction() as session:
            wrong = self._given_all_the_same(session)
            rounds = 0
            while rounds < MAX_ROUNDS and (not rounds or session.scalar(_IS_WAITING)):
                session.execute(text("UPDATE message_queue SET due_at = clock_timestamp() WHERE due_at IS NOT NULL"))
                releasing.release(session, eligibility.keepers)
                session.execute(_LOOK_AGAIN)
                supervising.look(session, self.user)
                self._pull_round(session)
                rounds += 1
            said = []
            for phone in (0, 1):
                back = {name for name in self.names(phone) if name in self.recalled and not self.on_air[name]}
                said.append(self.report(phone, "Delivered", set(self.names(phone)) - back))
                said.append(self.report(phone, "Cancelled", back))
            reports.record(session, said)
            expiry.expire(session)
            session.info.clear()
            return wrong + self._lost_or_twice(session) + self._wrong(session)

    def _pull_round(self, session: Session) -> None:
        moving.move(session, self.user)
        for _ in range(3):  # of no phone and of both: what came back with an old number is found by the look at all
            marks._memory.rests_until = time.monotonic()
            marks.mark(session)
        self.route(session)
        session.execute(text("UPDATE message_queue SET offered_at = offered_at - interval '1 minute'"))
        self.pull_in(session)

    def _given_all_the_same(self, session: Session) -> list[str]:
        """After the answer to a pause, a cancel or an opt-out no phone is given anything new; a pause is ended here."""
        (status,) = session.execute(text("SELECT min(status) FROM campaigns")).one()
        if status not in {"paused", "cancelled"} and not self.opted_out:
            return []
        before = set(self.given)
        opting_out.withdraw(session, self.user)
        supervising.look(session, self.user)
        self._pull_round(session)
        if status == "paused":
            life.resume(session, campaigns.find(session, self.user, str(self.campaign)))
        stopped = {
            str(row.message_id)
            for row in self.rows(session, "SELECT message_id, campaign_id, recipient_number FROM messages")
            if row.campaign_id or (self.opted_out and row.recipient_number == NUMBER)
        }
        new = {name: reports.parse_wire_name(name) for name in self.given.keys() - before}
        return [f"{name} was given, and that was stopped" for name, of in new.items() if of and str(of[0]) in stopped]

    def _lost_or_twice(self, session: Session) -> list[str]:
        went: Counter[str] = Counter()
        for name, times in self.on_air.items():
            parsed = reports.parse_wire_name(name)
            assert parsed
            went[str(parsed[0])] += times
        wrong = []
        for row in self.rows(
            session, "SELECT id, message_id, status, uncertain, deleted_at FROM messages WHERE user_id = :user"
        ):
            times = went[str(row.message_id)]
            if times > 1 and not self.may_go_twice:
                wrong.append(f"message {row.id} went on air {times} times")
            if times and row.status not in {"sent", "delivered"} and not self.owner_spoke:
                wrong.append(f"message {row.id} went on air and is {row.status}")
            if not times and row.status in {"sent", "delivered"} and not self.owner_spoke:
                wrong.append(f"message {row.id} is {row.status} and never went on air")
            if row.status == "pending":
                wrong.append(f"message {row.id} is pending for ever")
            if row.id in self.withdrawn and times:
                wrong.append(f"message {row.id} was cancelled and went on air")
        return wrong


def _queued(world: World, session: Session) -> None:
    world.accept(session)


def _routed(world: World, session: Session) -> None:
    world.accept(session)
    assert world.route(session) == MESSAGES


def _released(world: World, session: Session) -> None:
    _routed(world, session)
    world.pull_in(session)
    assert len(world.given) == MESSAGES


def _accepted(world: World, session: Session) -> None:
    _released(world, session)
    world.report_in(session, "Processed")


def _sent(world: World, session: Session) -> None:
    _accepted(world, session)
    world.report_in(session, "Sent")


def _failed(world: World, session: Session) -> None:
    _accepted(world, session)
    world.report_in(session, "Failed", GENERIC)
    assert set(session.scalars(text("SELECT status FROM messages"))) == {"failed"}


def _overdue(world: World, session: Session) -> None:
    _routed(world, session)
    world.set_back(session, 1)


def _unreported(world: World, session: Session) -> None:
    _released(world, session)
    world.set_back(session, 3600)


def _uncertain(world: World, session: Session) -> None:
    _unreported(world, session)
    assert expiry.expire(session) == MESSAGES
    world.may_go_twice = True


def _recalled(world: World, session: Session) -> None:
    _released(world, session)
    for number in session.scalars(text("SELECT id FROM messages WHERE user_id = :user"), {"user": world.user}).all():
        assert cancelling.ask(session, world.user, str(number)).status is Status.PENDING


def _claimed(world: World, session: Session) -> None:
    _sent(world, session)
    world.claim_in(session)


def _lapsed(world: World, session: Session) -> None:
    _claimed(world, session)
    session.execute(
        text(
            "UPDATE webhook_queue SET lease_until = clock_timestamp() - interval '1 s',"
            " next_attempt_at = clock_timestamp() - interval '1 s' WHERE lease_id IS NOT NULL"
        )
    )


def _given_up(world: World, session: Session) -> None:
    _claimed(world, session)
    last = [call._replace(attempt=len(records.SCHEDULE)) for call in world.calls]
    records.record(session, [Result(call, 500, None, "no", 5) for call in last])
    world.calls = []


def _posted(world: World, session: Session) -> None:
    """Accepted at the first call, so long ago that it is not kept any longer."""
    _claimed(world, session)
    records.record(session, world.results(200))
    session.execute(text("UPDATE webhook_deliveries SET created_at = created_at - interval '1 year'"))
    world.calls = []


def _scheduled(world: World, session: Session) -> None:
    """Held for a time that has just come."""
    world.accept(session, send_at=datetime.now(UTC) + timedelta(hours=1))
    session.execute(text("UPDATE message_queue SET due_at = clock_timestamp() WHERE stage = 3"))


def _campaign(world: World, session: Session) -> None:
    """It runs, and has no messages yet."""
    draft = CampaignDraft(name="x", message="x", device_id="active", callback_url="http://example.org/c")
    campaign = campaigns.create(session, world.owner, draft)
    world.campaign = campaign.id
    session.execute(
        text(
            "INSERT INTO campaign_recipients (campaign_id, place, number)"
            " SELECT :id, n, '+99890111223' || n FROM generate_series(1, :n) n"
        ),
        {"id": campaign.id, "n": MESSAGES},
    )
    campaign.recipients = MESSAGES
    life.start(session, campaign, None)


def _campaign_queued(world: World, session: Session) -> None:
    _campaign(world, session)
    supervising.look(session, world.user)
    assert session.scalar(text("SELECT count(*) FROM message_queue")) == MESSAGES
    # As where a feed finds no phone that has room.
    session.execute(text("UPDATE message_queue SET device_id = 0"))
    session.execute(text("UPDATE messages SET device_id = NULL, routed_at = NULL"))
    session.execute(text("UPDATE campaigns SET next_look_at = clock_timestamp()"))


def _campaign_routed(world: World, session: Session) -> None:
    _campaign_queued(world, session)
    assert world.route(session) == MESSAGES


def _campaign_released(world: World, session: Session) -> None:
    _campaign_routed(world, session)
    world.pull_in(session)
    assert len(world.given) == MESSAGES


def _campaign_failed(world: World, session: Session) -> None:
    _campaign_released(world, session)
    world.report_in(session, "Failed", GENERIC)
    session.execute(text("UPDATE campaigns SET next_look_at = clock_timestamp()"))


def _campaign_paused(world: World, session: Session) -> None:
    _campaign_routed(world, session)
    _pause(world, session)


def _campaign_paused_and_due(world: World, session: Session) -> None:
    """What its hours held when it was paused, and let go now."""
    _campaign_paused(world, session)
    session.execute(text("UPDATE message_queue SET due_at = clock_timestamp(), closes_at = clock_timestamp()"))


def _campaign_paused_at_phones(world: World, session: Session) -> None:
    _campaign_released(world, session)
    _pause(world, session)


def _campaign_paused_after_failures(world: World, session: Session) -> None:
    _campaign_failed(world, session)
    _pause(world, session)


def _pause(world: World, session: Session) -> None:
    campaign = campaigns.find(session, world.user, str(world.campaign), lock=True)
    life.pause(session, campaign)
    life.settle(session, campaign)


STARTS: dict[str, Callable[[World, Session], None]] = {
    "nothing": lambda _world, _session: None,
    "queued": _queued,
    "routed": _routed,
    "released": _released,
    "accepted": _accepted,
    "recalled": _recalled,
    "sent": _sent,
    "failed": _failed,
    "overdue": _overdue,
    "unreported": _unreported,
    "uncertain": _uncertain,
    "claimed": _claimed,
    "lapsed": _lapsed,
    "given up": _given_up,
    "posted": _posted,
    "scheduled": _scheduled,
    "campaign": _campaign,
    "campaign queued": _campaign_queued,
    "campaign routed": _campaign_routed,
    "campaign released": _campaign_released,
    "campaign failed": _campaign_failed,
    "campaign paused": _campaign_paused,
    "campaign paused and due": _campaign_paused_and_due,
    "campaign paused at phones": _campaign_paused_at_phones,
    "campaign paused after failures": _campaign_paused_after_failures,
}
