"""How pages write times, numbers and states; filters of the templates."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from markupsafe import Markup

from app.devices.failures import OTHER, reason_of
from app.web.words import gettext, marked, said

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_THIN = "\u202f"

_AGO = ((_DAY, marked("%(n)s d ago")), (_HOUR, marked("%(n)s h ago")), (_MINUTE, marked("%(n)s min ago")))
_AFTER = ((_DAY, marked("in %(n)s d")), (_HOUR, marked("in %(n)s h")), (_MINUTE, marked("in %(n)s min")))
STATUSES = {
    "pending": marked("waiting"),
    "sent": marked("sent"),
    "delivered": marked("delivered"),
    "failed": marked("failed"),
    "cancelled": marked("cancelled"),
    "received": marked("received"),
}
DEVICE_STATES = {
    "online": marked("online"),
    "offline": marked("offline"),
    "disabled": marked("paused"),
    "failing": marked("failing"),
    "quiet": marked("sends nothing"),
}
STAGES = {
    "queued": marked("Accepted by the gateway"),
    "routed": marked("Assigned to a phone"),
    "released": marked("Given to the phone"),
    "accepted": marked("Taken by the phone"),
    "sent": marked("Sent"),
    "delivered": marked("Delivered"),
    "failed": marked("Failed"),
    "cancelled": marked("Cancelled"),
    "received": marked("Received"),
    "expired": marked("Expired"),
    "recalled": marked("Asked back from the phone"),
    "retried": marked("Sent again"),
    "moved": marked("Moved to another phone"),
}
DELIVERY_STATES = {
    "pending": marked("waiting"),
    "delivered": marked("delivered"),
    "failed": marked("failed"),
}


CAMPAIGN_STATUSES = {
    "draft": marked("draft"),
    "scheduled": marked("scheduled"),
    "running": marked("running"),
    "paused": marked("paused"),
    "finished": marked("finished"),
    "cancelled": marked("called off"),
}
RECIPIENT_STATES = {
    **STATUSES,
    "not_made": marked("not made yet"),
    "not_sent": marked("not sent"),
    "not_kept": marked("message deleted"),
    "waiting": marked("waiting"),
    "held": marked("held"),
    "given": marked("at phones"),
    "left_out": marked("left out"),
}
# Why recipients are left out of a campaign.
LEFT_OUT_REASONS = {
    "invalid": marked("not a phone number"),
    "empty": marked("no number"),
    "duplicate": marked("there already"),
    "opted_out": marked("opted out"),
    "over_cap": marked("over the cap"),
    "same_content": marked("had the same text"),
    "too_long": marked("too long"),
    "no_text": marked("nothing to send"),
}


def number(value: float | Decimal) -> str:
    """Grouped by thousands."""
    amount = float(value)
    text = f"{int(amount):,}" if amount.is_integer() else f"{amount:,.1f}"
    return text.replace(",", _THIN)


def money(amount: Decimal | float) -> str:
    """A price, grouped by thousands and exact: it may be a small part of a unit."""
    whole, _, part = f"{amount:,.4f}".partition(".")
    part = part.rstrip("0")
    return whole.replace(",", _THIN) + (f".{part}" if part else "")


def when(moment: datetime | None, zone: ZoneInfo) -> Markup:
    """A moment in the account's time zone; the exact one, in UTC, on hover."""
    if moment is None:
        return Markup("<span>—</span>")
    local = moment.astimezone(zone)
    exact = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    text = local.strftime("%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), exact, text)


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago, in words."""
    if moment is None:
        return gettext("never")
    seconds = int((now - moment).total_seconds())
    if seconds < _MINUTE:
        return gettext("just now")
    for size, text in _AGO:
        if seconds >= size:
            return gettext(text) % {"n": seconds // size}
    return ""


def after(moment: datetime | None, now: datetime) -> str:
    """How long until then, in words."""
    if moment is None:
        return ""
    seconds = max(int((moment - now).total_seconds()), 0)
    for size, text in _AFTER:
        if seconds >= size:
            return gettext(text) % {"n": seconds // size}
    return gettext("in %(n)s s") % {"n": seconds}


def badge(word: str, names: dict[str, str]) -> Markup:
    """A state as a coloured word."""
    return Markup('<span class="badge {}">{}</span>').format(word, gettext(names.get(word, word)))


def status(word: str) -> Markup:
    return badge(word, STATUSES)


def device_state(word: str) -> Markup:
    return badge(word, DEVICE_STATES)


def delivery_state(word: str) -> Markup:
    return badge(word, DELIVERY_STATES)


def campaign_status(word: str) -> Markup:
    return badge(word, CAMPAIGN_STATUSES)


def recipient_state(word: str) -> Markup:
    return badge(word, RECIPIENT_STATES)


def left_out_reason(code: str) -> str:
    return gettext(LEFT_OUT_REASONS.get(code, code))


def local(moment: datetime | None, zone: ZoneInfo) -> str:
    """As a field of a form has it."""
    return "" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%dT%H:%M")


def stage(word: str) -> str:
    return gettext(STAGES.get(word, word))


def conversation(number: str) -> str:
    """The address of the conversation with a number, which may be a name with anything in it.

    It is quoted twice: dots and slashes alone would lead a browser elsewhere, and `unquote` finds the name again.
    """
    return "/conversations/" + quote(quote(number, safe="+").replace(".", "%2E"), safe="+")


def reason(error: str | None) -> str:
    """Why a message failed, in words; as its phone said it where that is not known."""
    known = reason_of(error)
    return (error or "") if known is OTHER else said(known.sentence)


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "money": money,
    "when": when,
    "ago": ago,
    "after": after,
    "status": status,
    "device_state": device_state,
    "delivery_state": delivery_state,
    "stage": stage,
    "campaign_status": campaign_status,
    "recipient_state": recipient_state,
    "left_out_reason": left_out_reason,
    "local": local,
    "reason": reason,
    "said": said,
    "conversation": conversation,
}
