"""Deleting one's own account."""

from app.accounts import google, login_limits, ownership, signin
from app.accounts.models import User
from app.accounts.principals import Principal, hold
from app.core.database import transaction
from app.core.errors import Forbidden
from app.core.refusals import SESSION_NEEDED


def delete_account(principal: Principal, password: str | None, id_token: str | None) -> None:
    """End the account of who proves to be its owner, in transactions of its own. Raises `Forbidden`, `Invalid`."""
    if principal.kind != "session":
        raise Forbidden(SESSION_NEEDED)
    with login_limits.of_password(principal.user_id):
        if id_token is not None or signin.confirm(principal.user_id, password) is None:
            google.confirm(principal.user_id, id_token)
    with transaction() as session:
        # Locked before the token, so that of two calls at once the second finds it gone.
        session.get(User, principal.user_id, with_for_update={"key_share": True})
        hold(session, principal)
        ownership.delete_account(session, principal.user_id)
