"""Which phone a send asks for, and what it costs then.

A phone that a request names is never replaced by another. The default phone, and `"active"`, only say where to begin.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from app.accounts.auth import Principal
from app.core.errors import Invalid, Refused
from app.core.settings import get_settings
from app.core.validation import row_id

ACTIVE = "active"
NO_ACTIVE_DEVICE = "No active device available"

Reference = int | str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """The phone of a send, null where routing is to choose one; whether the request named it; the price of one SMS."""

    device_id: int | None
    named: bool
    rate: Decimal


_LOOK_UP = text("""
    SELECT u.place, d.id, d.is_active, d.sms_rate,
           EXISTS (SELECT FROM devices a
                   WHERE a.user_id = u.user_id AND a.is_active AND a.removed_at IS NULL) AS any_active
    FROM unnest(CAST(:places AS integer[]), CAST(:users AS bigint[]), CAST(:ids AS bigint[]), CAST(:names AS text[]))
         AS u(place, user_id, id, name)
    LEFT JOIN LATERAL (
        SELECT id, is_active, sms_rate FROM devices
        WHERE user_id = u.user_id AND removed_at IS NULL AND (id = u.id OR device_id = u.name)
        ORDER BY id = u.id DESC NULLS LAST LIMIT 1
    ) d ON true
""")


def choose(
    session: Session, asked: Iterable[tuple[Principal, Reference]]
) -> dict[tuple[int, Reference], Choice | Refused]:
    """What each user's reference comes to, by (user id, reference); a refusal where there is no such phone."""
    wanted: dict[tuple[int, Reference], Principal] = {(user.user_id, reference): user for user, reference in asked}
    pairs = set(wanted) | {(user.user_id, user.default_device_id) for user in wanted.values()}
    found = _look_up(session, sorted(pairs, key=str))
    return {key: _judge(key[1], found[key], found[key[0], user.default_device_id]) for key, user in wanted.items()}


def _look_up(session: Session, pairs: list[tuple[int, Reference]]) -> dict[tuple[int, Reference], RowMapping]:
    references = [reference for _, reference in pairs]
    rows = session.execute(
        _LOOK_UP,
        {
            "places": list(range(len(pairs))),
            "users": [user for user, _ in pairs],
            "ids": [row_id(str(reference)) for reference in references],
            "names": [reference if isinstance(reference, str) else None for reference in references],
        },
    ).mappings()
    return {pairs[row["place"]]: row for row in rows}


def _judge(reference: Reference, named: RowMapping, default: RowMapping) -> Choice | Refused:
    account_rate = default["sms_rate"] if default["id"] is not None else Decimal(str(get_settings().sms_rate))
    if reference is not None and reference != ACTIVE:
        if named["id"] is None:
            return Invalid({"device_id": ["The selected device id is invalid."]})
        if not named["is_active"]:
            return Refused(NO_ACTIVE_DEVICE)
        return Choice(named["id"], named=True, rate=named["sms_rate"])
    if reference is None and default["id"] is not None and default["is_active"]:
        return Choice(default["id"], named=False, rate=account_rate)
    if not named["any_active"]:
        return Refused(NO_ACTIVE_DEVICE)
    return Choice(None, named=False, rate=account_rate)
