"""What an owner asks of a campaign as a whole: each call some transactions, and the answer what came of it."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from app.campaigns import life, records
from app.campaigns.models import Campaign
from app.campaigns.schemas import CampaignOut
from app.core import outbound
from app.core.database import repeat_once, transaction
from app.core.errors import is_locked
from app.core.task_names import TaskName

# What is left of a large campaign then is settled by the workers; nothing of it is given out meanwhile.
MAX_BATCHES = 20

Step = Callable[[Session, Campaign], None]
Result = TypeVar("Result")


def pause(user_id: int, campaign: str) -> CampaignOut:
    """When this has answered, nothing more of the campaign is given to any phone."""
    return _settled(user_id, campaign, life.pause)


def cancel(user_id: int, campaign: str) -> CampaignOut:
    """As `pause`; and what waited is cancelled, and phones are asked for what they have."""
    return _settled(user_id, campaign, life.cancel)


def _settled(user_id: int, campaign: str, step: Step) -> CampaignOut:
    _done(user_id, campaign, step)
    for _ in range(MAX_BATCHES):
        if not _in_transaction(lambda session: life.settle(session, _locked(session, user_id, campaign))):
            break
    else:
        _in_transaction(lambda session: outbound.nudge(session, TaskName.FEED, user_id))
    return _in_transaction(lambda session: _shown(session, records.find(session, user_id, campaign)))


def _done(user_id: int, campaign: str, step: Step) -> CampaignOut:
    def once(session: Session) -> CampaignOut:
        found = _locked(session, user_id, campaign)
        step(session, found)
        return _shown(session, found)

    return _in_transaction(once)


def _locked(session: Session, user_id: int, campaign: str) -> Campaign:
    return records.find(session, user_id, campaign, lock=True)


def _shown(session: Session, campaign: Campaign) -> CampaignOut:
    [shown] = records.shown(session, [campaign])
    return shown


def _in_transaction(work: Callable[[Session], Result]) -> Result:
    """Once more where a lock was not to be had in time: a feed or a hand-out is over by then."""

    def once() -> Result:
        with transaction() as session:
            return work(session)

    return repeat_once(once, is_locked)
