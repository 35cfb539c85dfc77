"""The allowed hours of accounts, ready to be asked."""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.allowed_hours import Keeper

_OF_USERS = text("""
    SELECT id, allowed_hours, time_zone, country_zones FROM users
    WHERE id = ANY(:users) AND allowed_hours IS NOT NULL
""")


def keepers(session: Session, users: Collection[int]) -> dict[int, Keeper]:
    """Those of the users that have allowed hours, by user."""
    rows = session.execute(_OF_USERS, {"users": sorted(users)}) if users else ()
    return {row.id: Keeper.of(row.allowed_hours, row.time_zone, row.country_zones) for row in rows}
