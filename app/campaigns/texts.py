"""The texts of a campaign: its message with each recipient's fields."""

from collections.abc import Iterable, Mapping, Sequence

from app.campaigns.models import Campaign
from app.campaigns.sources import NAME_FIELD
from app.core.errors import Invalid
from app.messages.placeholders import plain, split
from app.messages.schemas import MAX_FILLING


class Template:
    """A message whose placeholders were found once, for the texts of a million recipients.

    `names` are the fields that it speaks of, `unknown` placeholders that no recipient has a value for and that have no
    default.
    """

    def __init__(self, message: str, columns: Iterable[str]) -> None:
        known: dict[str, list[str]] = {NAME_FIELD: []}
        for column in columns:
            known.setdefault(plain(column), []).append(column)
        self._parts = [
            (part, None if name is None else _key(name, known), known.get(plain(name or ""), ()), default)
            for part, name, default in split(message)
        ]
        self.names = list(dict.fromkeys(key for _, key, _, _ in self._parts if key is not None))
        unknown = (name for _, name, default in split(message) if name and default is None and plain(name) not in known)
        self.unknown = list(dict.fromkeys(unknown))

    def fill(self, name: str | None, fields: Mapping[str, str] | None) -> str:
        """The text for a recipient. What is empty and has no default is nothing."""
        values = fields or {}
        return "".join(
            [
                text
                if key is None
                else text
                + (_first(values, written) or (name if key == NAME_FIELD else None) or default or "")[:MAX_FILLING]
                for text, key, written, default in self._parts
            ]
        )

    def empty(self, name: str | None, fields: Mapping[str, str] | None) -> list[str]:
        """The fields that the text speaks of and the recipient has not; those with a default do not count."""
        values = fields or {}
        return [
            key
            for _, key, written, default in self._parts
            if key is not None
            and default is None
            and not (_first(values, written) or (name if key == NAME_FIELD else None))
        ]


def _key(name: str, known: Mapping[str, Sequence[str]]) -> str:
    """What a placeholder is called: the recipient's name, or a field as it is first written."""
    if plain(name) == NAME_FIELD:
        return NAME_FIELD
    return next(iter(known.get(plain(name), ())), plain(name))


def _first(values: Mapping[str, str], written: Sequence[str]) -> str | None:
    """The value of a field. Files that were added one after the other may write its name in different cases."""
    for column in written:
        if value := values.get(column):
            return value
    return None


def template_of(campaign: Campaign) -> Template:
    """The campaign's. Raises `Invalid` for a placeholder that no recipient has a value for."""
    template = Template(campaign.message, campaign.columns)
    if template.unknown:
        named = ", ".join(f"{{{name}}}" for name in template.unknown)
        columns = ", ".join([NAME_FIELD, *campaign.columns[:20]])
        sentence = f"The message field has placeholders that the recipients have no field for: {named}."
        raise Invalid({"message": [f"{sentence} They have: {columns}."]})
    return template
