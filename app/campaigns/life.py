"""A campaign's life: started, paused, resumed, cancelled, finished, retried.

Each change is decided under the lock of the campaign's row. Pausing and cancelling have two steps, each a transaction:
the first says that nothing more is given out, and waits for a feed that is under way; the second (`settle`) takes the
messages that wait out of the phones' way. It waits for a hand-out that holds some of them: these were given.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.campaigns import progress
from app.campaigns.models import Campaign
from app.campaigns.states import ALLOWED, CampaignStatus, PausedBy, RecipientState, Verb
from app.campaigns.texts import template_of
from app.core import outbound
from app.core.database import among, interval
from app.core.errors import Invalid, Refused
from app.core.refusals import CAMPAIGN_NOT_ALLOWED, END_HAS_PASSED, NO_RECIPIENTS, NOTHING_TO_RETRY
from app.core.task_names import TaskName
from app.devices import versions
from app.messages.dispatch import waking
from app.messages.life import transitions
from app.messages.life.reports import wire_name
from app.messages.life.retrying import MAX_ATTEMPTS
from app.messages.life.transitions import Change
from app.messages.states import Event, Stage

BATCH_SIZE = 500
# A message that a phone has may come back to wait, and is withdrawn or held then.
LOOKS_FOR_STRAGGLERS = timedelta(seconds=10)

_LED_TO = {
    Verb.START: CampaignStatus.RUNNING,
    Verb.PAUSE: CampaignStatus.PAUSED,
    Verb.RESUME: CampaignStatus.RUNNING,
    Verb.CANCEL: CampaignStatus.CANCELLED,
    Verb.FINISH: CampaignStatus.FINISHED,
}
_DONE = {
    Verb.START: "started",
    Verb.PAUSE: "paused",
    Verb.RESUME: "resumed",
    Verb.CANCEL: "cancelled",
    Verb.FINISH: "finished",
    Verb.RETRY: "retried",
}
_HOLD = text("INSERT INTO held_campaigns (campaign_id) VALUES (:id) ON CONFLICT DO NOTHING")
# Waits for those who have seen that it is held and are writing what they hold: the next statement finds it.
_LET_GO = text("DELETE FROM held_campaigns WHERE campaign_id = :id")


def clock(session: Session) -> datetime:
    """The database's time, which decides; to be read when the lock is held."""
    now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def _may(campaign: Campaign, verb: Verb) -> bool:
    """Whether there is anything to do. Raises `Refused` where the status does not allow it."""
    status = CampaignStatus(campaign.status)
    if status in ALLOWED[verb]:
        return True
    if status is _LED_TO.get(verb):
        return False
    raise Refused(CAMPAIGN_NOT_ALLOWED, state=status.value, done=_DONE[verb])


def start(session: Session, campaign: Campaign, at: datetime | None) -> None:
    """Start the locked campaign, at a time or now. Raises `Refused`, and `Invalid` for an unknown placeholder."""
    if not _may(campaign, Verb.START):
        return
    if not campaign.recipients:
        raise Refused(NO_RECIPIENTS)
    template_of(campaign)  # refuses a placeholder that nobody has a value for
    now = clock(session)
    _refuse_past_end(campaign, max(at or now, now))
    campaign.start_at = at
    campaign.updated_at = now
    if at is not None and at > now:
        campaign.status = CampaignStatus.SCHEDULED
        campaign.next_look_at = at
    else:
        _run(session, campaign, now)
    session.flush()
    audit.record(session, Action.CAMPAIGN_STARTED, campaign.user_id, campaign.id, recipients=campaign.recipients)


def reschedule(session: Session, campaign: Campaign) -> None:
    """Let the locked scheduled campaign that was changed start at its `start_at`. Raises `Refused` and `Invalid`."""
    if campaign.start_at is None:
        raise Invalid({"start_at": ["The start at field is required once the campaign is scheduled."]})
    template_of(campaign)
    now = clock(session)
    _refuse_past_end(campaign, max(campaign.start_at, now))
    campaign.next_look_at = campaign.start_at


def _refuse_past_end(campaign: Campaign, now: datetime) -> None:
    if campaign.end_at is not None and campaign.end_at <= now:
        raise Refused(END_HAS_PASSED)


