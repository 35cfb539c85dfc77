"""How often a number is answered by itself."""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.arrays import transposed, unnest
from app.core.database import interval
from app.optouts.models import OptOutReply

ANSWERED_EVERY = timedelta(hours=24)

_TAKE = text(f"""
    INSERT INTO opt_out_replies (user_id, phone_number)
    SELECT * FROM {unnest(OptOutReply.user_id, OptOutReply.phone_number)} ORDER BY user_id, phone_number
    ON CONFLICT (user_id, phone_number) DO UPDATE SET sent_at = clock_timestamp()
    WHERE opt_out_replies.sent_at <= clock_timestamp() - {interval(ANSWERED_EVERY)}
    RETURNING user_id, phone_number
""")  # noqa: S608 - constants


def take_turns(session: Session, keys: Collection[tuple[int, str]]) -> list[tuple[int, str]]:
    """Those accounts and numbers that may be answered now; not again for a day."""
    rows = session.execute(_TAKE, transposed(sorted(keys), "user_id", "phone_number"))
    return [(row.user_id, row.phone_number) for row in rows]
