"""Importing contacts, up to 100,000 in one request: rows are validated, copied to a temporary table, and merged by one
statement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.principals import Principal
from app.contacts import groups
from app.contacts.models import Contact
from app.contacts.schemas import (
    EMAIL_LENGTH,
    MAX_IMPORTED,
    NAME_LENGTH,
    NOTES_LENGTH,
    NUMBER_LENGTH,
    ZONE_LENGTH,
    ContactImport,
    Imported,
    SkippedContact,
)
from app.core.arrays import copy_table, sql_type
from app.core.database import transaction
from app.core.errors import MAX_NAMED_ERRORS, Invalid
from app.core.hours import zone_names
from app.core.numbers import explain_refusal, normalize_number
from app.files.recipients import LeftOut

LENGTHS = {
    "name": NAME_LENGTH, "phone_number": NUMBER_LENGTH, "email": EMAIL_LENGTH, "notes": NOTES_LENGTH,
    "time_zone": ZONE_LENGTH,
}  # fmt: skip
TEXTS = ("name", "email", "notes", "time_zone")

Row = tuple[Any, ...]


@dataclass
class Validated:
    """The rows to merge, and those that were left out."""

    rows: list[Row] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    _places: dict[str, int] = field(default_factory=dict)

    def is_first(self, number: str, place: int, kind: str) -> bool:
        """Whether the number has not come before; otherwise its row is left out."""
        first = self._places.setdefault(number, place)
        if first != place:
            self.left_out.add("duplicate", place, number, f"Duplicate of {kind}{first}.")
        return first == place


def validate(body: ContactImport, region: str | None) -> Validated:
    """Read the rows of an import. Raises `Invalid` for rows that are no objects and for too long fields.

    Reading 100,000 national numbers takes seconds: to be called while no transaction is open.
    """
    if not body.contacts:
        raise Invalid({"contacts": ["The contacts field is required."]})
    if len(body.contacts) > MAX_IMPORTED:
        raise Invalid({"contacts": [f"The contacts field must not have more than {MAX_IMPORTED} items."]})
    validated = Validated()
    wrong: dict[str, list[str]] = {}
    for place, item in enumerate(body.contacts):
        row = _fields(item, f"contacts.{place}", wrong)
        if len(wrong) >= MAX_NAMED_ERRORS:
            break
        asked = row.get("phone_number") or ""
        number = normalize_number(asked, region)
        if number is None:
            validated.left_out.add("invalid" if asked else "empty", place, asked, explain_refusal(asked, region))
        elif validated.is_first(number, place, "contacts."):
            validated.rows.append((number, *(row.get(name) for name in TEXTS), *(name in row for name in TEXTS)))
    if wrong:
        raise Invalid(wrong)
    return validated


def _fields(item: object, place: str, wrong: dict[str, list[str]]) -> Mapping[str, str | None]:
    if not isinstance(item, dict):
        wrong[place] = [f"The {place} field must be an object."]
        return {}
    row: dict[str, str | None] = {}
    for name, length in LENGTHS.items():
        if name not in item:
            continue
        value = item[name]
        if isinstance(value, str):
            value = value.strip() or None
        if value is not None and not isinstance(value, str):
            wrong[f"{place}.{name}"] = [f"The {place}.{name.replace('_', ' ')} field must be a string."]
        elif value is not None and len(value) > length:
            sentence = f"The {place}.{name.replace('_', ' ')} field must not be greater than {length} characters."
            wrong[f"{place}.{name}"] = [sentence]
        elif name == "time_zone" and value is not None and value not in zone_names():
            wrong[f"{place}.{name}"] = [f"The {place}.time zone field must be a time zone like Asia/Tashkent."]
        else:
            row[name] = value
    return row


_COLUMNS = {
    **{name: sql_type(getattr(Contact, name)) for name in ("phone_number", *TEXTS)},
    **{f"has_{name}": "boolean" for name in TEXTS},
}

_PREPARE = (
    # A large import may wait for another one of the same user, which takes seconds.
    "SET LOCAL lock_timeout = '30s'",
    "SET LOCAL statement_timeout = '60s'",
    # One import of a user at a time: two at once would wait for each other's rows, in whatever order they come.
    "SELECT pg_advisory_xact_lock(hashtextextended('contacts.import', :user))",
    f"CREATE TEMPORARY TABLE imported ({', '.join(map(' '.join, _COLUMNS.items()))}) ON COMMIT DROP",
)
_MERGE = (
    "ANALYZE imported",
    # Where the statistics know of no contact, as after all were deleted, to compare each row with each seems as cheap.
    "SET LOCAL enable_nestloop = off",
    f"""
    INSERT INTO contacts (user_id, phone_number, {", ".join(TEXTS)})
    SELECT :user, phone_number, {", ".join(TEXTS)} FROM imported
    ON CONFLICT (user_id, phone_number) DO NOTHING
    """,  # noqa: S608 - names of columns
    # Those just made have the same values and are not written again.
    f"""
    UPDATE contacts c SET
        {", ".join(f"{name} = CASE WHEN i.has_{name} THEN i.{name} ELSE c.{name} END" for name in TEXTS)},
        updated_at = clock_timestamp()
    FROM imported i
    WHERE c.user_id = :user AND c.phone_number = i.phone_number
      AND ({" OR ".join(f"(i.has_{name} AND c.{name} IS DISTINCT FROM i.{name})" for name in TEXTS)})
    """,  # noqa: S608 - names of columns
    # Who deletes a contact at this moment is waited for, and it is left out.
    """
    INSERT INTO contact_group_members (group_id, contact_id)
    SELECT :group, kept.id FROM (
        SELECT c.id FROM imported i JOIN contacts c ON c.user_id = :user AND c.phone_number = i.phone_number
        WHERE CAST(:group AS bigint) IS NOT NULL ORDER BY c.id FOR KEY SHARE OF c
    ) AS kept
    ON CONFLICT DO NOTHING
    """,
)


def merge(session: Session, user_id: int, rows: Sequence[Row], group_id: int | None) -> None:
    """Make or update the contacts of `validate`, all in the group where one is named.

    A field that the request has replaces what was there, one that it has not is left. Raises `Invalid` for a group that
    the user has not.
    """
    if group_id is not None and not groups.owned(session, user_id, [group_id]):
        raise Invalid({"group_id": ["The selected group id is invalid."]})
    for statement in _PREPARE:
        session.execute(text(statement), {"user": user_id})
    copy_table(session, "imported", _COLUMNS, rows)
    for statement in _MERGE:
        session.execute(text(statement), {"user": user_id, "group": group_id})


def take_in(user: Principal, body: ContactImport, group_id: int | None) -> Imported:
    """Import the contacts of a request, in a transaction of its own. Raises `Invalid`."""
    return store(user, validate(body, user.default_region), group_id if body.group_id is None else body.group_id)


def store(user: Principal, validated: Validated, group_id: int | None) -> Imported:
    """Merge what was validated, in a transaction of its own, and tell what came of it."""
    with transaction() as session:
        merge(session, user.user_id, validated.rows, group_id)
    left_out = validated.left_out
    skipped = [SkippedContact(index=row.line, reason=row.sentence, reason_code=row.code) for row in left_out.rows]
    return Imported(imported=len(validated.rows), skipped=left_out.total, skipped_rows=skipped)
