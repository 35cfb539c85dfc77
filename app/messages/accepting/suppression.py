"""Whom a message to many is not sent to although their numbers are right: who has opted out, has had as many as the
account's frequency cap allows, or has had the same text already.

Bulk sends and feeds of one account that has a cap or the guard are judged one after the other, each with what those
before it have written. A single send that is accepted at the same moment is not seen.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Integer, Row, text
from sqlalchemy.orm import Session

from app.core.arrays import array, unnest
from app.core.lanes import Lane
from app.messages.accepting.same_content import WENT
from app.messages.models import Message
from app.optouts import consent


class Reason(StrEnum):
    """Why a recipient is left out."""

    OPTED_OUT = "opted_out"
    OVER_CAP = "over_cap"
    SAME_CONTENT = "same_content"


SENTENCES: Mapping[Reason, str] = {
    Reason.OPTED_OUT: "The recipient has opted out of your messages.",
    Reason.OVER_CAP: "The recipient has had as many messages as your frequency cap allows.",
    Reason.SAME_CONTENT: "The recipient has had the same text already.",
}

_RULES = text("""
    SELECT CAST(frequency_cap ->> 'messages' AS integer) AS most, CAST(frequency_cap ->> 'days' AS integer) AS days,
           same_content_minutes AS minutes
    FROM users WHERE id = :user AND (frequency_cap IS NOT NULL OR same_content_minutes IS NOT NULL)
""")
_NOT_AGAIN = f"m.id <> ALL ({array(BigInteger(), 'again')})"
# To be followed by statements of their own, which see what those before have committed.
_IN_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('suppression', :user))")
_HAD = text(f"""
    SELECT u.recipient_number, count(*) AS had FROM {unnest(Message.recipient_number)}, LATERAL (
        SELECT FROM messages m
        WHERE m.user_id = :user AND m.recipient_number = u.recipient_number AND {WENT} AND m.lane = {Lane.BULK}
          AND {_NOT_AGAIN}
          AND m.created_at > (SELECT clock_timestamp() - make_interval(days => :days))
        LIMIT :most) h
    GROUP BY u.recipient_number
""")  # noqa: S608 - constants
_SAME = text(f"""
    SELECT u.place FROM {unnest(Message.recipient_number, Message.message, place=Integer())} WHERE EXISTS (
        SELECT FROM messages m
        WHERE m.user_id = :user AND m.recipient_number = u.recipient_number AND {WENT} AND m.message = u.message
          AND {_NOT_AGAIN} AND m.created_at > (SELECT clock_timestamp() - make_interval(mins => :minutes)))
""")  # noqa: S608 - constants


def suppressed(
    session: Session, user_id: int, numbers: Sequence[str], texts: Sequence[str], again: Collection[int] = ()
) -> dict[int, Reason]:
    """Those of the messages that are not to be written, by their place. What is written after it, is in this order.

    `again` are messages that are to be sent once more, which do not stand in their own way.
    """
    opted_out = consent.among(session, user_id, numbers)
    out = {place: Reason.OPTED_OUT for place, number in enumerate(numbers) if number in opted_out}
    if rules := session.execute(_RULES, {"user": user_id}).one_or_none():
        session.execute(_IN_TURN, {"user": user_id})
        left = [place for place in range(len(numbers)) if place not in out]
        asked = [(place, numbers[place], texts[place]) for place in left]
        out |= _repeated(session, rules, asked, {"user": user_id, "again": list(again)})
    return out


def _repeated(
    session: Session, rules: Row[Any], asked: Sequence[tuple[int, str, str]], values: Mapping[str, Any]
) -> dict[int, Reason]:
    """By the cap and the guard; what the request itself has before counts too."""
    out: dict[int, Reason] = {}
    places, numbers, texts = zip(*asked, strict=True) if asked else ((), (), ())
    had: Counter[str] = Counter()
    same: set[int] = set()
    if rules.most is not None:
        of_numbers = {"recipient_number": sorted(set(numbers)), "days": rules.days, "most": rules.most}
        had.update({row.recipient_number: row.had for row in session.execute(_HAD, {**values, **of_numbers})})
    if rules.minutes is not None:
        of_texts = {"recipient_number": list(numbers), "message": list(texts), "place": list(places)}
        same.update(session.scalars(_SAME, {**values, **of_texts, "minutes": rules.minutes}))
    written: set[tuple[str, str]] = set()
    for place, number, body in asked:
        if place in same or (rules.minutes is not None and (number, body) in written):
            out[place] = Reason.SAME_CONTENT
        elif rules.most is not None and had[number] >= rules.most:
            out[place] = Reason.OVER_CAP
        else:
            had[number] += 1
            written.add((number, body))
    return out


def skipped(place: int | None, number: str, reason: Reason) -> dict[str, Any]:
    """A recipient as the answer lists it; one of a group has no index."""
    return {"index": place, "reason": SENTENCES[reason], "reason_code": reason.value, "number": number}
