"""Which account is behind a request, before its body is read: by its token or its browser's cookie, or by the
secret in a hook's address.

Only what reading costs depends on it. What the token may do is judged by the call itself, in its own transaction.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.types import Scope

from app.accounts import cookies
from app.accounts.principals import IN_FORCE, TokenCredentials
from app.core.batching import Batcher
from app.core.bodies import header
from app.core.once import once
from app.core.security import bearer, digest, parse_token, same
from app.devices import phone_news
from app.devices.auth import devices_by_token

HOOKS = "/hooks/"

# The credentials of an account's token, the digest of a phone's, or the secret of a hook.
Asker = TokenCredentials | bytes | str

_TOKENS = text(f"SELECT t.id, t.secret_hash, t.user_id FROM tokens t WHERE t.id = ANY(:ids) AND {IN_FORCE}")  # noqa: S608 - a constant


async def account_of(scope: Scope) -> int | None:
    """The account that the request's token or secret belongs to; None for a stranger."""
    if "account" not in scope:
        asker = _asker(scope)
        scope["account"] = None if asker is None else await _lookups().submit(asker)
    account: int | None = scope["account"]
    return account


def _asker(scope: Scope) -> Asker | None:
    if scope["path"].startswith(HOOKS):
        return str(scope["path"].removeprefix(HOOKS))
    token = bearer(header(scope, b"authorization")) or cookies.read(scope, cookies.SESSION)
    return None if token is None else parse_token(token) or digest(token)


@once
def _lookups() -> Batcher[Asker, int | None]:
    """Strangers that come in numbers take one statement at a time, and none of the threads that answer requests."""
    return Batcher("askers", accounts_of)


def accounts_of(session: Session, askers: list[Asker]) -> Sequence[int | None]:
    """The account behind each asker; None for an unknown, expired or removed one."""
    ids = [asker[0] for asker in askers if isinstance(asker, tuple)]
    tokens = {row.id: row for row in session.execute(_TOKENS, {"ids": ids})} if ids else {}
    digests = [asker for asker in askers if isinstance(asker, bytes)]
    phones = devices_by_token(session, digests) if digests else {}
    secrets = [asker for asker in askers if isinstance(asker, str)]
    hooks = phone_news.by_secret(session, secrets) if secrets else {}
    found: list[int | None] = []
    for asker in askers:
        if isinstance(asker, tuple):
            row = tokens.get(asker[0])
            found.append(row.user_id if row and same(bytes(row.secret_hash), asker[1]) else None)
        elif isinstance(asker, bytes):
            found.append(phones[asker]["user_id"] if asker in phones else None)
        else:
            hook = hooks.get(asker)
            found.append(hook["user_id"] if hook and not hook["removed"] else None)
    return found