def _run(session: Session, campaign: Campaign, now: datetime) -> None:
    campaign.status = CampaignStatus.RUNNING
    campaign.started_at = campaign.started_at or now
    campaign.finished_at = None
    campaign.paused_by = campaign.reason_code = campaign.reason = None
    campaign.next_look_at = campaign.updated_at = now
    outbound.nudge(session, TaskName.FEED, campaign.user_id)


def begin(session: Session, campaign: Campaign, now: datetime) -> None:
    """Start a scheduled campaign whose time has come."""
    _run(session, campaign, now)
    session.flush()


def pause(
    session: Session,
    campaign: Campaign,
    by: PausedBy = PausedBy.OWNER,
    code: str = "paused_by_owner",
    figures: dict[str, Any] | None = None,
) -> None:
    """The first step of pausing the locked campaign. Raises `Refused`."""
    if _may(campaign, Verb.PAUSE):
        _stop(session, campaign, CampaignStatus.PAUSED)
        campaign.paused_by, campaign.reason_code, campaign.reason = by, code, figures
        audit.record(session, Action.CAMPAIGN_PAUSED, campaign.user_id, campaign.id, reason=code)
    session.flush()


def _stop(session: Session, campaign: Campaign, status: CampaignStatus) -> None:
    session.execute(_HOLD, {"id": campaign.id})
    campaign.status = status
    # Should this process die before it settles the campaign, another does.
    campaign.next_look_at = campaign.updated_at = clock(session)
    outbound.nudge(session, TaskName.FEED, campaign.user_id)


# One that is scheduled for later goes on to wait for its time.
_RELEASE = text(f"""
    WITH held AS MATERIALIZED (
        SELECT message_id FROM message_queue
        WHERE campaign_id = :id AND stage = {Stage.HELD} AND due_at IS NULL
        ORDER BY message_id FOR NO KEY UPDATE
    )
    UPDATE message_queue SET stage = {Stage.WAITING}, since = clock_timestamp() WHERE {among("message_id", "held")}
    RETURNING user_id, device_id
""")  # noqa: S608 - constants


def resume(session: Session, campaign: Campaign) -> None:
    """Let the locked campaign go on. Raises `Refused`."""
    if not _may(campaign, Verb.RESUME):
        return
    now = clock(session)
    _refuse_past_end(campaign, now)
    if campaign.paused_by == PausedBy.CANARY:
        # Its owner has seen the figures.
        campaign.canary_passed = True
    campaign.canary_made_at = None  # the canary's time does not run while its messages are held
    _judge_anew(session, campaign)
    _run(session, campaign, now)
    session.execute(_LET_GO, {"id": campaign.id})
    audit.record(session, Action.CAMPAIGN_RESUMED, campaign.user_id, campaign.id)
    places = {(row.user_id, row.device_id) for row in session.execute(_RELEASE, {"id": campaign.id})}
    waking.wake_or_route(session, places)
    # The hours of some may have begun or ended meanwhile: they are judged before they are given out.
    outbound.nudge(session, TaskName.RELEASE)
    session.flush()


def _judge_anew(session: Session, campaign: Campaign) -> None:
    """Let the stop rule look at none of the results that were there before its owner said that it goes on."""
    progress.fold(session, [campaign])
    campaign.newest_results = ""


def cancel(session: Session, campaign: Campaign) -> None:
    """The first step of cancelling the locked campaign. Raises `Refused`."""
    if _may(campaign, Verb.CANCEL):
        _stop(session, campaign, CampaignStatus.CANCELLED)
        campaign.finished_at = campaign.updated_at
        campaign.paused_by = campaign.reason_code = campaign.reason = None
        audit.record(session, Action.CAMPAIGN_CANCELLED, campaign.user_id, campaign.id)
    session.flush()


_TO_BE_MADE = f"EXISTS (SELECT FROM campaign_recipients WHERE campaign_id = :id AND state = {RecipientState.WAITING})"
_UNSENT = text(f"""
    SELECT {_TO_BE_MADE} OR EXISTS (
        SELECT FROM message_queue WHERE campaign_id = :id AND stage IN ({Stage.WAITING}, {Stage.HELD}))
""")  # noqa: S608 - constants
_UNFINISHED = text(f"SELECT {_TO_BE_MADE} OR EXISTS (SELECT FROM message_queue WHERE campaign_id = :id)")  # noqa: S608


