"""What is tried against each other: each operation as the product runs it, and the states that it has business with."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from app.accounts import usage
from app.campaigns import eligibility, life, progress, stopping, supervising
from app.campaigns import records as campaigns
from app.core.database import transaction
from app.core.errors import AppError, Refused
from app.devices import figures, ownership
from app.messages.accepting import bulk, intake
from app.messages.dispatch import handout, marks, releasing
from app.messages.life import (
    cancelling,
    expiry,
    moving,
    opting_out,
    reports,
    rescheduling,
    retrying,
    transitions,
)
from app.messages.life.transitions import Change
from app.messages.lookup import find
from app.messages.schemas import BulkDraft
from app.messages.states import Event, Status
from app.optouts import book
from app.optouts.schemas import NewOptOut
from app.webhooks import claims, history, records, retention, urls
from tests.interleavings.world import NO_SERVICE, NUMBER, World, again_on_conflict, hot, plain
from workers.base import in_transaction

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Operation(NamedTuple):
    name: str
    starts: frozenset[str]
    run: Callable[[World], Any]


def _send(world: World, key: str | None, *, among_many: bool = False) -> None:
    try:
        made = hot(intake.accept, world.send(key), autocommit=among_many)
    except Refused:  # the number has opted out
        return
    if key:
        world.answers["sms"].add((made["id"],))


def _bulk(world: World, key: str | None) -> None:
    recipients = ["+998901112233", "+998901112234"]
    draft = BulkDraft(message="x", recipients=recipients, device_id="active", callback_url="http://example.org/c")
    made = json.loads(again_on_conflict(lambda: bulk.send(world.owner, draft, key, b"hash")))
    if key:
        world.answers["bulk"].add(tuple(item["id"] for item in made["data"]))


def _route(world: World) -> None:
    in_transaction(world.route)


def _mark(_: World) -> None:
    """Twice, because the first look cannot know who is about to write."""
    in_transaction(lambda session: session.execute(marks._BEGIN))
    for _ in range(2):
        in_transaction(marks.mark)


def _pull(world: World, phone: int) -> None:
    try:
        world.take(phone, hot(opting_out.hand_out, world.pull(phone)))
    except AppError:  # it was removed
        return


def _report(world: World, state: str, error: str | None = None) -> None:
    hot(reports.record, world.report(0, state, error=error))


def _cancel(world: World) -> None:
    number = world.messages[0]
    asked = plain(cancelling.ask, world.user, str(number))
    if not isinstance(asked, AppError) and asked.status is Status.CANCELLED:
        world.withdrawn.add(number)


def _retry(world: World) -> None:
    def retry(session: Session) -> bool:
        retrying.retry(session, find(session, world.user, str(number)))
        return True

    number = world.messages[0]
    if plain(retry) is True:
        world.retried[number] += 1


def _change(world: World, event: Event) -> None:
    world.owner_spoke |= event in {Event.SENT, Event.FAILED}
    plain(transitions.apply, [Change(world.messages[0], event)])


def _expire(world: World) -> None:
    in_transaction(expiry.expire)


def _switch_off(world: World) -> None:
    plain(ownership.change, world.user, world.devices[0], {"is_active": False})
    in_transaction(moving.move, world.user)


def _remove(world: World) -> None:
    plain(ownership.remove, world.user, world.devices[0])
    in_transaction(moving.move, world.user)


def _enroll_again(world: World) -> None:
    plain(handout.never_repeat, world.user, world.devices[0])


def _release(_: World) -> None:
    in_transaction(releasing.release, eligibility.keepers)


def _reschedule(world: World) -> None:
    def change(session: Session) -> None:
        row = find(session, world.user, str(world.messages[0]))
        rescheduling.reschedule(session, row, datetime.now(UTC) + timedelta(hours=1))

    plain(change)


def _opt_out(world: World) -> None:
    plain(book.create, world.owner, NewOptOut(phone_number=NUMBER))
    in_transaction(opting_out.withdraw, world.user)
    world.opted_out = world.campaign == 0  # of a campaign it is one number of three


def _look(world: World) -> None:
    in_transaction(supervising.look, world.user)


def _pause(world: World) -> None:
    plain(lambda _: stopping.pause(world.user, str(world.campaign)))


def _cancel_campaign(world: World) -> None:
    plain(lambda _: stopping.cancel(world.user, str(world.campaign)))


def _resume(world: World) -> None:
    plain(lambda session: life.resume(session, campaigns.find(session, world.user, str(world.campaign), lock=True)))


def _retry_campaign(world: World) -> None:
    def retry(session: Session) -> None:
        life.retry_failed(session, campaigns.find(session, world.user, str(world.campaign), lock=True), uncertain=False)

    plain(retry)


def _fold_campaigns(_: World) -> None:
    in_transaction(progress.fold_all)


def _fold(_: World) -> None:
    in_transaction(usage.fold, 5000)
    in_transaction(figures.fold, 5000)


def _claim(world: World) -> None:
    world.claimed.append(in_transaction(claims.claim, 100).calls)


def _record(world: World, status: int) -> None:
    world.tells &= status != HTTPStatus.GONE
    with transaction(hot=True) as session:
        records.record(session, world.results(status))


def _replay(world: World) -> None:
    for number in world.deliveries[:2]:
        plain(history.replay, world.user, number)


def _replay_all(world: World) -> None:
    plain(history.replay_failed, world.user, LONG_AGO, None)


def _clean_deliveries(world: World) -> None:
    world.tells = False  # what it was told is not there any more
    in_transaction(retention.Walk().clean)


def _set_url(world: World, url: str | None) -> None:
    world.tells &= url is not None
    world.moved |= url is not None
    plain(urls.change, world.user, {"status": url})


_CAMPAIGN = {"campaign queued", "campaign routed", "campaign released", "campaign paused"}
_PAUSED = {"campaign paused and due", "campaign paused at phones", "campaign paused after failures"}
_WITH_A_PHONE = {"released", "accepted", "recalled", "sent", "unreported", "uncertain", "campaign released"}
_PENDING = {"queued", "routed", "released", "accepted", "recalled", "overdue", "unreported", "scheduled"} | _CAMPAIGN
_POSTED = {"sent", "claimed", "lapsed", "given up"}

OPERATIONS = [
    Operation(name, frozenset(starts), run)
    for name, starts, run in (
        ("send", {"queued", "routed", "released", "campaign queued", "campaign routed"}, partial(_send, key=None)),
        ("send with a key", {"nothing"}, partial(_send, key="key")),
        ("send with a key among many", {"nothing"}, partial(_send, key="key", among_many=True)),
        ("bulk", {"queued", "routed"}, partial(_bulk, key=None)),
        ("bulk with a key", {"nothing"}, partial(_bulk, key="key")),
        ("route", {"queued", "routed", "failed", "uncertain", "scheduled", "campaign queued"}, _route),
        ("mark", {"queued", "routed", "released", "failed", "overdue", "scheduled"} | _CAMPAIGN, _mark),
        (
            "pull",
            {"queued", "routed", "released", "recalled", "overdue", "failed"} | _CAMPAIGN,
            partial(_pull, phone=0),
        ),
        ("pull of the other", {"queued", "routed", "released", "accepted"}, partial(_pull, phone=1)),
        ("report taken", _WITH_A_PHONE, partial(_report, state="Processed")),
        ("report sent", _WITH_A_PHONE, partial(_report, state="Sent")),
        ("report delivered", _WITH_A_PHONE | {"claimed"}, partial(_report, state="Delivered")),
        (
            "report failed",
            _WITH_A_PHONE | {"campaign paused at phones"},
            partial(_report, state="Failed", error=NO_SERVICE),
        ),
        ("report cancelled", {"recalled"}, partial(_report, state="Cancelled")),
        ("cancel", _PENDING, _cancel),
        ("retry", {"failed", "uncertain", "campaign paused after failures"}, _retry),
        ("expire", {"overdue", "unreported"}, _expire),
        ("switch off", {"queued", "routed", "released", "overdue", "campaign routed"}, _switch_off),
        ("remove phone", {"routed", "released"}, _remove),
        ("enroll again", {"routed", "released"}, _enroll_again),
        ("owner says sent", {"routed", "released", "accepted"}, partial(_change, event=Event.SENT)),
        ("owner says failed", {"routed", "released", "accepted"}, partial(_change, event=Event.FAILED)),
        ("delete", _PENDING | {"sent", "failed", "uncertain"}, partial(_change, event=Event.DELETED)),
        ("release", {"scheduled", "campaign paused and due"}, _release),
        ("reschedule", {"scheduled"}, _reschedule),
        ("opt out", {"queued", "routed", "released", "scheduled", "campaign", "campaign routed"}, _opt_out),
        ("look after campaigns", {"campaign", "campaign failed"} | _CAMPAIGN, _look),
        ("pause", {"campaign", "campaign failed"} | _CAMPAIGN, _pause),
        ("resume", {"campaign paused"} | _PAUSED, _resume),
        ("cancel campaign", {"campaign", "campaign failed"} | _CAMPAIGN, _cancel_campaign),
        ("retry campaign", {"campaign failed"}, _retry_campaign),
        ("fold campaigns", {"campaign released", "campaign failed"}, _fold_campaigns),
        ("fold", {"sent", "failed"}, _fold),
        ("claim", _POSTED, _claim),
        ("record taken", {"claimed", "lapsed"}, partial(_record, status=200)),
        ("record refused", {"claimed", "lapsed"}, partial(_record, status=500)),
        ("record gone", {"claimed", "lapsed"}, partial(_record, status=410)),
        ("replay", {"given up", "posted"}, _replay),
        ("replay all", {"given up"}, _replay_all),
        ("clean deliveries", {"posted"}, _clean_deliveries),
        ("change URL", _POSTED, partial(_set_url, url="http://example.org/new")),
        ("remove URL", _POSTED, partial(_set_url, url=None)),
    )
]
NAMED = {operation.name: operation for operation in OPERATIONS}


class Pair(NamedTuple):
    """One operation, stopped before each of its statements in turn, and another that runs then."""

    start: str
    first: Operation
    second: Operation

    def __str__(self) -> str:
        return f"{self.start}: {self.first.name} | {self.second.name}"


def pairs() -> Iterator[Pair]:
    """Every two operations that have business with the same state."""
    for first, second in product(OPERATIONS, repeat=2):
        for start in sorted(first.starts & second.starts):
            yield Pair(start, first, second)
