"""Whom a message to many is not sent to although their numbers are right."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from app.optouts import consent


class Reason(StrEnum):
    """Why a recipient is left out."""

    OPTED_OUT = "opted_out"


SENTENCES: Mapping[Reason, str] = {
    Reason.OPTED_OUT: "The recipient has opted out of your messages.",
}


def suppressed(session: Session, user_id: int, numbers: Sequence[str]) -> dict[int, Reason]:
    """Those of the numbers that get no message of the account's to many, by their place."""
    opted_out = consent.among(session, user_id, numbers)
    return {place: Reason.OPTED_OUT for place, number in enumerate(numbers) if number in opted_out}


def skipped(place: int | None, number: str, reason: Reason) -> dict[str, Any]:
    """A recipient as the answer lists it; one of a group has no index."""
    return {"index": place, "reason": SENTENCES[reason], "reason_code": reason.value, "number": number}
