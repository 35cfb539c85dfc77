"""Who a device token belongs to."""

from collections.abc import Collection

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

_BY_TOKEN = text("""
    SELECT token_hash, id, user_id, removed_at IS NOT NULL AS removed
    FROM devices WHERE token_hash = ANY(:digests)
""")


def devices_by_token(session: Session, digests: Collection[bytes]) -> dict[bytes, RowMapping]:
    """Devices by the SHA-256 of their token, removed ones included: they keep the right to report what they sent."""
    rows = session.execute(_BY_TOKEN, {"digests": list(digests)}).mappings()
    return {bytes(row["token_hash"]): row for row in rows}
