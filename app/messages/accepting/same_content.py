"""The guard of an account against sending the same text to the same number twice within some time.

Two single sends at once are judged one after the other: each holds its number until it has ended, and whoever finds a
number held is judged with the next batch. What has failed or was cancelled may be sent again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Integer, Row, text
from sqlalchemy.orm import Session

from app.core.arrays import unnest
from app.core.batching import Later
from app.core.errors import AppError, Conflict
from app.core.refusals import SAME_CONTENT
from app.messages.models import Message
from app.messages.states import Status
from app.messages.storing import NewMessage

# Messages `m` of an account that went to a number, or still may; from the index of recipients.
WENT = f"""m.direction = 'outbound' AND m.deleted_at IS NULL
    AND (m.status NOT IN ('{Status.FAILED}', '{Status.CANCELLED}') OR m.uncertain)"""


class AlreadySent(Conflict):
    """A send of what was sent before; names the other."""

    def __init__(self, other: Row[Any], minutes: int) -> None:
        super().__init__(SAME_CONTENT, retry_after=max(1, other.seconds), message=other.id, minutes=minutes)
        self.other = {"id": other.id, "message_id": str(other.message_id)}

    def body(self) -> dict[str, Any]:
        return {**super().body(), "data": self.other}


_HELD = text(f"""
    SELECT place FROM {unnest(Message.user_id, Message.recipient_number, place=Integer())}
    WHERE NOT pg_try_advisory_xact_lock(hashtextextended('same content ' || recipient_number, user_id))
""")  # noqa: S608 - names of columns
# Without the messages asked for themselves: a batch whose commit is in doubt is run again.
_OTHERS = text(f"""
    SELECT u.place, o.id, o.message_id,
           CAST(ceil(EXTRACT(epoch FROM o.created_at - clock_timestamp()) + 60 * u.minutes) AS integer) AS seconds
    FROM (SELECT u.*, clock_timestamp() - make_interval(mins => u.minutes) AS since FROM {
    unnest(
        Message.user_id,
        Message.recipient_number,
        Message.message,
        Message.message_id,
        place=Integer(),
        minutes=Integer(),
    )
}) u, LATERAL (
        SELECT m.id, m.message_id, m.created_at FROM messages m
        WHERE m.user_id = u.user_id AND m.recipient_number = u.recipient_number AND {WENT}
          AND m.created_at > u.since
          AND m.message = u.message AND m.message_id <> u.message_id
        ORDER BY m.created_at DESC LIMIT 1) o
""")  # noqa: S608 - names of columns and of states


def check(session: Session, rows: Mapping[int, NewMessage], minutes: Mapping[int, int]) -> dict[int, AppError | Later]:
    """What keeps some of the sends from being stored, by place. `minutes` has those whose accounts have the guard."""
    outcomes: dict[int, AppError | Later] = {}
    taken: set[tuple[int, str]] = set()
    for place in minutes:
        key = (rows[place].user_id, rows[place].recipient_number)
        if key in taken:
            outcomes[place] = Later()
        taken.add(key)
    asked = [place for place in minutes if place not in outcomes]
    held = set(session.scalars(_HELD, _values(rows, asked, "user_id", "recipient_number")))
    outcomes |= {place: Later() for place in held}
    free = [place for place in asked if place not in held]
    values = _values(rows, free, "user_id", "recipient_number", "message", "message_id")
    for other in session.execute(_OTHERS, {**values, "minutes": [minutes[place] for place in free]}):
        outcomes[other.place] = AlreadySent(other, minutes[other.place])
    return outcomes


def _values(rows: Mapping[int, NewMessage], places: Sequence[int], *names: str) -> dict[str, list[Any]]:
    columns = {name: [getattr(rows[place], name) for place in places] for name in names}
    return {**columns, "place": list(places)}
