"""Telling owners what became of their campaigns: as an event of the status webhook, and by mail."""

from collections.abc import Sequence
from typing import NamedTuple

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.campaigns import records
from app.campaigns.models import Campaign
from app.campaigns.sentences import sentence
from app.core.mail import MailNotSentError, send
from app.webhooks import outbox

log = structlog.get_logger(__name__)


class Mail(NamedTuple):
    """A mail to be sent when no transaction is open."""

    to: str
    subject: str
    text: str


def write_event(session: Session, campaign: Campaign) -> None:
    """An event `campaign` with the campaign as it is shown."""
    [shown] = records.shown(session, [campaign])
    data = shown.model_dump(mode="json", by_alias=True)
    outbox.write(session, [outbox.WebhookEvent(campaign.user_id, "status", "campaign", data)])


def paused(session: Session, campaign: Campaign) -> Mail:
    """Tell of a campaign that was paused by itself; the mail is to be sent after the commit."""
    write_event(session, campaign)
    to: str = session.execute(text("SELECT email FROM users WHERE id = :id"), {"id": campaign.user_id}).scalar_one()
    reason = sentence(campaign.reason_code, campaign.reason)
    return Mail(to, f"Campaign paused: {campaign.name}", f"{campaign.name} was paused. {reason}\n")


def post(mails: Sequence[Mail]) -> None:
    """Send mails. What is not sent, because the process died or the mail server failed, is not sent again."""
    for mail in mails:
        try:
            send(*mail)
        except MailNotSentError as error:
            log.warning("owner not notified about campaign", error=str(error))
