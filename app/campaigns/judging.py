"""The late judgement: who of a campaign may have a message now, decided when it is about to be made.

Whatever can leave recipients out or let them wait is asked here, once for each batch of a feed: the place to add to.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.messages.accepting import suppression


class Candidate(NamedTuple):
    """A recipient for whom a message is about to be made; `message_id` is that of one that failed and is retried."""

    campaign_id: int
    place: int
    number: str
    name: str | None
    fields: dict[str, str] | None
    zone: str
    message_id: int | None


class Opening(NamedTuple):
    """Where it is time to send: in these zones of recipients, in all of them for None.

    `until` is when that changes, `code` and `parameters` say why recipients have to wait, if any do.
    """

    zones: Sequence[str] | None = None
    until: datetime | None = None
    code: str | None = None
    parameters: dict[str, str] | None = None


def opening(session: Session, campaign: Campaign, now: datetime) -> Opening:  # noqa: ARG001 - hours are asked for here
    """For which of the campaign's recipients it is time to send."""
    return Opening()


def left_out(
    session: Session, user_id: int, candidates: Sequence[Candidate], texts: Sequence[str]
) -> dict[tuple[int, int], str]:
    """Who gets nothing for good, by campaign and place, and the code of why; each with the text it would get."""
    out = suppression.suppressed(session, user_id, [one.number for one in candidates], texts)
    return {(candidates[at].campaign_id, candidates[at].place): reason for at, reason in out.items()}
