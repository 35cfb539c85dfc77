"""Who is asking, and what they may do.

Tokens are read from the database in the transaction of the call, never from a cache, so a revoked or expired one ends
at once in every process.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts import token_use
from app.core import caller
from app.core.errors import Forbidden, NeedsPremium, Unauthenticated
from app.core.security import same
from app.core.settings import Feature, get_settings

# What a token may be allowed; `*` is everything.
Ability = Literal[
    "*", "sms:send", "sms:read", "campaigns", "contacts", "devices", "webhooks", "account", "tokens", "phone:enroll"
]
ABILITIES: tuple[Ability, ...] = get_args(Ability)


class Principal(NamedTuple):
    """The user behind a token, what the token may do, and when it ends. `is_premium` is by the database's clock."""

    user_id: int
    token_id: int
    kind: str
    abilities: frozenset[str]
    is_premium: bool
    default_device_id: int | None
    default_region: str | None
    expires_at: datetime | None = None
    same_content_minutes: int | None = None

    def can(self, ability: str) -> bool:
        return "*" in self.abilities or ability in self.abilities

    def has(self, feature: Feature) -> bool:
        """Whether the user's plan has the feature now."""
        return self.is_premium or feature in get_settings().free_features


TokenCredentials = tuple[int, bytes]  # of a token: its id, and the digest of the secret that came with it

# For statements that begin with who asks: a token in force `t`, its user `u`, who is not blocked, and what
# `read_principal` reads of them.
NOT_BLOCKED = "u.blocked_at IS NULL"
IN_FORCE = "(t.expires_at IS NULL OR t.expires_at > clock_timestamp())"
PRINCIPAL = """
    t.id, t.secret_hash, t.user_id, t.kind, t.abilities,
    COALESCE(u.premium_expires_at > clock_timestamp(), false), u.default_device_id, u.default_region, t.expires_at,
    u.same_content_minutes
"""

_PRINCIPAL_OF = text(f"""
    SELECT {PRINCIPAL} FROM tokens t JOIN users u ON u.id = t.user_id AND {NOT_BLOCKED} WHERE t.id = :id AND {IN_FORCE}
""")  # noqa: S608 - the constants above


def principal_of(session: Session, credentials: TokenCredentials) -> Principal | None:
    """The principal of a token; None where it is unknown, wrong or expired."""
    row = session.execute(_PRINCIPAL_OF, {"id": credentials[0]}).one_or_none()
    principal = read_principal(row, credentials) if row else None
    if principal is not None:
        caller.identify(principal.user_id, principal.token_id, principal.kind)
    return principal


def read_principal(row: Sequence[Any], credentials: TokenCredentials) -> Principal | None:
    """The principal of a row that begins with `PRINCIPAL`, None where the secret is wrong; its use is noted."""
    number, secret_hash, user, kind, abilities, is_premium, device, region, expires_at, same_content = row[:10]
    if not same(bytes(secret_hash), credentials[1]):
        return None
    token_use.note(number)
    return Principal(user, number, kind, frozenset(abilities), is_premium, device, region, expires_at, same_content)


_HOLD = text("SELECT enrolls FROM tokens WHERE id = :id FOR KEY SHARE")


def hold(session: Session, principal: Principal) -> bool:
    """Keep the token in force until this transaction ends. Whether it may enroll phones.

    For what would outlive it and act for its holder: keys, phones, webhooks, messages. Lock the user before, if at all.
    Raises `Unauthenticated` where it was revoked meanwhile.
    """
    enrolls: bool | None = session.scalar(_HOLD, {"id": principal.token_id})
    if enrolls is None:
        raise Unauthenticated
    return enrolls


def require(principal: Principal, ability: Ability, feature: Feature | None = None) -> None:
    """Raise `Forbidden` where the token lacks `ability`, `NeedsPremium` where the plan lacks `feature`.

    API keys also need the feature `api`; enrolling a phone does not, it only takes a key because an app can type one.
    """
    if not principal.can(ability):
        raise Forbidden
    if principal.kind == "key" and ability != "phone:enroll" and not principal.has("api"):
        raise NeedsPremium
    if feature is not None and not principal.has(feature):
        raise NeedsPremium