def has_unsent(session: Session, campaign: Campaign) -> bool:
    """Whether phones are still to be given anything of it, failed messages that are to be sent again among it."""
    return bool(session.scalar(_UNSENT, {"id": campaign.id}))


def finish(session: Session, campaign: Campaign, now: datetime) -> bool:
    """Finish the locked running campaign if nothing of it waits and no phone has a message of it; whether it was."""
    if session.scalar(_UNFINISHED, {"id": campaign.id}):
        return False
    campaign.status = CampaignStatus.FINISHED
    campaign.finished_at = campaign.updated_at = now
    campaign.next_look_at = campaign.reason_code = campaign.reason = None
    session.flush()
    return True


_SET_BACK = text(f"""
    UPDATE campaign_recipients r SET state = {RecipientState.WAITING}
    FROM messages m
    WHERE r.campaign_id = :id AND r.state = {RecipientState.MADE} AND m.id = r.message_id AND m.status = 'failed'
      AND (:uncertain OR NOT m.uncertain) AND m.deleted_at IS NULL AND m.attempt < {MAX_ATTEMPTS}
    RETURNING 1
""")  # noqa: S608 - constants
_UNHURRIED = text("SET LOCAL statement_timeout = '60s'")


def retry_failed(session: Session, campaign: Campaign, *, uncertain: bool) -> int:
    """Let the locked campaign send its failed messages again, fed as its recipients are; how many.

    Those that may have been sent only where `uncertain`. Raises `Refused`.
    """
    _may(campaign, Verb.RETRY)
    session.execute(_UNHURRIED)
    n = len(session.execute(_SET_BACK, {"id": campaign.id, "uncertain": uncertain}).all())
    if not n:
        raise Refused(NOTHING_TO_RETRY)
    audit.record(session, Action.CAMPAIGN_RETRIED, campaign.user_id, campaign.id, messages=n, uncertain=uncertain)
    now = clock(session)
    if campaign.status == CampaignStatus.FINISHED:
        _refuse_past_end(campaign, now)
        campaign.canary_passed = True
        _judge_anew(session, campaign)
        _run(session, campaign, now)
    session.flush()
    return n


_WITHHOLD = text(f"""
    WITH waiting AS MATERIALIZED (
        SELECT message_id FROM message_queue WHERE campaign_id = :id AND stage = {Stage.WAITING}
        ORDER BY message_id FOR NO KEY UPDATE
    )
    UPDATE message_queue SET stage = {Stage.HELD} WHERE {among("message_id", "waiting")}
""")  # noqa: S608 - constants


# What a phone has may come to wait again; so may what was being sent again while the campaign was paused.
_LOOK_AGAIN = text(f"""
    SELECT clock_timestamp() + {interval(LOOKS_FOR_STRAGGLERS)}
    WHERE EXISTS (SELECT FROM message_queue WHERE campaign_id = :id AND stage <> {Stage.HELD})
       OR EXISTS (SELECT FROM campaigns
                  WHERE id = :id AND updated_at > clock_timestamp() - {interval(LOOKS_FOR_STRAGGLERS / 2)})
""")  # noqa: S608 - constants


def settle(session: Session, campaign: Campaign) -> bool:
    """The second step: a batch of what a locked campaign that was paused or cancelled still has in the queue.

    Whether there is more to do at once.
    """
    match CampaignStatus(campaign.status):
        case CampaignStatus.PAUSED:
            session.execute(_WITHHOLD, {"id": campaign.id})
            campaign.next_look_at = session.scalar(_LOOK_AGAIN, {"id": campaign.id})
        case CampaignStatus.CANCELLED:
            if _withdraw(session, campaign.id):
                return True
            _close(session, campaign)
        case _:
            pass
    session.flush()
    return False


_STOP_ALL = text("""
    WITH stopped AS (
        UPDATE campaigns SET status = 'cancelled', next_look_at = clock_timestamp(), updated_at = clock_timestamp(),
            paused_by = NULL, reason_code = NULL, reason = NULL, finished_at = clock_timestamp()
        WHERE id IN (
            SELECT id FROM campaigns
            WHERE user_id = :user AND created_at < :before AND status IN ('scheduled', 'running', 'paused')
            ORDER BY id FOR NO KEY UPDATE)
        RETURNING id
    )
    INSERT INTO held_campaigns (campaign_id) SELECT id FROM stopped ON CONFLICT DO NOTHING
""")


