"""How often a minute somebody may try to get into accounts; for the API and the dashboard together."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.core.emails import normalize
from app.core.errors import Invalid, Unauthenticated
from app.core.throttling import failures

FAILED_LOGINS = 10
# Of a million codes three are good at a time: who has the password needs 45 years to guess one.
WRONG_CODES_A_DAY = 20
# From one network address.
LOGINS_PER_ADDRESS = 100
REGISTRATIONS_PER_ADDRESS = 30
RESETS_PER_ADDRESS = 30


@contextmanager
def of_address(email: str) -> Iterator[None]:
    """A try to sign in to the account of this e-mail address."""
    with failures("failed-login", normalize(email), FAILED_LOGINS, Unauthenticated):
        yield


@contextmanager
def of_code(user_id: int) -> Iterator[None]:
    """A try of somebody who knows the password with a code of the second factor. Recovery codes cannot be guessed."""
    with failures("code", str(user_id), WRONG_CODES_A_DAY, Unauthenticated, window=86_400):
        yield


@contextmanager
def of_password(user_id: int) -> Iterator[None]:
    """A try of somebody who is signed in to prove it by the password."""
    with failures("password", str(user_id), FAILED_LOGINS, Invalid):
        yield
