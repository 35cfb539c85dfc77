"""Pause, resume, cancel and feeding of a campaign, each statement of one against the whole of another."""

from collections import Counter

import pytest
from sqlalchemy import select, text

from app.campaigns import life, progress, records, stopping, supervising
from app.campaigns.models import Campaign
from app.core.database import transaction
from app.core.errors import AppError, Conflict
from app.messages.life import cancelling, expiry, moving, opting_out, reports, retrying
from app.messages.lookup import find
from tests.interleavings.harness import interleave
from tests.interleavings.world import DEADLOCK, GENERIC, NO_SERVICE, World, hot, plain
from workers.base import in_transaction

RECIPIENTS = 3
_EMPTIED = (
    "campaigns", "campaign_recipients", "campaign_left_out", "campaign_totals", "campaign_minutes", "campaign_deltas",
    "held_campaigns",
)  # fmt: skip
_GIVEN = """
    SELECT m.message_id, m.attempt FROM messages m LEFT JOIN message_queue q ON q.message_id = m.id
    WHERE q.stage IN (1, 2) OR m.released_at IS NOT NULL
"""
_RECOUNT = """
    SELECT CASE WHEN m.id IS NULL THEN 'not_made' WHEN m.status <> 'pending' THEN m.status
                WHEN q.stage = 0 THEN 'waiting' WHEN q.stage = 3 THEN 'held' ELSE 'given' END AS place, count(*) AS n
    FROM campaign_recipients r LEFT JOIN messages m ON m.id = r.message_id
    LEFT JOIN message_queue q ON q.message_id = m.id GROUP BY 1
"""


class CampaignWorld(World):
    """An account with two phones and a campaign to three recipients."""

    def begin(self, start: str) -> None:
        with transaction() as session:
            session.execute(text("; ".join(f"DELETE FROM {table}" for table in _EMPTIED)))
        super().begin("nothing")
        self.let_out: set[str] | None = None  # what had been given when a pause or a cancel had answered
        with transaction() as session:
            campaign = Campaign(user_id=self.user, name="x", message="x", recipients=RECIPIENTS)
            campaign.callback_url = "http://example.org/c"
            session.add(campaign)
            session.flush()
            self.campaign = campaign.id
            session.execute(
                text(
                    "INSERT INTO campaign_recipients (campaign_id, place, number)"
                    " SELECT :id, n, '+99890111223' || n FROM generate_series(1, :most) n"
                ),
                {"id": campaign.id, "most": RECIPIENTS},
            )
            life.start(session, campaign, None)
            session.info.clear()
        _STARTS[start](self)

    def look(self) -> None:
        """As when its time has come."""
        with transaction() as session:
            session.execute(
                text("UPDATE campaigns SET next_look_at = clock_timestamp() WHERE next_look_at IS NOT NULL")
            )
        in_transaction(supervising.look, self.user)

    def pulls(self) -> None:
        for phone in (0, 1):
            self.take(phone, hot(opting_out.hand_out, self.pull(phone)))

    def ask(self, verb: str) -> None:
        """As the route does; what is refused changes nothing."""
        try:
            getattr(self, f"_{verb}")()
        except (AppError, Conflict):
            return

    def _pause(self) -> None:
        stopping.pause(self.user, str(self.campaign))
        self._note_given()

    def _cancel(self) -> None:
        stopping.cancel(self.user, str(self.campaign))
        self._note_given()

    def _resume(self) -> None:
        with transaction() as session:
            life.resume(session, records.find(session, self.user, str(self.campaign), lock=True))
        self.let_out = None

    def _note_given(self) -> None:
        with transaction() as session:
            rows = session.execute(text(_GIVEN)).all()
        self.let_out = {reports.wire_name(row.message_id, row.attempt) for row in rows} | set(self.given)

    def status(self) -> str:
        with transaction() as session:
            return session.execute(select(Campaign.status)).scalar_one()

    def judge(self) -> list[str]:
        self._count_retries()
        wrong = super().judge() + self._figures()
        if self.let_out is not None and self.status() in {"paused", "cancelled"}:
            self.pulls()
            wrong += [f"{name} was given out after a stop" for name in self.given if name not in self.let_out]
        return wrong

    def _count_retries(self) -> None:
        with transaction() as session:
            rows = session.execute(
                text("SELECT message_id, count(*) AS n FROM message_steps WHERE step = 'retried' GROUP BY message_id")
            )
            self.retried = Counter({row.message_id: row.n for row in rows})

    def _figures(self) -> list[str]:
        with transaction() as session:
            told = progress.counts(session, [self.campaign])[self.campaign].model_dump()
            found = {row.place: row.n for row in session.execute(text(_RECOUNT))}
            twice = session.scalar(
                text("SELECT count(*) FROM messages m WHERE NOT EXISTS"
                     " (SELECT FROM campaign_recipients r WHERE r.message_id = m.id)")
            )  # fmt: skip
        for name in ("recipients", "left_out", "uncertain"):
            told.pop(name)
        wrong = [f"{twice} messages are of no recipient"] if twice else []
        return wrong if {name: n for name, n in told.items() if n} == found else [*wrong, f"{told} is {found}"]

    def finish(self) -> list[str]:
        """Let it go on to its end, resumed where it is paused."""
        if self.status() == "paused":
            self._resume()
        for _ in range(4):
            in_transaction(moving.move, self.user)
            self.look()
            in_transaction(self.route)
            with transaction() as session:
                session.execute(text("UPDATE message_queue SET offered_at = offered_at - interval '1 minute'"))
            self.pulls()
            for phone in (0, 1):
                back = {name for name in self.names(phone) if name in self.recalled and not self.on_air[name]}
                hot(reports.record, self.report(phone, "Cancelled", back))
                hot(reports.record, self.report(phone, "Delivered", set(self.names(phone)) - back))
        self.look()
        self._count_retries()
        with transaction() as session:
            wrong = self._lost_or_twice(session) + self._wrong(session) + self._figures()
            counts = progress.counts(session, [self.campaign])[self.campaign]
        status = self.status()
        if status not in {"finished", "cancelled"}:
            wrong.append(f"the campaign is {status} for ever: {counts}")
        if status == "finished" and counts.not_made:
            wrong.append(f"the campaign is finished: {counts}")
        return wrong


