"""Who causes what happens now, for the audit log: a request, a command at a terminal, or the gateway by itself."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Caller:
    """`by` is a kind of token (`session`, `key`), or `visitor`, `command` and `gateway`.

    Filled in while the request goes on: the edge knows its address, whoever reads the token knows the user.
    """

    by: str = "gateway"
    address: str | None = None
    user_id: int | None = None
    token_id: int | None = None


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def begin(caller: Caller) -> None:
    """From here on, and in threads that are started from here, this is who causes what happens."""
    _caller.set(caller)


def current() -> Caller:
    return _caller.get() or Caller()


def identify(user_id: int, token_id: int, kind: str) -> None:
    """Say whose token the request came with."""
    if (caller := _caller.get()) is not None:
        caller.user_id, caller.token_id, caller.by = user_id, token_id, kind
