"""A campaign's own rate: messages a minute, as even as its looks come, and no minute has more.

It is the generic cell rate algorithm: `next_slot_at` is the theoretical arrival time, which messages may be ahead of by
`AHEAD`, so that a look that comes late is made up for by the next.
"""

from datetime import datetime, timedelta

from app.campaigns.models import Campaign

AHEAD = timedelta(seconds=2)


def interval(rate: int) -> timedelta:
    """Between two messages at so many a minute, on average: no minute has more, with those that are ahead."""
    return (timedelta(minutes=1) + AHEAD) / rate


def allowed(campaign: Campaign, rate: int, waiting: int, now: datetime) -> int:
    """How many more messages may be made now. What waits while no phone takes it must not gather."""
    most = AHEAD // interval(rate) + 1
    free = (now + AHEAD - max(campaign.next_slot_at or now, now)) // interval(rate) + 1
    return max(0, min(free, max(most, 2) - waiting))


def spend(campaign: Campaign, rate: int, messages: int, now: datetime) -> None:
    """Count messages that are made now."""
    campaign.next_slot_at = max(campaign.next_slot_at or now, now) + messages * interval(rate)


def change(campaign: Campaign, rate: int | None, now: datetime) -> None:
    """Let the campaign have another rate from now on: what was spent is not waited for by the rate before."""
    if rate is not None and rate != campaign.rate_per_minute and campaign.next_slot_at is not None:
        campaign.next_slot_at = min(campaign.next_slot_at, now + interval(rate))
    campaign.rate_per_minute = rate