def _running(_: CampaignWorld) -> None:
    pass


def _fed(world: CampaignWorld) -> None:
    world.look()


def _routed(world: CampaignWorld) -> None:
    world.look()
    in_transaction(world.route)


def _released(world: CampaignWorld) -> None:
    _routed(world)
    world.pulls()
    assert len(world.given) == RECIPIENTS


def _paused(world: CampaignWorld) -> None:
    _routed(world)
    world.ask("pause")


def _failed(world: CampaignWorld) -> None:
    _released(world)
    for phone in (0, 1):
        hot(reports.record, world.report(phone, "Failed", error=GENERIC))
    world.messages = [row[0] for row in _ids()]


def _ids():
    with transaction() as session:
        return session.execute(text("SELECT id FROM messages ORDER BY id")).all()


_STARTS = {
    "running": _running,
    "fed": _fed,
    "routed": _routed,
    "released": _released,
    "paused": _paused,
    "failed": _failed,
}


def _retry(world: CampaignWorld) -> None:
    def retry(session) -> None:
        retrying.retry(session, find(session, world.user, str(world.messages[0])))

    plain(retry)


def _retry_all(world: CampaignWorld) -> None:
    def retry(session) -> None:
        life.retry_failed(session, records.find(session, world.user, str(world.campaign), lock=True), uncertain=False)

    plain(retry)


def _cancel_one(world: CampaignWorld) -> None:
    [first, *_] = _ids()
    plain(cancelling.ask, world.user, str(first[0]))


def _silence(world: CampaignWorld) -> None:
    with transaction() as session:
        session.execute(
            text(
                "UPDATE device_state SET seen_at = clock_timestamp() - interval '1 hour', pulled_at = NULL"
                " WHERE device_id = :id"
            ),
            {"id": world.devices[0]},
        )
    in_transaction(moving.move, world.user)


_OPERATIONS = {
    "feed": CampaignWorld.look,
    "route": lambda world: in_transaction(world.route),
    "pull": lambda world: world.take(0, hot(opting_out.hand_out, world.pull(0))),
    "pause": lambda world: world.ask("pause"),
    "resume": lambda world: world.ask("resume"),
    "cancel": lambda world: world.ask("cancel"),
    "report delivered": lambda world: hot(reports.record, world.report(0, "Delivered")),
    "report failed": lambda world: hot(reports.record, world.report(0, "Failed", error=NO_SERVICE)),
    "retry": _retry,
    "retry all": _retry_all,
    "cancel one": _cancel_one,
    "move": _silence,
    "expire": lambda _: in_transaction(expiry.expire),
    "fold": lambda _: in_transaction(progress.fold_all),
}

PAIRS = """
running: feed | pause
running: pause | feed
running: feed | feed
fed: route | pause
routed: pull | pause
routed: pause | pull
routed: cancel | pull
routed: pause | resume
routed: pause | cancel
routed: move | pause
paused: resume | pull
paused: resume | cancel
released: report failed | pause
released: cancel | report failed
released: feed | report delivered
failed: feed | retry all
"""


@pytest.fixture(scope="module")
def world(emptied):
    return CampaignWorld()


@pytest.mark.parametrize("pair", PAIRS.strip().splitlines())
def test_a_stop_is_a_stop_and_nothing_is_sent_twice_wherever_the_second_comes_in(world, observer, pair):
    start, _, names = pair.partition(": ")
    first, second = (_OPERATIONS[name] for name in names.split(" | "))
    found, at = [], 0
    while True:
        at += 1
        world.begin(start)
        tried = interleave(lambda: first(world), lambda: second(world), at, observer)
        if tried is None:
            break
        wrong = [repr(one.error) for one in (tried.first, tried.second) if one.error]
        wrong = wrong or world.judge() or world.finish()
        if DEADLOCK in tried.errors:
            wrong.append("a deadlock")
        found += [f"before statement {at}: {tried.statement[:150]}: {each}" for each in wrong]
    assert at > 2
    assert "\n".join(found) == ""
