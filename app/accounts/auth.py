"""Who is asking, and what they may do, as dependencies of routes."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from app.accounts.principals import Ability, Principal, principal_of, require
from app.core.database import transaction
from app.core.dependencies import SessionDep
from app.core.errors import Unauthenticated
from app.core.security import parse_token
from app.core.settings import Feature

_bearer = HTTPBearer(
    scheme_name="token",
    auto_error=False,
    description="`<id>|<secret>`, returned by signing in or creating an API key",
)


GivenCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def current(session: SessionDep, credentials: GivenCredentials) -> Principal:
    """The principal of the request, whatever its token may do. Raises `Unauthenticated`."""
    return _authenticated(session, credentials)


def _authenticated(session: Session, credentials: HTTPAuthorizationCredentials | None) -> Principal:
    parsed = parse_token(credentials.credentials.strip()) if credentials else None
    principal = principal_of(session, parsed) if parsed else None
    if principal is None:
        raise Unauthenticated
    return principal


CurrentUser = Annotated[Principal, Depends(current)]


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