def stop_all(session: Session, user_id: int, before: datetime) -> None:
    """Cancel what a former holder of the account began; each campaign's own task settles what is left of it."""
    session.execute(_STOP_ALL, {"user": user_id, "before": before})


# As `_LET_GO` waits, before the queue's rows are locked, which those who saw it may wait for.
_KEEP_HELD = text("SELECT FROM held_campaigns WHERE campaign_id = :id FOR UPDATE")
_NOT_GIVEN = text(f"""
    SELECT message_id FROM message_queue WHERE campaign_id = :id AND stage IN ({Stage.WAITING}, {Stage.HELD})
    ORDER BY message_id LIMIT :most
""")  # noqa: S608 - constants
_HOLDERS = text(f"""
    SELECT d.id, d.app_version FROM devices d WHERE d.id IN (
        SELECT q.device_id FROM message_queue q
        WHERE q.campaign_id = :id AND q.stage IN ({Stage.RELEASED}, {Stage.ACCEPTED}) AND NOT q.cancelling)
""")  # noqa: S608 - constants
_GIVEN = text(f"""
    SELECT q.message_id, q.device_id, q.stage, m.message_id AS uuid, m.attempt
    FROM message_queue q JOIN messages m ON m.id = q.message_id
    WHERE q.campaign_id = :id AND q.stage IN ({Stage.RELEASED}, {Stage.ACCEPTED}) AND NOT q.cancelling
      AND q.device_id = ANY(:devices)
    ORDER BY q.message_id LIMIT :most
""")  # noqa: S608 - constants
_ANY_LEFT = text("SELECT EXISTS (SELECT FROM message_queue WHERE campaign_id = :id)")


def _withdraw(session: Session, campaign: int) -> bool:
    """What no phone was given is cancelled; for what phones have they are asked, as for a single message. Whether there
    is more to do at once.
    """
    session.execute(_KEEP_HELD, {"id": campaign})
    waiting = session.scalars(_NOT_GIVEN, {"id": campaign, "most": BATCH_SIZE}).all()
    transitions.apply(session, [Change(number, Event.WITHDRAWN) for number in waiting])
    if len(waiting) == BATCH_SIZE:
        return True
    holders = session.execute(_HOLDERS, {"id": campaign})
    able = [phone.id for phone in holders if versions.can_cancel(phone.app_version)]
    given = session.execute(_GIVEN, {"id": campaign, "devices": able, "most": BATCH_SIZE}).all()
    applied = transitions.apply(session, [Change(row.message_id, Event.RECALLED) for row in given])
    for row in given:
        if applied[row.message_id].queued is not None:
            name = wire_name(row.uuid, row.attempt)
            outbound.signal(session, row.device_id, "MessageCancelled", messageId=name)
    for device in {row.device_id for row in given if row.stage == Stage.RELEASED}:
        waking.wake(session, device)
    return len(given) == BATCH_SIZE


def _close(session: Session, campaign: Campaign) -> None:
    """Nothing of it is held back any more once nothing of it can come to wait again."""
    if session.scalar(_ANY_LEFT, {"id": campaign.id}):
        campaign.next_look_at = clock(session) + LOOKS_FOR_STRAGGLERS
    else:
        session.execute(_LET_GO, {"id": campaign.id})
        campaign.next_look_at = None


# Whoever is writing what is held looks at the row too: another tick finds it.
_FORGOTTEN = text("""
    SELECT campaign_id FROM held_campaigns h WHERE NOT EXISTS (SELECT FROM campaigns c WHERE c.id = h.campaign_id)
    ORDER BY campaign_id LIMIT :most FOR UPDATE SKIP LOCKED
""")


def withdraw_forgotten(session: Session) -> bool:
    """Cancel what is left of campaigns that were deleted after their cancel: phones may have some of it for days.
    Whether there is more to do at once.
    """
    for campaign in session.scalars(_FORGOTTEN, {"most": BATCH_SIZE}).all():
        if _withdraw(session, campaign):
            return True
        if not session.scalar(_ANY_LEFT, {"id": campaign}):
            session.execute(_LET_GO, {"id": campaign})
    return False
