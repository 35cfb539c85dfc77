"""Errors that clients receive, and the envelope they travel in; their sentences are in `refusals`.

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
├── Refused           422, a business refusal
│   └── Invalid       422, names the fields
├── TooManyAttempts   429 with Retry-After
├── Unavailable       503, a service of others that this one needs
└── Overloaded        503 with Retry-After
"""

# ruff: noqa: N818 - named for what the client receives

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.core import refusals
from app.core.refusals import Refusal

# Of as many an answer names each: a body may hold a hundred thousand rows, or millions of texts.
MAX_NAMED_ERRORS = 100


class AppError(Exception):
    """Base of what a client may see; anything else is a 500 without details."""

    status = 500
    refusal = refusals.SERVER_ERROR

    def __init__(
        self, refusal: Refusal | None = None, *, headers: Mapping[str, str] | None = None, **parameters: Any
    ) -> None:
        self.refusal = refusal or self.refusal
        self.parameters = parameters
        self.headers = dict(headers or {})
        super().__init__(self.message)

    @property
    def message(self) -> str:
        return self.refusal.sentence.format(**self.parameters)

    def body(self) -> dict[str, Any]:
        """The JSON envelope."""
        return refusals.body(self.refusal, self.parameters)


class BadRequest(AppError):
    """A request that a phone must not repeat, in words for the app's log; the public API has `Invalid`."""

    status = 400

    def __init__(self, message: str) -> None:
        super().__init__(Refusal("bad_request", "{message}", fixed=True), message=message)


class Unauthenticated(AppError):
    status = 401
    refusal = refusals.UNAUTHENTICATED


class Forbidden(AppError):
    status = 403
    refusal = refusals.LACKS_ABILITY


class NeedsPremium(Forbidden):
    refusal = refusals.NEEDS_PREMIUM

    def body(self) -> dict[str, Any]:
        return {**super().body(), "upgrade": True}


class NotFound(AppError):
    status = 404

    def __init__(self, model: str) -> None:
        super().__init__(refusals.NOT_FOUND, model=model)


class RouteNotFound(AppError):
    status = 404

    def __init__(self, path: str) -> None:
        super().__init__(refusals.ROUTE_NOT_FOUND, path=path.strip("/") or "/")


class MethodNotAllowed(AppError):
    status = 405

    def __init__(self, method: str, path: str, supported: Sequence[str]) -> None:
        allowed = ", ".join(supported)
        super().__init__(
            refusals.METHOD_NOT_ALLOWED,
            headers={"Allow": allowed},
            method=method,
            path=path.strip("/") or "/",
            allowed=allowed,
        )


class Conflict(AppError):
    status = 409

    def __init__(self, refusal: Refusal, *, retry_after: int, **parameters: Any) -> None:
        super().__init__(refusal, headers={"Retry-After": str(retry_after)}, **parameters)


class TooSlow(AppError):
    status = 408
    refusal = refusals.TOO_SLOW


class TooLarge(AppError):
    status = 413
    refusal = refusals.TOO_LARGE


class UnsupportedMediaType(AppError):
    status = 415
    refusal = refusals.UNSUPPORTED_MEDIA_TYPE


class Refused(AppError):
    status = 422

    def __init__(self, refusal: Refusal, *, reason: Refusal | None = None, **parameters: Any) -> None:
        """`reason`: why, where the refusal's own sentence is a fixed one."""
        super().__init__(refusal, **parameters)
        self.reason = reason

    def body(self) -> dict[str, Any]:
        if self.reason is None:
            return super().body()
        why = {"reason": self.reason.sentence.format(**self.parameters), "reason_code": self.reason.code}
        return {**super().body(), **why}


class Invalid(Refused):
    """Validation errors: dotted field name to sentences, in the order they are given; and how many more there are."""

    def __init__(self, errors: Mapping[str, list[str]], *, unnamed: int = 0) -> None:
        self.errors = dict(errors)
        sentences = [sentence for field in self.errors.values() for sentence in field]
        more = len(sentences) - 1 + unnamed
        suffix = f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
        super().__init__(Refusal("invalid", "{message}", fixed=True), message=sentences[0] + suffix)

    def body(self) -> dict[str, Any]:
        return {**super().body(), "errors": self.errors}


class TooManyAttempts(AppError):
    status = 429
    refusal = refusals.TOO_MANY_ATTEMPTS

    def __init__(self, retry_after: int, refusal: Refusal | None = None, **parameters: Any) -> None:
        super().__init__(refusal, headers={"Retry-After": str(retry_after)}, **parameters)


class Unavailable(AppError):
    status = 503


class Overloaded(AppError):
    status = 503
    refusal = refusals.OVERLOADED

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
    """True if PostgreSQL aborted the transaction as a deadlock victim; retrying is likely to succeed."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _DEADLOCKS


def is_locked(error: Exception) -> bool:
    """True if another transaction holds the lock that was needed; includes deadlocks."""
    return is_deadlock(error) or getattr(getattr(error, "orig", None), "sqlstate", None) == _LOCK_TIMEOUT


def is_out_of_time(error: Exception) -> bool:
    """Whether a statement took longer than its limit, or a transaction did nothing for too long."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _OUT_OF_TIME


def as_app_error(error: Exception) -> AppError:
    """What a client receives for any exception: itself, a 503 where the database is away or busy, else a silent 500."""
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
