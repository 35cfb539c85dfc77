"""Errors a client may be told about, and the envelope they travel in.

AppError
├── BadRequest        400, to phones only
├── Unauthenticated   401
├── Forbidden         403
│   └── NeedsPremium  403 with `upgrade`
├── NotFound          404, names the model
├── RouteNotFound     404, names the path
├── Conflict          409 with Retry-After
├── MethodNotAllowed  405 with Allow
├── TooSlow           408
├── TooLarge          413
├── UnsupportedMediaType  415
├── Refused           422, a business refusal: success and message only
│   └── Invalid       422, names the fields
├── TooManyAttempts   429 with Retry-After
├── Unavailable       503, a service of others that this one needs
└── Overloaded        503 with Retry-After
"""

# ruff: noqa: N818 - named for what the client is told

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout


class AppError(Exception):
    """Base of what a client is told; anything else is a 500 that says nothing."""

    status = 500
    message = "Server Error"

    def __init__(self, message: str | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message or self.message)
        self.message = message or self.message
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON envelope."""
        return {"success": False, "message": self.message}


class BadRequest(AppError):
    """A request that a phone must not repeat; the public API tells such things as `Invalid`."""

    status = 400


class Unauthenticated(AppError):
    status = 401
    message = "Unauthenticated."


class Forbidden(AppError):
    status = 403
    message = "Invalid ability provided."


class NeedsPremium(Forbidden):
    message = "This feature requires Premium."

    def body(self) -> dict[str, Any]:
        return {**super().body(), "upgrade": True}


class NotFound(AppError):
    status = 404

    def __init__(self, model: str) -> None:
        super().__init__(f"No query results for model [{model}].")


class RouteNotFound(AppError):
    status = 404

    def __init__(self, path: str) -> None:
        super().__init__(f"The route {path.strip('/') or '/'} could not be found.")


class MethodNotAllowed(AppError):
    status = 405

    def __init__(self, method: str, path: str, supported: Sequence[str]) -> None:
        allowed = ", ".join(supported)
        super().__init__(
            f"The {method} method is not supported for route {path.strip('/') or '/'}. Supported methods: {allowed}.",
            headers={"Allow": allowed},
        )


class Conflict(AppError):
    status = 409

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class TooSlow(AppError):
    status = 408
    message = "The request body did not arrive in time."


class TooLarge(AppError):
    status = 413
    message = "The request body is too large."


class UnsupportedMediaType(AppError):
    status = 415
    message = "The request body must be JSON or a form."


class Refused(AppError):
    status = 422

    def __init__(self, message: str | None = None, *, reason: str | None = None) -> None:
        """`reason`: why, for people, where the message is a fixed one."""
        super().__init__(message)
        self.reason = reason

    def body(self) -> dict[str, Any]:
        return {**super().body(), **({"reason": self.reason} if self.reason else {})}


class Invalid(Refused):
    """Validation errors: dotted field name to sentences, in the order they are told; and how many more there are."""

    def __init__(self, errors: Mapping[str, list[str]], *, unnamed: int = 0) -> None:
        self.errors = dict(errors)
        sentences = [sentence for field in self.errors.values() for sentence in field]
        more = len(sentences) - 1 + unnamed
        suffix = f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
        super().__init__(sentences[0] + suffix)

    def body(self) -> dict[str, Any]:
        return {**super().body(), "errors": self.errors}


class TooManyAttempts(AppError):
    status = 429
    message = "Too Many Attempts."

    def __init__(self, retry_after: int) -> None:
        super().__init__(headers={"Retry-After": str(retry_after)})


class Unavailable(AppError):
    status = 503


class Overloaded(AppError):
    status = 503
    message = "The server is busy, try again shortly."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "1"})


_DEADLOCKS = {"40P01", "40001"}
_LOCK_TIMEOUT = "55P03"
_OUT_OF_TIME = {"57014", "25P03"}
_PASSING_STATES = {"53", "57", *_DEADLOCKS, _LOCK_TIMEOUT, *_OUT_OF_TIME}
# The server is about to end; it is a standby, or only read from since it is no longer the primary (25006, 55000); it
# does not know a prepared statement, or knows another one by that name.
_LOSING_STATES = {"57P01", "57P02", "57P03", "57P05", "25006", "55000", "26000", "42P05"}


def loses_connection(error: BaseException) -> bool:
    """True if the connection is of no more use, open or not, and another one may be."""
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate or ""
    return (
        state in _LOSING_STATES
        or state.startswith("08")
        # "cached plan must not change result type", in whatever language the server says it.
        or (state == "0A000" and error.diag.source_function == "RevalidateCachedQuery")
    )


def is_deadlock(error: Exception) -> bool:
    """Whether the database ended the transaction for another's sake: the same again is likely to work."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _DEADLOCKS


def is_locked(error: Exception) -> bool:
    """Whether it came of a lock that somebody else holds, deadlocks among them."""
    return is_deadlock(error) or getattr(getattr(error, "orig", None), "sqlstate", None) == _LOCK_TIMEOUT


def is_out_of_time(error: Exception) -> bool:
    """Whether a statement took longer than its limit, or a transaction did nothing for too long."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _OUT_OF_TIME


def as_app_error(error: Exception) -> AppError:
    """What a client is told of any exception: itself, a 503 where the database is away or busy, else a silent 500."""
    if isinstance(error, AppError):
        return error
    return Overloaded() if _is_passing(error) else AppError()


def _is_passing(error: Exception) -> bool:
    if isinstance(error, PoolTimeout) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return True
    # What a COPY meets comes from the driver as it is.
    met = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(met, psycopg.Error):
        return False
    state = met.sqlstate
    if state is None:
        return isinstance(met, psycopg.OperationalError)
    return loses_connection(met) or state in _PASSING_STATES or state[:2] in _PASSING_STATES
