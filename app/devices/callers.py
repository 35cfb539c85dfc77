"""Which account is behind a request, before its body is read: by its token or its browser's cookie, or by the
secret in a hook's address.

Only what reading costs depends on it. What the token may do is judged by the call itself, in its own transaction.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.types import Scope

from app.accounts import cookies
from app.accounts.principals import IN_FORCE, NOT_BLOCKED, TokenCredentials
from app.core.batching import Batcher
from app.core.bodies import header
from app.core.once import once
from app.core.security import bearer, digest, parse_token, same
from app.devices import phone_news
from app.devices.auth import devices_by_token

HOOKS = "/hooks/"

# The credentials of an account's token, the digest of a phone's, or the secret of a hook.
Caller = TokenCredentials | bytes | str

_TOKENS = text(f"""
    SELECT t.id, t.secret_hash, t.user_id FROM tokens t JOIN users u ON u.id = t.user_id AND {NOT_BLOCKED}
    WHERE t.id = ANY(:ids) AND {IN_FORCE}
""")  # noqa: S608 - constants


async def account_of(scope: Scope) -> int | None:
    """The account that the request's token or secret belongs to; None for a stranger."""
    if "account" not in scope:
        caller = _caller(scope)
        scope["account"] = None if caller is None else await _lookups().submit(caller)
    account: int | None = scope["account"]
    return account


def _caller(scope: Scope) -> Caller | None:
    if scope["path"].startswith(HOOKS):
        return str(scope["path"].removeprefix(HOOKS))
    token = bearer(header(scope, b"authorization")) or cookies.read(scope, cookies.SESSION)
    return None if token is None else parse_token(token) or digest(token)


@once
def _lookups() -> Batcher[Caller, int | None]:
    """Strangers that come in numbers take one statement at a time, and none of the threads that answer requests."""
    return Batcher("callers", accounts_of)


def accounts_of(session: Session, callers: list[Caller]) -> Sequence[int | None]:
    """The account behind each caller; None for an unknown, expired or removed one."""
    ids = [caller[0] for caller in callers if isinstance(caller, tuple)]
    tokens = {row.id: row for row in session.execute(_TOKENS, {"ids": ids})} if ids else {}
    digests = [caller for caller in callers if isinstance(caller, bytes)]
    phones = devices_by_token(session, digests) if digests else {}
    secrets = [caller for caller in callers if isinstance(caller, str)]
    hooks = phone_news.by_secret(session, secrets) if secrets else {}
    found: list[int | None] = []
    for caller in callers:
        if isinstance(caller, tuple):
            row = tokens.get(caller[0])
            found.append(row.user_id if row and same(bytes(row.secret_hash), caller[1]) else None)
        elif isinstance(caller, bytes):
            found.append(phones[caller]["user_id"] if caller in phones else None)
        else:
            hook = hooks.get(caller)
            found.append(hook["user_id"] if hook and not hook["removed"] else None)
    return found
