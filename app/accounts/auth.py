"""Who is asking, and what they may do.

Tokens are read from the database in the transaction of the call, never from a cache, so a revoked or expired one ends
at once in every process.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import structlog
from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.database import SessionDep, transaction
from app.core.errors import Forbidden, NeedsPremium, Unauthenticated
from app.core.once import once
from app.core.security import parse_token, same
from app.core.settings import Feature, get_settings
from app.core.shares import Shares

# What a token may be allowed; `*` is everything.
Ability = Literal["*", "sms:send", "sms:read", "contacts", "devices", "webhooks", "account", "tokens", "phone:enroll"]
ABILITIES: tuple[Ability, ...] = get_args(Ability)
_USED_EVERY_SECONDS = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """The user behind a token, what the token may do, and when it ends. `is_premium` is by the database's clock."""

    user_id: int
    token_id: int
    kind: str
    abilities: frozenset[str]
    is_premium: bool
    default_device_id: int | None
    default_region: str | None
    expires_at: datetime | None = None

    def can(self, ability: str) -> bool:
        return "*" in self.abilities or ability in self.abilities

    def has(self, feature: Feature) -> bool:
        """Whether the user's plan has the feature now."""
        return self.is_premium or feature in get_settings().free_features


Credentials = tuple[int, bytes]  # of a token: its id, and the digest of the secret that came with it

# For statements that begin with who asks: a token in force `t`, its user `u`, and what `read_principal` reads of them.
IN_FORCE = "(t.expires_at IS NULL OR t.expires_at > clock_timestamp())"
PRINCIPAL = """
    t.id, t.secret_hash, t.user_id, t.kind, t.abilities,
    coalesce(u.premium_expires_at > clock_timestamp(), false), u.default_device_id, u.default_region, t.expires_at
"""

_PRINCIPAL_OF = text(f"""
    SELECT {PRINCIPAL} FROM tokens t JOIN users u ON u.id = t.user_id WHERE t.id = :id AND {IN_FORCE}
""")  # noqa: S608 - the constants above


def principal_of(session: Session, credentials: Credentials) -> Principal | None:
    """The principal of a token; None where it is unknown, wrong or expired."""
    row = session.execute(_PRINCIPAL_OF, {"id": credentials[0]}).one_or_none()
    return read_principal(row, credentials) if row else None


def read_principal(row: Sequence[Any], credentials: Credentials) -> Principal | None:
    """The principal of a row that begins with `PRINCIPAL`, None where the secret is wrong; its use is noted."""
    number, secret_hash, user, kind, abilities, is_premium, device, region, expires_at = row[:9]
    if not same(bytes(secret_hash), credentials[1]):
        return None
    _usage().note(number)
    return Principal(user, number, kind, frozenset(abilities), is_premium, device, region, expires_at)


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


# A session goes on for as long as it may go unused, up to its longest life; an API key keeps the end it was given.
_TOUCH = text("""
    UPDATE tokens SET last_used_at = clock_timestamp(),
        expires_at = CASE kind WHEN 'session' THEN least(
            created_at + CAST(:life AS interval), clock_timestamp() + CAST(:idle AS interval)) ELSE expires_at END
    WHERE (expires_at IS NULL OR expires_at > clock_timestamp()) AND id IN (
        SELECT id FROM tokens
        WHERE id = ANY(:ids) AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED)
""")


class _Usage:
    """Collects which tokens were used; a thread writes `last_used_at` now and then, beside the calls themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: set[int] = set()
        threading.Thread(target=self._run, name="token-usage", daemon=True).start()

    def note(self, token: int) -> None:
        with self._lock:
            self._used.add(token)

    def write(self) -> None:
        with self._lock:
            used, self._used = self._used, set()
        if not used:
            return
        try:
            with transaction() as session:
                settings = get_settings()
                lasts = {"idle": settings.session_idle, "life": settings.session_lifetime}
                session.execute(_TOUCH, {"ids": sorted(used), **lasts})
        except SQLAlchemyError as error:  # the next use of the token is as good
            log.warning("writing last use of tokens failed", error=type(error).__name__)

    def _run(self) -> None:
        while True:
            time.sleep(_USED_EVERY_SECONDS)
            self.write()


@once
def _usage() -> _Usage:
    return _Usage()


def write_token_usage() -> None:
    """Write at once which tokens were used; for a process that ends."""
    _usage().write()


_bearer = HTTPBearer(
    scheme_name="token",
    auto_error=False,
    description="`<id>|<secret>`, returned by signing in or creating an API key",
)


GivenCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]

# Of the threads that answer plain calls, which one account's slow ones must not take from all others.
_threads = Shares(40)


def current(session: SessionDep, credentials: GivenCredentials) -> Iterator[Principal]:
    """The principal of the request, whatever its token may do.

    Raises `Unauthenticated`, and `TooManyAttempts` where the account has too many calls under way.
    """
    principal = _authenticated(session, credentials)
    with _threads.one(principal.user_id):
        yield principal


def _authenticated(session: Session, credentials: HTTPAuthorizationCredentials | None) -> Principal:
    parsed = parse_token(credentials.credentials.strip()) if credentials else None
    principal = principal_of(session, parsed) if parsed else None
    if principal is None:
        raise Unauthenticated
    return principal


CurrentUser = Annotated[Principal, Depends(current, scope="function")]


@dataclass(frozen=True, slots=True)
class Need:
    """What a call asks for: an ability of its token, and a feature of its user's plan."""

    ability: Ability
    feature: Feature | None


class _Can(Need):
    def __call__(self, principal: CurrentUser) -> Principal:
        require(principal, self.ability, self.feature)
        return principal


class _CanAlone(Need):
    def __call__(self, credentials: GivenCredentials) -> Principal:
        with transaction() as session:
            principal = _authenticated(session, credentials)
        require(principal, self.ability, self.feature)
        return principal


def can(ability: Ability, feature: Feature | None = None) -> _Can:
    """Dependency: the principal, who has been found to be allowed `ability` and to have `feature`."""
    return _Can(ability, feature)


def can_alone(ability: Ability, feature: Feature | None = None) -> _CanAlone:
    """As `can`, in a transaction that is over before the route begins: for routes that wait for something else."""
    return _CanAlone(ability, feature)
