"""A campaign's recipients with where their messages stand, and the rows that were left out; as pages and as CSV.

Recipients are walked by place, so that a page costs the same wherever it is in a million.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import RowMapping, func, select, text
from sqlalchemy.orm import Session

from app.accounts import audit
from app.accounts.audit import Action
from app.campaigns.models import Campaign, CampaignLeftOut
from app.campaigns.recipient_schemas import LeftOutOut, RecipientFilter, RecipientOut, RecipientPage
from app.campaigns.states import RecipientState
from app.core.database import transaction
from app.core.envelope import timestamp
from app.core.pages import Page, Paging
from app.files.csv_output import csv_lines, harmless, number_or_text
from app.messages.accepting import suppression
from app.messages.states import Stage, Status

_BATCH = 2000
_BOM = "\ufeff"
# How many recipients a page looks at in search of those with a state: a page may be short, but is never slow.
_MAX_LOOKED_AT = 40_000
COLUMNS = ("number", "name", "state", "message_id", "error", "sent_at", "delivered_at", "failed_at")
EXAMPLE = (
    '"number","name","state","message_id","error","sent_at","delivered_at","failed_at"\r\n'
    '"+12025550148","Laylo","delivered","1042","","2026-06-08T10:00:00.000000Z","2026-06-08T10:00:02.000000Z",""\r\n'
)
# Of recipients who were left out while the campaign ran, which has no row of a file to speak of.
_SENTENCES: dict[str, str] = {
    **{str(reason): sentence for reason, sentence in suppression.SENTENCES.items()},
    "no_text": "Nothing is left of the text once it is filled.",
    "too_long": "The text is too long once it is filled.",
}
LEFT_OUT_COLUMNS = ("line", "value", "reason", "sentence")
LEFT_OUT_EXAMPLE = (
    '"line","value","reason","sentence"\r\n"7","901112233","duplicate","The campaign already has this number."\r\n'
)

_WALK = text(f"""
    SELECT r.place, r.number, r.name, r.fields, r.message_id, COALESCE(m.uncertain, false) AS uncertain,
           m.error_message, m.sent_at, m.delivered_at, m.failed_at,
           CASE WHEN r.state = {RecipientState.LEFT_OUT} THEN 'left_out'
                WHEN r.message_id IS NULL THEN 'not_made'
                WHEN m.id IS NULL THEN 'not_kept'
                WHEN m.status <> '{Status.PENDING}' THEN m.status
                WHEN q.stage = {Stage.WAITING} THEN 'waiting'
                WHEN q.stage = {Stage.HELD} THEN 'held'
                ELSE 'given' END AS state
    FROM campaign_recipients r
    LEFT JOIN messages m ON m.id = r.message_id
    LEFT JOIN LATERAL (SELECT k.stage FROM message_queue k WHERE k.message_id = m.id LIMIT 1) q ON true
    WHERE r.campaign_id = :campaign AND r.place > :after ORDER BY r.place LIMIT :most
""")  # noqa: S608 - names of states


def recipients(session: Session, campaign_id: int, wanted: RecipientFilter) -> RecipientPage:
    """A page of the campaign's recipients, in the order of sending."""
    found: list[RowMapping] = []
    after, looked_at, ended = wanted.cursor or 0, 0, False
    while len(found) <= wanted.per_page and looked_at < _MAX_LOOKED_AT and not ended:
        most = _BATCH if wanted.state else wanted.per_page + 1
        rows = _walk(session, campaign_id, after, most)
        found += [row for row in rows if _is_wanted(row, wanted)]
        looked_at, ended = looked_at + len(rows), len(rows) < most
        after = rows[-1]["place"] if rows else after
    if len(found) > wanted.per_page:
        found, ended = found[: wanted.per_page], False
        after = found[-1]["place"]
    data = [RecipientOut.model_validate(dict(row)) for row in found]
    return RecipientPage(data=data, next_cursor=None if ended else after, per_page=wanted.per_page)


def _walk(session: Session, campaign_id: int, after: int, most: int) -> list[RowMapping]:
    return list(session.execute(_WALK, {"campaign": campaign_id, "after": after, "most": most}).mappings())


def _is_wanted(row: RowMapping, wanted: RecipientFilter) -> bool:
    if wanted.state == "uncertain":
        return bool(row["state"] == Status.FAILED and row["uncertain"])
    return wanted.state is None or row["state"] == wanted.state


def recipients_as_csv(campaign_id: int, wanted: RecipientFilter) -> Iterator[str]:
    """All of them, part by part; no transaction is held while the client takes its time."""
    _record_export(campaign_id, "recipients")
    yield (_BOM if wanted.bom else "") + csv_lines([COLUMNS])
    after: int | None = wanted.cursor or 0
    while after is not None:
        with transaction() as session:
            rows = _walk(session, campaign_id, after, _BATCH)
        yield csv_lines(_as_texts(row) for row in rows if _is_wanted(row, wanted))
        after = rows[-1]["place"] if len(rows) == _BATCH else None


def _record_export(campaign_id: int, what: str) -> None:
    with transaction() as session:
        owner = session.scalar(select(Campaign.user_id).where(Campaign.id == campaign_id))
        audit.record(session, Action.EXPORTED, owner, campaign_id, what=what)


def _as_texts(row: RowMapping) -> tuple[str, ...]:
    times = (row["sent_at"], row["delivered_at"], row["failed_at"])
    return (
        row["number"],
        harmless(row["name"]),
        row["state"],
        str(row["message_id"] or ""),
        harmless(row["error_message"]),
        *(timestamp(time) if time else "" for time in times),
    )


def left_out(session: Session, campaign_id: int, paging: Paging) -> Page[LeftOutOut]:
    """A page of the rows that were left out, those of the first call first."""
    of_campaign = CampaignLeftOut.campaign_id == campaign_id
    total = session.execute(select(func.count()).select_from(CampaignLeftOut).where(of_campaign)).scalar_one()
    query = select(CampaignLeftOut).where(of_campaign).order_by(CampaignLeftOut.id)
    rows = session.scalars(query.limit(paging.per_page).offset(paging.offset))
    return Page(**paging.fields([LeftOutOut(**_left_out_fields(row)) for row in rows], total))


def _left_out_fields(row: CampaignLeftOut) -> dict[str, Any]:
    return {name: getattr(row, name) for name in LEFT_OUT_COLUMNS} | {"sentence": _sentence(row)}


def _sentence(row: CampaignLeftOut) -> str:
    return row.sentence or _SENTENCES.get(row.reason, "")


def left_out_as_csv(campaign_id: int, *, bom: bool) -> Iterator[str]:
    """All of them that were kept."""
    _record_export(campaign_id, "left out")
    yield (_BOM if bom else "") + csv_lines([LEFT_OUT_COLUMNS])
    query = select(CampaignLeftOut).where(CampaignLeftOut.campaign_id == campaign_id).order_by(CampaignLeftOut.id)
    with transaction() as session:
        rows = session.scalars(query).all()
    yield csv_lines(
        (str(row.line or ""), number_or_text(row.value), row.reason, harmless(_sentence(row))) for row in rows
    )
