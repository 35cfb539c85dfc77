"""A campaign's text on a phone of its owner's own, before everybody has it."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.principals import Principal
from app.campaigns.models import Campaign, CampaignRecipient
from app.campaigns.recipient_schemas import TestDraft
from app.campaigns.texts import template_of
from app.contacts import book
from app.core.validation import read
from app.messages.accepting import intake
from app.messages.schemas import SmsDraft


def send(session: Session, user: Principal, campaign: Campaign, wanted: TestDraft) -> dict[str, Any]:
    """Send the text as the first recipient would have it, or as `wanted` says. The data of a single send's answer.

    It is a message of its own, which no figure of the campaign counts. Raises `Invalid` and `Refused`.
    """
    template = template_of(campaign)
    name, fields = wanted.name, wanted.fields
    if name is None and fields is None:
        first = (
            select(CampaignRecipient.number, CampaignRecipient.name, CampaignRecipient.fields)
            .where(CampaignRecipient.campaign_id == campaign.id)
            .order_by(CampaignRecipient.place)
            .limit(1)
        )
        found = session.execute(first).one_or_none()
        if found is not None:
            known = book.names_of(session, user.user_id, [found.number])
            name, fields = found.name or known.get(found.number), found.fields
    device = campaign.devices[0] if isinstance(campaign.devices, list) else campaign.devices
    draft = {
        "message": template.fill(name, fields),
        "recipient_number": wanted.recipient_number,
        "device_id": device,
        "sim_slot": campaign.sim_slot,
        "price": campaign.price,
        "validity_period": campaign.validity_period,
    }
    return intake.accept_for(session, user, read(SmsDraft, draft))
