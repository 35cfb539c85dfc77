"""SIM cards as the app tells them: masked to the last four characters at enrolling, whole in a later hook.

A card is kept as `{"slot_index", "phone_number", "carrier_name", "iccid"}`, the slot counted from 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from app.core.numbers import normalize_number

MAX_SLOTS = 3
_MAX_CARDS = 10
_MAX_LENGTH = 64
_MASKED_TO = 4

Card = dict[str, Any]


def read(told: Any) -> list[Card]:
    """The cards that can be made out of what an app told, by slot; it is refused for none of them."""
    if not isinstance(told, list):
        return []
    cards = [_card(item) for item in told[:_MAX_CARDS] if isinstance(item, Mapping) and _slot(item) is not None]
    return sorted(cards, key=lambda card: int(card["slot_index"]))


def _slot(item: Mapping[str, Any]) -> int | None:
    slot = item.get("slotIndex")
    return slot if isinstance(slot, int) and not isinstance(slot, bool) and 0 <= slot < _MAX_CARDS else None


def _card(item: Mapping[str, Any]) -> Card:
    texts = {"phone_number": "phoneNumber", "carrier_name": "carrierName", "iccid": "iccid"}
    found = {ours: item.get(theirs) for ours, theirs in texts.items()}
    return {
        "slot_index": _slot(item),
        **{name: value[:_MAX_LENGTH] if isinstance(value, str) else None for name, value in found.items()},
    }


def masked(cards: Sequence[Card]) -> list[Card]:
    """As the app would tell them when it enrolls: what two tellings of the same cards are compared by."""
    return [{name: _mask(value) if isinstance(value, str) else value for name, value in card.items()} for card in cards]


def _mask(value: str) -> str:
    return "*" * (len(value) - _MASKED_TO) + value[-_MASKED_TO:]


def merged(known: list[Card], told: list[Card]) -> list[Card]:
    """The cards to keep: those known whole stay where the phone only masks the same ones again."""
    return known if masked(known) == masked(told) else told


def slots(cards: Sequence[Card]) -> list[int]:
    """Slots with a card in them that a message can be sent by."""
    return [card["slot_index"] for card in cards if card["slot_index"] < MAX_SLOTS]


def first_choice(known: Sequence[Card], told: Sequence[Card], slot: int) -> int:
    """The slot to send by: `slot`, but where a phone tells of its cards for the first time and none is there, the first
    that has one.
    """
    usable = slots(told)
    return slot if known or not usable or slot in usable else usable[0]


def number_of(cards: Sequence[Card], slot: int, region: str | None) -> str | None:
    """The number of the card in a slot, else of the first card whose number is known; masked ones are not known."""
    ordered = sorted(cards, key=lambda card: bool(card["slot_index"] != slot))
    found = (normalize_number(card["phone_number"], region) for card in ordered if card["phone_number"])
    return next((number for number in found if number), None)
