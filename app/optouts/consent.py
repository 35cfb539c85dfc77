"""Whether a number may be sent to, and what holds an opt-out and the hand-out to phones apart.

A message is looked at when it is accepted, and once more when a phone is given it. The last look and an opt-out are
kept in one order by a lock of the account: shared from before the look until the answer's commit, alone for the moment
in which an opt-out commits. So nothing leaves after that commit but what a phone was given before.
"""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import array
from app.optouts.models import OptOut

_KEY = "hashtextextended('opt-outs', {user})"


def is_opted_out(user: str, number: str) -> str:
    """SQL: whether the account `user` sends nothing to `number`. From an index, one step a number."""
    return f"EXISTS (SELECT FROM opt_outs o WHERE o.user_id = {user} AND o.phone_number = {number})"


# Which numbers are asked for does not matter where there is no opt-out at all.
_AMONG = text(f"""
    SELECT phone_number FROM opt_outs
    WHERE user_id = :user AND phone_number = ANY({array(OptOut.phone_number, "numbers")})
      AND EXISTS (SELECT FROM opt_outs WHERE user_id = :user)
""")  # noqa: S608 - a name of a column


def among(session: Session, user_id: int, numbers: Collection[str]) -> set[str]:
    """Those of the numbers that have opted out of the account's messages."""
    return set(session.scalars(_AMONG, {"user": user_id, "numbers": list(numbers)}))


# In the order of the accounts, so that no two of these wait for each other.
SHARE = f"""
    SELECT pg_advisory_xact_lock_shared({_KEY.format(user="a.user_id")})
    FROM (SELECT DISTINCT user_id FROM {{users}} ORDER BY user_id) a
"""  # noqa: S608 - constants
_SETTLE = text(f"SELECT pg_advisory_xact_lock({_KEY.format(user=':user')})")


def settle(session: Session, user_ids: Collection[int]) -> None:
    """Wait for hand-outs under way that have looked already. The last act before the commit of new opt-outs."""
    for user in sorted(user_ids):
        session.execute(_SETTLE, {"user": user})
