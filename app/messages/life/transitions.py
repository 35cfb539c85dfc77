"""The one place where a message changes state.

`apply` takes every change, whoever asks for it: reports of phones, the owner's PUT, cancel, delete, expiry, retry. It
alone touches status, queue row, timestamps, usage counters and webhook rows. Messages are locked in order of id (queue
row, then message); all events of one message are folded in rank order here, because an `UPDATE … FROM` with two source
rows for one target would apply only one of them; then each message is written at most once.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, NamedTuple, cast

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from app.accounts.usage import UsageKind
from app.core import trace_notes
from app.core.database import columns_of
from app.messages import steps, storing
from app.messages.dispatch import failover, waking
from app.messages.life import results
from app.messages.life.results import counted_on
from app.messages.models import Message, MessageRow, QueuedRow, QueueEntry
from app.messages.states import BEFORE_A_PHONE, CONCLUDED_FAILURE, RANK, REPORTED, Event, Stage, Status
from app.messages.views import message_object
from app.webhooks import outbox

# How long a phone that was given a message may stay silent about it after the message's validity.
GRACE = timedelta(minutes=10)

EXPIRED = "The message expired before a phone could take it"
NEVER_REPORTED = "The phone never reported"
PHONE_REMOVED = "The phone that was named for this message was removed"
MAY_HAVE_LEFT = "The gateway was restored from a backup, and this message may have been sent before that"
RECIPIENT_OPTED_OUT = "The recipient has opted out"


class Change(NamedTuple):
    """Something that happened to a message (`messages.id`).

    `at` is the phone's time, for display only. `attempt` is which sending of the message a report speaks of.
    """

    message_id: int
    event: Event
    at: datetime | None = None
    error: str | None = None
    attempt: int | None = None


@dataclass(slots=True)
class Applied:
    """A message after `apply`: its row, whether the row changed, and whether its status did."""

    row: MessageRow
    queued: QueuedRow | None
    changed: bool = False
    passed: list[Status] = field(default_factory=list)


@dataclass(slots=True)
class _Work:
    now: datetime
    today: date
    hooks: Mapping[int, outbox.Hooks]
    usage: Counter[tuple[int, date, UsageKind]] = field(default_factory=Counter)
    notices: list[outbox.WebhookEvent] = field(default_factory=list)
    left_queue: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    recalled: list[int] = field(default_factory=list)
    requeued: list[MessageRow] = field(default_factory=list)
    # Another phone for messages whose phone could not send them; and those that went there.
    others: Mapping[int, int] = field(default_factory=dict)
    rerouted: dict[int, QueuedRow] = field(default_factory=dict)
    figures: results.Results = field(default_factory=Counter)
    of_campaigns: Counter[storing.CampaignKey] = field(default_factory=Counter)
    past: list[steps.Past] = field(default_factory=list)
    freed: set[tuple[int, int]] = field(default_factory=set)


def apply(session: Session, changes: Sequence[Change]) -> dict[int, Applied]:
    """Apply the changes that each message's state allows, and return every message found, by id.

    A change that is not allowed changes nothing; so does the same change a second time.
    """
    by_message: dict[int, list[Change]] = defaultdict(list)
    for change in changes:
        by_message[change.message_id].append(change)
    found = _lock(session, by_message)
    if not found:
        return {}
    counted = {number: results.of_campaign(applied.row) for number, applied in found.items()}
    now: datetime = session.scalar(text("SELECT clock_timestamp()"))
    users = {applied.row["user_id"] for applied in found.values()}
    work = _Work(now, now.astimezone(UTC).date(), outbox.hooks_of(session, sorted(users)))
    work.others = failover.choose(session, _failed_unsent(found, by_message, now))
    for message_id, applied in found.items():
        news = _news(applied.row, by_message[message_id])
        for change in sorted(news, key=lambda change: RANK[change.event]):
            _fold(applied, change, work)
        results.moved(work.of_campaigns, counted[message_id], results.of_campaign(applied.row))
    _write(session, [applied for applied in found.values() if applied.changed], work)
    return found


_LOCK = text(f"SELECT {columns_of(Message)} FROM messages WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")  # noqa: S608


def _lock(session: Session, by_message: Mapping[int, Sequence[Change]]) -> dict[int, Applied]:
    ids = sorted(by_message)
    waiting = _lock_queued(session, ids)
    rows = session.execute(_LOCK, {"ids": ids}).mappings()
    found = {row["id"]: Applied(cast("MessageRow", dict(row)), waiting.get(row["id"])) for row in rows}
    # A retry that committed between the two statements made the message pending and its queue row with it; another
    # retry has no business with that row. Who holds it may be waiting for the message, so nobody waits for it here.
    missed = [
        number
        for number, one in found.items()
        if one.row["status"] == Status.PENDING
        and one.queued is None
        and any(change.event is not Event.RETRIED for change in by_message[number])
    ]
    if missed:
        for number, queued in _lock_queued(session, missed, _NOWAIT).items():
            found[number].queued = queued
    return found


_LOCK_QUEUED = f"""
    SELECT {columns_of(QueueEntry)} FROM message_queue WHERE message_id = ANY(:ids)
    ORDER BY message_id FOR NO KEY UPDATE
