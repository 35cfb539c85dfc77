"""The late judgement: who of a campaign may have a message now, decided when it is about to be made.

Whatever can leave recipients out or let them wait is asked here, once for each batch of a feed: the place to add to.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import hours
from app.campaigns.models import Campaign, CampaignRecipient
from app.campaigns.states import RecipientState
from app.core.allowed_hours import Keeper, Window, common_window
from app.core.arrays import transposed, unnest
from app.core.envelope import timestamp
from app.core.zones import key_of
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
    """Where it is time to send: to recipients with these zones, to all of them for None.

    `until` is when that changes, `code` and `parameters` say why recipients have to wait, if any do. `closings` is when
    the hours of each zone end; of all of them, under "", where their zones do not count.
    """

    zones: Sequence[str] | None = None
    until: datetime | None = None
    code: str | None = None
    parameters: dict[str, str] | None = None
    closings: Mapping[str, datetime | None] = {}


# How many recipients of one campaign are asked for their zones at once.
_ZONED_AT_ONCE = 5000
_UNZONED = text(f"""
    SELECT r.place, r.number, c.time_zone
    FROM (SELECT place, number FROM campaign_recipients
          WHERE campaign_id = :campaign AND state = {RecipientState.WAITING} AND zone = ''
          ORDER BY place LIMIT :most) r
    LEFT JOIN contacts c ON c.user_id = :user AND c.phone_number = r.number
""")  # noqa: S608 - a constant
_ZONE = text(f"""
    UPDATE campaign_recipients r SET zone = u.zone
    FROM {unnest(CampaignRecipient.place, CampaignRecipient.zone)}
    WHERE r.campaign_id = :campaign AND r.place = u.place
""")  # noqa: S608 - names of columns
# By skipping from one to the next in the index of those that wait.
_ZONES = text(f"""
    WITH RECURSIVE zones AS (
        (SELECT zone FROM campaign_recipients
         WHERE campaign_id = :campaign AND state = {RecipientState.WAITING} AND zone > '' ORDER BY zone LIMIT 1)
        UNION ALL
        SELECT next.zone FROM zones z, LATERAL (
            SELECT r.zone FROM campaign_recipients r
            WHERE r.campaign_id = :campaign AND r.state = {RecipientState.WAITING} AND r.zone > z.zone
            ORDER BY r.zone LIMIT 1) next
    )
    SELECT zone FROM zones
""")  # noqa: S608 - a constant


def keepers(session: Session, campaigns: Collection[int]) -> dict[int, Keeper]:
    """The hours of those campaigns that have any, by campaign."""
    if not campaigns:
        return {}
    rows = session.execute(_HOURS, {"campaigns": sorted(campaigns)})
    return {row.id: Keeper.of(row.hours, row.time_zone, row.country_zones) for row in rows}


_HOURS = text("""
    SELECT c.id, c.hours, u.time_zone, u.country_zones FROM campaigns c JOIN users u ON u.id = c.user_id
    WHERE c.id = ANY(:campaigns) AND c.hours IS NOT NULL
""")


def opening(session: Session, campaign: Campaign, now: datetime) -> Opening:
    """For which of the campaign's recipients it is time to send, by its own hours and the account's."""
    of_account = hours.keepers(session, [campaign.user_id]).get(campaign.user_id)
    of_campaign = keepers(session, [campaign.id]).get(campaign.id) if campaign.hours else None
    both = [keeper for keeper in (of_account, of_campaign) if keeper]
    if not both:
        return Opening()
    if not any(keeper.is_of_recipients for keeper in both):
        window = common_window(both, "", None, now)
        if window.opening <= now:
            return Opening(closings={"": window.closing})
        return _closed(window.opening)
    is_more = _zone(session, campaign)
    windows = {zone: _window(both, zone, now) for zone in session.scalars(_ZONES, {"campaign": campaign.id})}
    closings = {zone: window.closing for zone, window in windows.items() if window.opening <= now}
    later = min((window.opening for window in windows.values() if window.opening > now), default=None)
    if closings or is_more or later is None:
        return Opening(list(closings), now, closings=closings)
    return _closed(later)


def _closed(until: datetime) -> Opening:
    return Opening([], until, "outside_hours", {"until": timestamp(until)})


def _window(both: Sequence[Keeper], zone: str, now: datetime) -> Window:
    number, own = (zone, None) if zone.startswith("+") else ("", zone)
    return common_window(both, number, own, now)


def _zone(session: Session, campaign: Campaign) -> bool:
    """Note where the next of the campaign's recipients are; whether there are more of whom that is not known."""
    values = {"campaign": campaign.id, "user": campaign.user_id, "most": _ZONED_AT_ONCE}
    found = [(row.place, key_of(row.number, row.time_zone)) for row in session.execute(_UNZONED, values)]
    if found:
        session.execute(_ZONE, {**transposed(found, "place", "zone"), "campaign": campaign.id})
    return len(found) == _ZONED_AT_ONCE


def left_out(
    session: Session, user_id: int, candidates: Sequence[Candidate], texts: Sequence[str]
) -> dict[tuple[int, int], str]:
    """Who gets nothing for good, by campaign and place, and the code of why; each with the text it would get."""
    again = [one.message_id for one in candidates if one.message_id is not None]
    out = suppression.suppressed(session, user_id, [one.number for one in candidates], texts, again)
    return {(candidates[at].campaign_id, candidates[at].place): reason for at, reason in out.items()}
