"""Which of an account's phones a campaign may use, and how many messages they can take."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.devices.health import FAILING, RESTING
from app.devices.presence import ONLINE
from app.messages.dispatch.pace import COUNT_AHEAD, HELD, MAX_LOOKAHEAD, seconds_each
from app.messages.dispatch.routing import Candidate

ACTIVE = "active"
# How many messages of campaigns wait for the same phones: what these can send in this time.
STOCK_FOR = timedelta(seconds=30)
MIN_STOCK, MAX_STOCK = 200, 2000

# The phones whose messages are of one stock; None for all of the account's.
Choice = tuple[int, ...] | None


class Phone(Candidate):
    sms_rate: Decimal


_PHONES = text(f"""
    SELECT d.id, d.send_delay_seconds, d.send_delay_spread_seconds, s.send_window, d.sms_rate, {ONLINE} AS online,
           a.ahead, {FAILING} AS failing, {RESTING} AS resting, {HELD} AS held, false AS held_partly
    FROM devices d JOIN device_state s ON s.device_id = d.id, {COUNT_AHEAD}
    WHERE d.user_id = :user AND d.is_active AND d.removed_at IS NULL ORDER BY d.id
""")  # noqa: S608 - constants


def enabled(session: Session, user_id: int) -> list[Phone]:
    """The account's phones that may be given messages."""
    rows = session.execute(_PHONES, {"user": user_id, "most": MAX_LOOKAHEAD}).mappings()
    return [cast("Phone", dict(row)) for row in rows]


def choice_of(campaign: Campaign) -> Choice:
    """The phones that the campaign names."""
    devices: Any = campaign.devices
    if devices is None or devices == ACTIVE:
        return None
    return tuple(sorted(devices)) if isinstance(devices, list) else (devices,)


def among(phones: Sequence[Phone], choice: Choice) -> list[Phone]:
    """Those of the phones that the choice allows."""
    return [phone for phone in phones if choice is None or phone["id"] in choice]


def stock(phones: Sequence[Phone]) -> int:
    """How many messages may wait for these phones together."""
    able = [phone for phone in phones if phone["online"]] or phones
    each_second = sum(1 / seconds_each(phone) for phone in able)
    return min(max(MIN_STOCK, int(STOCK_FOR.total_seconds() * each_second)), MAX_STOCK)


def shares(room: int, waiting: Mapping[int, int], wanted: Mapping[int, int]) -> dict[int, int]:
    """How many of `room` each campaign may have, so that as many as possible of each wait; none more than it wants.

    Counted out one by one to whoever has the least waiting, so campaigns take turns whatever their size.
    """
    given = dict.fromkeys(wanted, 0)
    open_ = [campaign for campaign in wanted if wanted[campaign] > 0]
    while room > 0 and open_:
        least = min(waiting.get(campaign, 0) + given[campaign] for campaign in open_)
        for campaign in open_:
            if room > 0 and waiting.get(campaign, 0) + given[campaign] == least:
                given[campaign] += 1
                room -= 1
        open_ = [campaign for campaign in open_ if given[campaign] < wanted[campaign]]
    return given