"""  # noqa: S608 - names of columns
_WAIT, _NOWAIT = text(_LOCK_QUEUED), text(f"{_LOCK_QUEUED} NOWAIT")


def _lock_queued(session: Session, ids: list[int], lock: TextClause = _WAIT) -> dict[int, QueuedRow]:
    rows = session.execute(lock, {"ids": ids}).mappings()
    return {row["message_id"]: cast("QueuedRow", dict(row)) for row in rows}


def _failed_unsent(
    found: Mapping[int, Applied], by_message: Mapping[int, Sequence[Change]], now: datetime
) -> list[MessageRow]:
    """Rows of messages that their phones could not send and did not send in part."""
    rows: list[MessageRow] = []
    for number, one in found.items():
        present = [change for change in by_message[number] if change.attempt == one.row["attempt"]]
        failure = next((change for change in present if change.event is Event.FAILED), None)
        left = any(change.event in {Event.SENT, Event.DELIVERED} for change in present)
        if failure and not left and failover.may_go_on(one.row, one.queued, failure.error, now):
            rows.append(one.row)
    return rows


def _news(row: MessageRow, changes: Sequence[Change]) -> list[Change]:
    """Without what reports of earlier sendings say that is no news of the present one.

    That one of them was taken, failed or was cancelled is none. That it left is, once: it was failed when its owner
    asked for another, so its "sent" counts only where it was not known before and does not come with its failure.
    """
    ended = {change.attempt for change in changes if change.event in {Event.FAILED, Event.CANCELLED}}

    def is_news(change: Change) -> bool:
        if change.attempt is None or change.attempt >= row["attempt"] or change.event is Event.DELIVERED:
            return True
        return change.event is Event.SENT and change.attempt > row["left_attempt"] and change.attempt not in ended

    return [change for change in changes if is_news(change)]


def _fold(applied: Applied, change: Change, work: _Work) -> None:
    row, queued = applied.row, applied.queued
    status = Status(row["status"])
    waiting = queued is not None and queued["stage"] in BEFORE_A_PHONE
    match change.event:
        case Event.ACCEPTED:
            _accept(applied, work)
        case Event.SENT | Event.DELIVERED | Event.FAILED | Event.CANCELLED:
            _report(applied, status, change, work)
        case Event.WITHDRAWN if waiting:
            _move(applied, Status.CANCELLED, change, work)
        case Event.OPTED_OUT if waiting and not row["ignores_opt_out"]:
            row["error_message"] = RECIPIENT_OPTED_OUT
            _move(applied, Status.CANCELLED, change, work)
        case Event.RECALLED if queued is not None and not waiting:
            work.recalled.append(row["id"])
        case Event.EXPIRED | Event.STRANDED | Event.UNREPORTED | Event.RESTORED if (
            queued is not None and status is Status.PENDING
        ):
            _give_up(applied, queued, change.event, work)
        case Event.NOTED:
            _note(applied, status, change, work)
        case Event.RETRIED if status is Status.FAILED and row["deleted_at"] is None and not _may_be_held(row, work.now):
            _retry(applied, work)
        case Event.DELETED if row["deleted_at"] is None:
            _delete(applied, change, work, waiting=waiting)


def _delete(applied: Applied, change: Change, work: _Work, *, waiting: bool) -> None:
    row = applied.row
    if waiting:
        _move(applied, Status.CANCELLED, change, work)
    row["deleted_at"] = work.now
    applied.changed = True
    work.usage[row["user_id"], work.today, UsageKind.hidden(row["status"])] += 1


def _may_be_held(row: MessageRow, now: datetime) -> bool:
    """Whether a phone may still send the failed message: its owner said that it failed, and no phone has said so."""
    return row["failed_by"] == "owner" and row["valid_until"] is not None and row["valid_until"] + GRACE > now


def _accept(applied: Applied, work: _Work) -> None:
    queued = applied.queued
    if queued is None or (queued["stage"] == Stage.ACCEPTED and queued["accepted_at"] is not None):
        return
    queued["stage"] = Stage.ACCEPTED
    queued["accepted_at"] = work.now
    work.accepted.append(applied.row["id"])


def _report(applied: Applied, status: Status, change: Change, work: _Work) -> None:
    row, queued = applied.row, applied.queued
    is_of_phone = change.attempt is not None
    if change.event in {Event.FAILED, Event.CANCELLED} and is_of_phone and row["id"] in work.rerouted:
        # The same report once more in one batch: it speaks of the try before.
        return
    if change.event is Event.FAILED and is_of_phone and row["id"] in work.others and status is Status.PENDING:
        _try_elsewhere(applied, change, work)
        return
    concluded = status is Status.FAILED and (
        row["failed_by"] == "gateway" or (row["failed_by"] == "owner" and is_of_phone)
    )
    allowed = CONCLUDED_FAILURE if concluded else REPORTED.get(status, {})
    target = allowed.get(change.event)
    if target is None:
        return
    if status is Status.FAILED:
        results.failed(work.figures, row, -1)
    if target is Status.FAILED:
        row["error_message"] = change.error or "The phone could not send the message"
        at_phone = queued is not None and queued["stage"] not in BEFORE_A_PHONE
        row["failed_by"] = "owner" if at_phone and not is_of_phone else "phone"
    else:
        row["error_message"] = change.error
        row["failed_by"] = None
    row["uncertain"] = False
    if target is status:
        results.failed(work.figures, row, 1)
        applied.changed = True
    else:
        _move(applied, target, change, work)


def _note(applied: Applied, status: Status, change: Change, work: _Work) -> None:
    """A failure is counted by its error, so it is counted as another from now on."""
    row = applied.row
    if status is Status.FAILED:
        results.failed(work.figures, row, -1)
    row["error_message"], row["updated_at"] = change.error, work.now
    if status is Status.FAILED:
        results.failed(work.figures, row, 1)
    applied.changed = True


def _try_elsewhere(applied: Applied, change: Change, work: _Work) -> None:
    """Keep the failed try, and let another phone have the message; nobody is told of a failure that is not final."""
    row, queued, device = applied.row, applied.queued, work.others[applied.row["id"]]
    if queued is None:
        return
    given: MessageRow = {**row, "released_at": queued["released_at"], "accepted_at": queued["accepted_at"]}
    failed_at = _within(change.at, queued["released_at"] or row["created_at"], work.now)
    work.past += steps.of_try(given, failed_at, change.error)
    results.failed_try(work.figures, queued, work.today, change.error)
    work.freed |= {(row["user_id"], queued["device_id"]), (row["user_id"], device)}
    row.update({"attempt": row["attempt"] + 1, "device_id": device, "routed_at": work.now, "updated_at": work.now})
    queued.update({"stage": Stage.WAITING, "device_id": device, "released_at": None, "accepted_at": None})
    queued.update({"sim_slot": row["sim_slot"], "valid_until": row["valid_until"]})
    work.rerouted[row["id"]] = queued
    applied.changed = True


def _give_up(applied: Applied, queued: QueuedRow, event: Event, work: _Work) -> None:
    waiting, valid_until = queued["stage"] in BEFORE_A_PHONE, queued["valid_until"]
    if event is Event.EXPIRED and waiting and not queued["due_at"] and valid_until and valid_until <= work.now:
        _conclude(applied, EXPIRED, work, uncertain=False)
    elif event is Event.STRANDED and waiting:
        _conclude(applied, PHONE_REMOVED, work, uncertain=False)
    elif event is Event.UNREPORTED and not waiting and valid_until and valid_until + GRACE <= work.now:
        _conclude(applied, NEVER_REPORTED, work, uncertain=True)
    elif event is Event.RESTORED:
        _conclude(applied, MAY_HAVE_LEFT, work, uncertain=True)


def _conclude(applied: Applied, reason: str, work: _Work, *, uncertain: bool) -> None:
    applied.row["error_message"] = reason
    applied.row["failed_by"] = "gateway"
    applied.row["uncertain"] = uncertain
    _move(applied, Status.FAILED, Change(applied.row["id"], Event.FAILED), work)


def _retry(applied: Applied, work: _Work) -> None:
    row = applied.row
    work.past += steps.of_try(row, row["failed_at"] or work.now, row["error_message"])
    work.past.append(steps.Past(row["id"], row["attempt"] + 1, steps.Step.RETRIED, work.now))
    _uncount(row, Status.FAILED, work)
    work.usage[row["user_id"], counted_on(row), UsageKind.SENT] -= 1
    row.update(
        {
            "status": Status.PENDING.value,
            "left_attempt": row["left_attempt"] if row["sent_at"] is None else row["attempt"],
            "attempt": row["attempt"] + 1,
            "device_id": row["device_id"] if row["device_named"] else None,
            "sim_slot": row["sim_slot"] if row["sim_named"] else None,
            "valid_until": None,
            "error_message": None,
            "failed_by": None,
            "uncertain": False,
            "routed_at": work.now if row["device_named"] else None,
            "released_at": None,
            "accepted_at": None,
            "sent_at": None,
            "failed_at": None,
            "counted_on": None,
            "updated_at": work.now,
        }
    )
    applied.changed = True
    work.requeued.append(row)


_TIME_OF: Final[Mapping[Status, Literal["sent_at", "delivered_at", "failed_at", "cancelled_at"]]] = {
    Status.SENT: "sent_at",
    Status.DELIVERED: "delivered_at",
    Status.FAILED: "failed_at",
    Status.CANCELLED: "cancelled_at",
}


def _move(applied: Applied, target: Status, change: Change, work: _Work) -> None:
    """Change the status, with everything that hangs on it."""
    row, queued, before = applied.row, applied.queued, Status(applied.row["status"])
    if queued is not None:
        row["released_at"] = queued["released_at"]
        row["accepted_at"] = queued["accepted_at"]
        row["valid_until"] = queued["valid_until"]
        row["sim_slot"] = row["sim_slot"] if queued["sim_slot"] is None else queued["sim_slot"]
        work.left_queue.append(row["id"])
        if queued["device_id"]:
            work.freed.add((row["user_id"], queued["device_id"]))
        applied.queued = None
    _uncount(row, before, work)
    first_final = target in {Status.DELIVERED, Status.FAILED} and row["failed_at"] is None
    row["status"] = target.value
    row["updated_at"] = work.now
    row[_TIME_OF[target]] = _within(change.at, row["released_at"] or row["created_at"], work.now)
    _count(row, before, target, work)
    if target is Status.FAILED:
        results.failed(work.figures, row, 1)
    elif target in {Status.SENT, Status.DELIVERED}:
        results.left(work.figures, row, before, target)
    applied.changed = True
    applied.passed.append(target)
    _notice(row, work, callback=first_final)


def _within(at: datetime | None, earliest: datetime, now: datetime) -> datetime:
    return now if at is None else min(max(at, earliest), now)


def _uncount(row: MessageRow, before: Status, work: _Work) -> None:
    """Take back what the status that is being left had counted, on the day it was counted to."""
    user = row["user_id"]
    if before in {Status.CANCELLED, Status.FAILED}:
        work.usage[user, counted_on(row), UsageKind(before.value)] -= 1
    if row["deleted_at"] is not None:
        work.usage[user, work.today, UsageKind.hidden(before)] -= 1


def _count(row: MessageRow, before: Status, target: Status, work: _Work) -> None:
    user = row["user_id"]
    if before in {Status.PENDING, Status.CANCELLED}:
        row["counted_on"] = work.today
        if target is not Status.CANCELLED:
            work.usage[user, work.today, UsageKind.SENT] += 1
    if target is not Status.SENT:
        work.usage[user, counted_on(row), UsageKind(target.value)] += 1
    if row["deleted_at"] is not None:
        work.usage[user, work.today, UsageKind.hidden(target)] += 1


def _notice(row: MessageRow, work: _Work, *, callback: bool) -> None:
    account = work.hooks[row["user_id"]].status is not None
    called = callback and row["callback_url"] is not None
    if not account and not called:
        return
    told = outbox.WebhookEvent(row["user_id"], "status", "status", message_object(row), row["id"], None, row["lane"])
    if account:
        work.notices.append(told)
    if called:
        work.notices.append(told._replace(hook="callback", url=row["callback_url"]))


def _write(session: Session, changed: list[Applied], work: _Work) -> None:
    used = [(*key, n, 0) for key, n in work.usage.items() if n]
    rows = [applied.row for applied in changed]
    storing.update(session, rows, work.figures, work.of_campaigns, used, work.left_queue)
    storing.accept(session, set(work.accepted).difference(work.left_queue, work.rerouted), work.now)
    storing.recall(session, work.recalled)
    storing.reroute(session, list(work.rerouted.values()))
    if work.requeued:
        storing.enqueue(session, work.requeued)
        waking.wake_or_route(session, {(row["user_id"], row["device_id"] or 0) for row in work.requeued})
    steps.write(session, work.past)
    trace_notes.tell(session, ((status, one.row["id"]) for one in changed for status in one.passed))
    outbox.write(session, work.notices)
    waking.wake_or_route(session, work.freed)
