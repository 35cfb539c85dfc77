"""Which phone a send asks for, and what it costs then.

A phone that a request names is never replaced by another. The default phone, and `"active"`, only say where to begin.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Integer, Row, text
from sqlalchemy.orm import Session

from app.accounts.models import Token
from app.accounts.principals import IN_FORCE, NOT_BLOCKED, PRINCIPAL, Principal, TokenCredentials, read_principal
from app.core.arrays import unnest
from app.core.errors import Invalid, Refused
from app.core.refusals import NO_ACTIVE_DEVICE
from app.core.settings import get_settings
from app.core.validation import row_id
from app.devices.health import FAILING
from app.devices.models import Device

ACTIVE = "active"

Reference = int | str | None


class Choice(NamedTuple):
    """The phone of a send, null where routing is to choose one; whether the request named it; the price of one SMS."""

    device_id: int | None
    named: bool
    rate: Decimal


Question = tuple[TokenCredentials, Reference]

# Of a user `u` who asks for the phone with the number `a.id` or the identifier `a.name`.
# A default phone that is failing is for routing to use, which gives it one message at a time.
_PHONES = f"""
    named.id AS named_id, named.is_active AS named_active, named.sms_rate AS named_rate,
    first.id AS default_id, first.is_active AND NOT {FAILING} AS default_active, first.sms_rate AS default_rate,
    EXISTS (SELECT FROM devices d WHERE d.user_id = u.id AND d.is_active AND d.removed_at IS NULL) AS any_active,
    u.sticky_phone
"""
_LOOK_UP = """
    LEFT JOIN LATERAL (
        SELECT id, is_active, sms_rate FROM devices
        WHERE user_id = u.id AND removed_at IS NULL AND (id = a.id OR device_id = a.name)
        ORDER BY id = a.id DESC NULLS LAST LIMIT 1
    ) named ON true
    LEFT JOIN devices first ON first.user_id = u.id AND first.id = u.default_device_id AND first.removed_at IS NULL
    LEFT JOIN device_state s ON s.device_id = first.id
"""
_OF_USER = text(f"""
    SELECT {_PHONES}
    FROM users u CROSS JOIN (SELECT CAST(:id AS bigint) AS id, CAST(:name AS text) AS name) a {_LOOK_UP}
    WHERE u.id = :user
""")  # noqa: S608 - the constants above
_OF_TOKENS = text(f"""
    SELECT {PRINCIPAL}, a.place, {_PHONES}
    FROM {unnest(Device.id, alias="a", place=Integer(), token=Token.id, name=Device.device_id)}
    JOIN tokens t ON t.id = a.token AND {IN_FORCE}
    JOIN users u ON u.id = t.user_id AND {NOT_BLOCKED} {_LOOK_UP}
""")  # noqa: S608 - the constants above, and those of `accounts.principals`


def choose(session: Session, user_id: int, reference: Reference) -> Choice | Refused:
    """What the user's reference comes to; a refusal where there is no such phone."""
    row = session.execute(_OF_USER, {"user": user_id, **_spelled(reference)}).one()
    return _resolve(reference, row)


def account_rate(session: Session, user_id: int) -> Decimal:
    """What an SMS costs that names neither a phone nor a price, whether or not any phone is there."""
    return _rate(session.execute(_OF_USER, {"user": user_id, **_spelled(None)}).one())


def authenticate_and_choose(
    session: Session, questions: Iterable[Question]
) -> dict[Question, tuple[Principal, Choice | Refused]]:
    """As `choose` for many at once, each with who asks; one whose token is unknown, wrong or expired is left out.

    One statement: what a batch of sends costs is above all the number of its statements.
    """
    distinct = list(dict.fromkeys(questions))
    spelled = [_spelled(reference) for _, reference in distinct]
    rows = session.execute(
        _OF_TOKENS,
        {
            "place": list(range(len(distinct))),
            "token": [credentials[0] for credentials, _ in distinct],
            "id": [reference["id"] for reference in spelled],
            "name": [reference["name"] for reference in spelled],
        },
    )
    found: dict[Question, tuple[Principal, Choice | Refused]] = {}
    for row in rows:
        credentials, reference = distinct[row.place]
        principal = read_principal(row, credentials)
        if principal is not None:
            found[credentials, reference] = principal, _resolve(reference, row)
    return found


def _spelled(reference: Reference) -> dict[str, Any]:
    return {"id": row_id(str(reference)), "name": reference if isinstance(reference, str) else None}


def _rate(row: Row[Any]) -> Decimal:
    return row.default_rate if row.default_id is not None else Decimal(str(get_settings().sms_rate))


def _resolve(reference: Reference, row: Row[Any]) -> Choice | Refused:
    rate = _rate(row)
    if reference is not None and reference != ACTIVE:
        if row.named_id is None:
            return Invalid({"device_id": ["The selected device id is invalid."]})
        if not row.named_active:
            return Refused(NO_ACTIVE_DEVICE)
        return Choice(row.named_id, named=True, rate=row.named_rate)
    # Routing knows which phone a number stays with.
    if reference is None and row.default_id is not None and row.default_active and not row.sticky_phone:
        return Choice(row.default_id, named=False, rate=rate)
    if not row.any_active:
        return Refused(NO_ACTIVE_DEVICE)
    return Choice(None, named=False, rate=rate)
