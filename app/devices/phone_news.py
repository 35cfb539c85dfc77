"""What a phone's hooks tell of the phone itself, and whose hook it is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import RowMapping, text, update
from sqlalchemy.orm import Session

from app.core.numbers import normalize_number
from app.devices import sims
from app.devices.models import Device

_BY_SECRET = text("""
    SELECT d.hook_secret, d.id, d.user_id, d.signing_key, d.phone_number, d.app_version, d.battery, d.sim_cards,
           d.default_sim_slot, d.is_active, d.sms_rate, d.removed_at IS NOT NULL AS removed, u.keep_inbound,
           u.default_region
    FROM devices d JOIN users u ON u.id = d.user_id WHERE d.hook_secret = ANY(:secrets)
""")


def by_secret(session: Session, secrets: Collection[str]) -> dict[str, RowMapping]:
    """Phones by the secret in the address of their hooks, removed ones included, with what is set for their owner."""
    rows = session.execute(_BY_SECRET, {"secrets": list(secrets)}).mappings()
    return {row["hook_secret"]: row for row in rows}


@dataclass(slots=True)
class News:
    """What a phone says of itself; None where it says nothing of that."""

    battery: int | None = None
    sim_cards: list[sims.Card] | None = None


def record(session: Session, device: RowMapping, news: News) -> None:
    """Keep what is new about a phone. What is not known is left."""
    if news.battery is not None and news.battery != device["battery"]:
        session.execute(update(Device).where(Device.id == device["id"]).values(battery=news.battery))
    if cards := news.sim_cards:
        slot = sims.first_choice(device["sim_cards"], cards, device["default_sim_slot"])
        if cards != device["sim_cards"]:
            values = {"sim_cards": cards, "default_sim_slot": slot}
            session.execute(update(Device).where(Device.id == device["id"]).values(values))
        learn_numbers(session, [(device, sims.number_of(cards, slot, device["default_region"]))])


_NUMBER = text("UPDATE devices SET phone_number = :number WHERE id = :id AND phone_number IS NULL")


def learn_numbers(session: Session, told: Sequence[tuple[RowMapping, str | None]]) -> None:
    """Keep a phone's own number where none is known; one that its owner set is never replaced."""
    for device, number in told:
        unknown = number if device["phone_number"] is None else None
        if unknown and (own := normalize_number(unknown, device["default_region"])):
            session.execute(_NUMBER, {"id": device["id"], "number": own})
