"""What a campaign comes to before anything is sent: its texts, one by one, and the phones that would send them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from sqlalchemy import RowMapping, text

from app.accounts.principals import Principal
from app.campaigns import capacity, records
from app.campaigns.models import Campaign
from app.campaigns.recipient_schemas import DryRun, EmptyPlaceholder
from app.campaigns.sources import NAME_FIELD
from app.campaigns.states import RecipientState
from app.campaigns.texts import Template, template_of
from app.contacts import book
from app.core.database import transaction
from app.messages.accepting.device_choice import account_rate
from app.messages.schemas import MESSAGE_LENGTH
from app.messages.segments import segments
from app.optouts import consent

_BATCH = 10_000
_MAX_LINES = 10
_OPTED_OUT = consent.is_opted_out(":user", "r.number")
_WALK = text(f"""
    SELECT r.place, r.number, r.name, r.fields, {_OPTED_OUT} AS opted_out FROM campaign_recipients r
    WHERE r.campaign_id = :campaign AND r.state <> {RecipientState.LEFT_OUT} AND r.place > :after
    ORDER BY r.place LIMIT :most
""")  # noqa: S608 - constants
_COUNT_OPTED_OUT = text(f"""
    SELECT count(*) FROM campaign_recipients r
    WHERE r.campaign_id = :campaign AND r.state <> {RecipientState.LEFT_OUT} AND {_OPTED_OUT}
""")  # noqa: S608 - constants


@dataclass
class _Texts:
    """What was counted of the texts."""

    segments: int = 0
    longest: int = 0
    ucs2: int = 0
    too_long: int = 0
    example: str | None = None
    empty: dict[str, list[int]] = field(default_factory=dict)
    empty_counts: dict[str, int] = field(default_factory=dict)

    def add(self, place: int, body: str, empty: Sequence[str]) -> None:
        if self.example is None:
            self.example = body
        for name in empty:
            self.empty_counts[name] = self.empty_counts.get(name, 0) + 1
            lines = self.empty.setdefault(name, [])
            if len(lines) < _MAX_LINES:
                lines.append(place)
        if not body.strip() or len(body) > MESSAGE_LENGTH:
            self.too_long += 1
            return
        self.count(body, 1)

    def count(self, body: str, times: int) -> None:
        number, encoding = segments(body)
        self.segments += number * times
        self.longest = max(self.longest, number)
        self.ucs2 += times if encoding == "ucs2" else 0


def count(user: Principal, campaign_id: int) -> DryRun:
    """Go through the campaign's recipients, in batches. Raises `NotFound`, and `Invalid` for an unknown placeholder."""
    with transaction() as session:
        campaign = records.find(session, user.user_id, str(campaign_id))
        template = template_of(campaign)
        price = account_rate(session, user.user_id) if campaign.price is None else campaign.price
        opted_out = session.scalar(_COUNT_OPTED_OUT, {"user": user.user_id, "campaign": campaign.id}) or 0
    texts = _Texts()
    if template.names:
        for rows, names in _batches(user.user_id, campaign, template):
            for row in rows:
                if row["opted_out"]:
                    continue
                name = row["name"] or names.get(row["number"])
                texts.add(row["place"], template.fill(name, row["fields"]), template.empty(name, row["fields"]))
    elif campaign.recipients:
        texts.example = campaign.message
        texts.count(campaign.message, campaign.recipients - opted_out)
    return _told(user, campaign, texts, price, opted_out)


def _batches(
    user_id: int, campaign: Campaign, template: Template
) -> Iterator[tuple[Sequence[RowMapping], Mapping[str, str | None]]]:
    """Recipients, and the names that their contacts have, as feeding takes them."""
    after: int | None = 0
    while after is not None:
        with transaction() as session:
            values = {"user": user_id, "campaign": campaign.id, "after": after, "most": _BATCH}
            rows = session.execute(_WALK, values).mappings().all()
            nameless = [row["number"] for row in rows if row["name"] is None] if NAME_FIELD in template.names else []
            names = book.names_of(session, user_id, nameless) if nameless else {}
        yield rows, names
        after = rows[-1]["place"] if len(rows) == _BATCH else None


def _told(user: Principal, campaign: Campaign, texts: _Texts, price: Decimal, opted_out: int) -> DryRun:
    recipients = campaign.recipients - opted_out
    to_send = recipients - texts.too_long
    reasons = Counter(campaign.left_out) + Counter(opted_out=opted_out)
    with transaction() as session:
        now, phones = capacity.phones_of(session, user.user_id, campaign)
        starts_at: datetime = max(now, campaign.start_at or now)
        ends_at = capacity.ends_at(session, campaign, phones, to_send, texts.segments, starts_at)
    return DryRun(
        recipients=recipients,
        left_out=reasons.total(),
        reasons=dict(reasons),
        segments=texts.segments,
        longest=texts.longest,
        ucs2=texts.ucs2,
        too_long=texts.too_long,
        example=texts.example,
        price=price * to_send,
        empty_placeholders=[
            EmptyPlaceholder(placeholder=name, recipients=texts.empty_counts[name], lines=lines)
            for name, lines in texts.empty.items()
        ],
        devices=[phone.shown() for phone in phones],
        starts_at=starts_at,
        ends_at=ends_at,
    )
