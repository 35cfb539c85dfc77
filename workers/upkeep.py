"""Ticks of beat, each a bounded batch: nudge what is due, move it from silent phones, expire, fold, clean up."""

from functools import partial

from app.accounts import sessions, usage
from app.campaigns import looking, progress
from app.core import outbound, vacuuming
from app.core.database import transaction
from app.core.task_names import TaskName
from app.devices import alerts, figures
from app.messages.dispatch import sweeping
from app.messages.life import cleaning, erasing, expiry, moving, opting_out, quiet
from app.webhooks import notices, retention
from workers.base import account_by_account, in_transaction, task

MAX_FOLDED = 5000


@task(TaskName.SWEEP)
def sweep() -> None:
    """Nudge again whatever has been due for two seconds: the repair for every nudge that was lost."""
    in_transaction(sweeping.sweep)
    in_transaction(opting_out.sweep)


@task(TaskName.CAMPAIGNS)
def remind_of_campaigns() -> None:
    """See that every campaign is looked after whose time has come."""
    in_transaction(looking.remind)


@task(TaskName.MOVE)
def move(after: int = 0) -> None:
    """Take messages from phones that may not have them."""
    work = partial(in_transaction, moving.move)
    account_by_account(TaskName.MOVE, after, sweeping.accounts, work, moving.BATCH_SIZE)


@task(TaskName.EXPIRE)
def expire() -> None:
    """Fail what was not sent, or never reported, within its validity."""
    in_transaction(expiry.expire)


@task(TaskName.FOLD)
def fold() -> None:
    """Fold deltas of accounts, phones and campaigns into totals."""
    folded = [in_transaction(fold, MAX_FOLDED) for fold in (usage.fold, figures.fold)]
    folded.append(in_transaction(progress.fold_all))
    if MAX_FOLDED in folded:
        in_transaction(outbound.nudge, TaskName.FOLD)


@task(TaskName.ANALYZE)
def analyze() -> None:
    """Give the planner statistics of what has just arrived."""
    in_transaction(vacuuming.analyze)


@task(TaskName.VACUUM)
def vacuum() -> None:
    """Keep the way to the head of a queue short."""
    with transaction(hot=True, autocommit=True) as session:
        vacuuming.vacuum(session)


@task(TaskName.CLEAN)
def clean() -> None:
    """Delete what nobody can ask for any more."""
    for statement in cleaning.STATEMENTS:
        in_transaction(cleaning.clean, statement)
    in_transaction(retention.clean)
    in_transaction(sessions.clean)
    notices.tell_owners()


@task(TaskName.ERASE)
def erase() -> None:
    """Delete what is left of deleted accounts."""
    in_transaction(erasing.erase)


@task(TaskName.ALERT)
def alert(after: int = 0) -> None:
    """Tell owners of phones that went offline, fail, or are back."""
    account_by_account(TaskName.ALERT, after, alerts.accounts, alerts.tell_owner, alerts.BATCH_SIZE)


@task(TaskName.QUIET)
def see_quiet(after: int = 0) -> None:
    """See which phones went quiet, and which did not stay so."""
    account_by_account(TaskName.QUIET, after, quiet.accounts, partial(in_transaction, quiet.recognise))
