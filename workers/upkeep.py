"""Ticks of beat, each a bounded batch: nudge what is due, move it from silent phones, expire, fold, clean up."""

from functools import partial

import structlog
from sqlalchemy.orm import Session

from app import clock, erasing, retention
from app.accounts import audit, sessions, usage
from app.campaigns import progress, spreading, supervising
from app.core import outbound, vacuuming
from app.core.database import transaction
from app.core.task_names import TaskName
from app.devices import alerts, figures
from app.messages.dispatch import marks, sweeping
from app.messages.life import cleaning, expiry, moving, opting_out, quiet
from app.messages.models import QueueEntry
from app.webhooks import notices
from app.webhooks import retention as deliveries
from workers.base import account_by_account, in_transaction, task

MAX_FOLDED = 5000

log = structlog.get_logger("workers")


@task(TaskName.SWEEP)
def sweep() -> str | None:
    """Nudge again whatever has been due for two seconds: the repair for every nudge that was lost."""
    if in_transaction(clock.is_set_back):
        log.warning("the clock of the database was set back")
        for statement in clock.STATEMENTS:
            in_transaction(Session.execute, statement)
    nudged = in_transaction(sweeping.sweep)
    in_transaction(opting_out.sweep)
    return f"repeated {nudged} nudges" if nudged else None


@task(TaskName.CAMPAIGNS)
def remind_of_campaigns() -> None:
    """See that every campaign is looked after whose time has come."""
    in_transaction(supervising.remind)


@task(TaskName.MOVE)
def move(after: int = 0) -> str | None:
    """Take messages from phones that may not have them."""
    work = partial(in_transaction, partial(moving.move, take_over=spreading.take_over))
    moved = account_by_account(TaskName.MOVE, after, sweeping.accounts, work, moving.BATCH_SIZE)
    return f"moved {moved} messages to other phones" if moved else None


@task(TaskName.EXPIRE)
def expire() -> str | None:
    """Fail what was not sent, or never reported, within its validity."""
    expired = in_transaction(expiry.expire)
    return f"failed {expired} messages whose validity was over" if expired else None


@task(TaskName.FOLD)
def fold() -> str | None:
    """Fold deltas of accounts, phones and campaigns into totals."""
    folded = [in_transaction(fold, MAX_FOLDED) for fold in (usage.fold, figures.fold)]
    folded.append(in_transaction(progress.fold_all))
    if MAX_FOLDED in folded:
        in_transaction(outbound.nudge, TaskName.FOLD)
    return f"folded {sum(folded)} changes of figures" if any(folded) else None


@task(TaskName.ANALYZE)
def analyze() -> str | None:
    """Give the planner statistics of what has just arrived."""
    analyzed = in_transaction(vacuuming.analyze)
    return f"analyzed {', '.join(analyzed)}" if analyzed else None


@task(TaskName.VACUUM)
def vacuum() -> str | None:
    """Keep the way to the head of a queue short, or have it marked where what is gone cannot be removed."""
    with transaction(hot=True, autocommit=True) as session:
        vacuumed = vacuuming.vacuum(session)
        marks.begin_or_end(session, is_vacuumed=QueueEntry.__tablename__ in vacuumed)
    return f"vacuumed {', '.join(vacuumed)}" if vacuumed else None


@task(TaskName.MARK)
def mark() -> str | None:
    """Mark where the queue's rows of each phone begin, while what is gone before them cannot be removed."""
    marked = in_transaction(marks.mark)
    return f"marked {marked} places in the queue" if marked else None


@task(TaskName.CLEAN)
def clean() -> str | None:
    """Delete what nobody can ask for any more."""
    done = [in_transaction(cleaning.clean, statement) for statement in cleaning.STATEMENTS]
    done += [in_transaction(old.clean) for old in (deliveries, audit)]
    in_transaction(sessions.clean)
    notices.notify_owners()
    if max(done) >= cleaning.BATCH_SIZE:
        in_transaction(outbound.nudge, TaskName.CLEAN)
    deleted = sum(done)
    return f"deleted {deleted} rows that are out of date" if deleted else None


@task(TaskName.ERASE)
def erase() -> str | None:
    """Delete what is left of deleted accounts."""
    return "erased a part of what deleted accounts left" if in_transaction(erasing.erase) else None


@task(TaskName.RETAIN)
def retain(after: int = 0) -> str | None:
    """Delete messages and recipients that are older than anybody wants them kept."""
    work = partial(in_transaction, retention.clean)
    deleted = account_by_account(TaskName.RETAIN, after, retention.accounts, work, retention.BATCH_SIZE)
    return f"deleted {deleted} messages and recipients for their age" if deleted else None


@task(TaskName.ALERT)
def alert(after: int = 0) -> str | None:
    """Tell owners of phones that went offline, fail, or are back."""
    told = account_by_account(TaskName.ALERT, after, alerts.accounts, alerts.notify_owner, alerts.BATCH_SIZE)
    return f"told owners of {told} changes of phones" if told else None


@task(TaskName.QUIET)
def see_quiet(after: int = 0) -> str | None:
    """See which phones went quiet, and which did not stay so."""
    seen = account_by_account(TaskName.QUIET, after, quiet.accounts, partial(in_transaction, quiet.recognise))
    return f"{seen} phones went quiet, or did not stay so" if seen else None
