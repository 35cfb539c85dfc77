"""Adding recipients to a campaign, up to a million in one call.

Rows go to a temporary table as they are read, while nobody waits. Only then is the campaign's row locked, until the
commit: two calls at once come one behind the other, a start waits for the rows of a call that came before it, and a
call that comes after it is refused. What dies in the middle leaves nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.campaigns import records
from app.campaigns.models import Campaign, CampaignLeftOut
from app.campaigns.recipient_schemas import MAX_RECIPIENTS, Added
from app.campaigns.sources import Row, Source
from app.campaigns.states import OPEN
from app.contacts import groups
from app.core.arrays import copy_rows, copy_table
from app.core.errors import Invalid, Refused
from app.core.refusals import ALREADY_STARTED
from app.files.recipients import MAX_LISTED, LeftOut, LeftOutRow
from app.messages.accepting import suppression
from app.messages.accepting.suppression import Reason
from app.optouts import consent

MAX_COLUMNS = 1000
_MAX_COLUMN_NAME = 255
_TOO_MANY = f"A campaign can have at most {MAX_RECIPIENTS} recipients."
_COLUMNS = {"place": "integer", "line": "integer", "number": "text", "name": "text", "fields": "text"}
_PREPARE = (
    # Of one that waits for another call's million rows, and of one that reads them.
    "SET LOCAL lock_timeout = '60s'",
    "SET LOCAL statement_timeout = '15min'",
    "SET LOCAL work_mem = '64MB'",
    f"CREATE TEMPORARY TABLE added ({', '.join(map(' '.join, _COLUMNS.items()))}) ON COMMIT DROP",
)
_MEMBERS = text(f"""
    INSERT INTO added (place, number, name)
    SELECT :behind + row_number() OVER (), m.phone_number, m.name FROM ({groups.MEMBERS}) m
""")  # noqa: S608 - a constant
_ALREADY_THERE = """
    DELETE FROM added a USING campaign_recipients r WHERE r.campaign_id = :campaign AND r.number = a.number
    RETURNING a.place, a.line, a.number, CAST(NULL AS integer) AS first
"""
_TWICE = """
    DELETE FROM added a
    USING (SELECT number, min(place) AS place, min(line) AS line FROM added GROUP BY number HAVING count(*) > 1) first
    WHERE a.number = first.number AND a.place > first.place RETURNING a.place, a.line, a.number, first.line AS first
"""
_OPTED_OUT = f"""
    DELETE FROM added a WHERE {consent.is_opted_out(":user", "a.number")}
    RETURNING a.place, a.line, a.number, CAST(NULL AS integer) AS first
"""  # noqa: S608 - a constant
_REASONS = (
    (_OPTED_OUT, Reason.OPTED_OUT, suppression.SENTENCES[Reason.OPTED_OUT]),
    (_ALREADY_THERE, "duplicate", "The campaign already has this number."),
    (_TWICE, "duplicate", "Duplicate of line {first}."),
)
_LEFT_OUT = "WITH gone AS ({}) SELECT line, number, first, count(*) OVER () AS n FROM gone ORDER BY place LIMIT :most"
_STORE = text("""
    INSERT INTO campaign_recipients (campaign_id, place, number, name, fields)
    SELECT :campaign, :before + place, number, name, CAST(fields AS jsonb) FROM added
""")
_BEFORE = text("SELECT COALESCE(max(place), 0) FROM campaign_recipients WHERE campaign_id = :campaign")


def add(session: Session, user_id: int, campaign_id: int, source: Source, group_ids: Sequence[int] = ()) -> Added:
    """Add the rows of `source`, and behind them the contacts of the groups; each number once in the whole campaign.

    Raises `NotFound`, `Refused` once the campaign has started, and `Invalid` for what cannot be read.
    """
    groups.refuse_unknown("group_ids", group_ids, groups.owned(session, user_id, group_ids))
    for statement in _PREPARE:
        session.execute(text(statement))
    placed = _Placed(source.rows)
    copy_table(session, "added", _COLUMNS, placed)
    if group_ids:
        session.execute(_MEMBERS, {"behind": placed.last, "group_id": list(group_ids), "most": MAX_RECIPIENTS + 1})
    session.execute(text("ANALYZE added"))
    session.expire_all()
    campaign = open_one(session, user_id, str(campaign_id), lock=True)
    _leave_out(session, campaign, source.left_out)
    return _store(session, campaign, source)


def open_one(session: Session, user_id: int, campaign_id: str, *, lock: bool = False) -> Campaign:
    """The user's campaign, which has not started. Raises `NotFound` and `Refused`."""
    campaign = records.find(session, user_id, campaign_id, lock=lock)
    if campaign.status not in OPEN:
        raise Refused(ALREADY_STARTED)
    return campaign


class _Placed:
    """Rows for the temporary table. Their places are their lines, so that a line can be told later, but ascend."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self.last = 0

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for row in self._rows:
            self.last = max(row.line, self.last + 1)
            yield (self.last, *row)


def _leave_out(session: Session, campaign: Campaign, left_out: LeftOut) -> None:
    """Take out of the table who has opted out, is there already, or twice, and note it."""
    values = {"user": campaign.user_id, "campaign": campaign.id, "most": MAX_LISTED}
    for statement, reason, sentence in _REASONS:
        found = session.execute(text(_LEFT_OUT.format(statement)), values).all()
        left_out.rows += [LeftOutRow(row.line, row.number, reason, sentence.format(first=row.first)) for row in found]
        if found:
            left_out.reasons[reason] += found[0].n
    left_out.rows.sort(key=lambda row: row.line or 0)


def _store(session: Session, campaign: Campaign, source: Source) -> Added:
    before = session.scalar(_BEFORE, {"campaign": campaign.id})
    added: int = session.execute(_STORE, {"campaign": campaign.id, "before": before}).rowcount  # type: ignore[attr-defined]
    if campaign.recipients + added > MAX_RECIPIENTS:
        raise Invalid({"recipients": [_TOO_MANY]})
    columns = dict.fromkeys([*campaign.columns, *source.columns])
    if len(columns) > MAX_COLUMNS:
        raise Invalid({"recipients": [f"A campaign's recipients can have at most {MAX_COLUMNS} fields."]})
    if any(len(column) > _MAX_COLUMN_NAME for column in columns):
        raise Invalid({"recipients": [f"A field's name can have at most {_MAX_COLUMN_NAME} characters."]})
    listed = select(func.count()).select_from(CampaignLeftOut).where(CampaignLeftOut.campaign_id == campaign.id)
    room = MAX_LISTED - session.execute(listed).scalar_one()
    copy_rows(
        session,
        (
            CampaignLeftOut.campaign_id,
            CampaignLeftOut.line,
            CampaignLeftOut.value,
            CampaignLeftOut.reason,
            CampaignLeftOut.sentence,
        ),
        ((campaign.id, row.line, row.value, row.code, row.sentence) for row in source.left_out.rows[:room]),
    )
    reasons = source.left_out.reasons
    campaign.recipients += added
    campaign.columns = list(columns)
    campaign.left_out = {
        reason: campaign.left_out.get(reason, 0) + reasons.get(reason, 0) for reason in campaign.left_out | reasons
    }
    campaign.updated_at = session.execute(select(func.clock_timestamp())).scalar_one()
    return Added(added=added, left_out=reasons.total(), reasons=dict(reasons), columns=list(columns))
