"""Whom a message to many goes to, and what each is sent: numbers, the members of groups, and texts with names.

`validate` needs no database; it takes seconds where national numbers are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.contacts import book, groups
from app.core.errors import MAX_NAMED_ERRORS, Invalid
from app.core.numbers import normalize_number
from app.messages import placeholders, templates
from app.messages.schemas import MAX_FILLING, MAX_RECIPIENTS, MESSAGE_LENGTH, NOT_A_NUMBER

TOO_MANY = f"The recipients field must not have more than {MAX_RECIPIENTS} items."
# What is wrong with each field that names somebody, where in the end there is nobody.
NOBODY = {
    "recipients": "None of the recipients is a valid phone number.",
    "group_ids": "The selected groups have no contacts.",
}
NAME = "{name}"

Skipped = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipient:
    """A number in E.164, the name that `{name}` becomes, and its place in the request; none for a group's member."""

    number: str
    name: str | None
    place: int | None = None


def validate(
    asked: Sequence[object], region: str | None, *, skip_invalid: bool, allow_duplicates: bool
) -> tuple[list[Recipient], list[Skipped]]:
    """The named recipients to serve, each number once at its first place, and those that `skip_invalid` left out.

    Raises `Invalid` for numbers that are none, by their place in the request.
    """
    if len(asked) > MAX_RECIPIENTS:
        raise Invalid({"recipients": [TOO_MANY]})
    found: list[Recipient] = []
    wrong: dict[str, list[str]] = {}
    more_wrong = 0
    skipped: list[Skipped] = []
    for place, item in enumerate(asked):
        validated = _validate(item, place, region)
        if isinstance(validated, Recipient):
            found.append(validated)
        elif skip_invalid:
            skipped.append({"index": place, "reason": validated[1], "reason_code": "invalid"})
        elif len(wrong) < MAX_NAMED_ERRORS:
            wrong[validated[0]] = [validated[1]]
        else:
            more_wrong += 1
    if wrong:
        raise Invalid(wrong, unnamed=more_wrong)
    return (found if allow_duplicates else _each_once(found)), skipped


def _each_once(recipients: Sequence[Recipient]) -> list[Recipient]:
    first: dict[str, Recipient] = {}
    for recipient in recipients:
        first.setdefault(recipient.number, recipient)
    return list(first.values())


def with_groups(
    session: Session, user_id: int, named: Sequence[Recipient], group_ids: Sequence[int]
) -> list[Recipient]:
    """The named recipients, and behind them the members of the user's groups who are not among them, each once.

    Raises `Invalid` for unknown groups, and for too many.
    """
    everyone = list(named)
    if group_ids:
        groups.refuse_unknown("group_ids", group_ids, groups.owned(session, user_id, group_ids))
        numbers = {recipient.number for recipient in named}
        members = groups.members(session, group_ids, MAX_RECIPIENTS + 1)
        everyone += [Recipient(number, name) for number, name in members if number not in numbers]
    if len(everyone) > MAX_RECIPIENTS:
        raise Invalid({"recipients": [TOO_MANY]})
    return everyone


def _validate(item: object, place: int, region: str | None) -> Recipient | tuple[str, str]:
    """A recipient, or the dotted field that is wrong and the sentence for it."""
    name: str | None = None
    field = f"recipients.{place}"
    if isinstance(item, dict):
        field, named, item = f"{field}.number", item.get("name"), item.get("number")
        if isinstance(named, str):
            name = named.strip() or None
        elif named is not None:
            return f"recipients.{place}.name", f"The recipients.{place}.name field must be a string."
    if item is None or item == "" or (isinstance(item, str) and not item.strip()):
        return field, f"The {field} field is required."
    if not isinstance(item, str):
        return field, f"The {field} field must be a string."
    number = normalize_number(item, region)
    return Recipient(number, name, place) if number else (field, NOT_A_NUMBER.format(name=field))


def texts(
    session: Session,
    user_id: int,
    message: str,
    recipients: Sequence[Recipient],
    fields: Mapping[str, str | None] | None,
) -> list[str]:
    """Each recipient's text: `{name}` is the recipient's name, else the contact's, else nothing.

    With `fields` other placeholders too are filled, and may have defaults. Raises `Invalid` for one that has neither,
    and for a text that is empty or too long then.
    """
    if fields is not None:
        fields = {**fields, "name": ""}
        if unknown := placeholders.fill(message, fields)[1]:
            templates.refuse_unfilled(unknown)
    if not (NAME in message if fields is None else placeholders.names(message)):
        return [message] * len(recipients)
    nameless = [recipient.number for recipient in recipients if recipient.name is None]
    known = book.names_of(session, user_id, nameless)
    filled: list[str] = []
    for recipient in recipients:
        name = (recipient.name or known.get(recipient.number) or "")[:MAX_FILLING]
        body = (
            message.replace(NAME, name) if fields is None else placeholders.fill(message, {**fields, "name": name})[0]
        )
        # Each at once: of a hundred thousand that are far too long the memory has no room.
        if len(body) > MESSAGE_LENGTH:
            sentence = f"The message field must not be greater than {MESSAGE_LENGTH} characters"
            raise Invalid({"message": [f"{sentence}; with the name of {recipient.number} it has {len(body)}."]})
        if not body.strip():
            raise Invalid({"message": [f"The message field is required; {recipient.number} has no name to fill it."]})
        filled.append(body)
    return filled
