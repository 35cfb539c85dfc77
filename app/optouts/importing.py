"""Numbers that have opted out elsewhere, up to 100,000 in one request, as JSON or in a CSV or XLSX file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.principals import Principal
from app.core.database import transaction
from app.core.errors import MAX_NAMED_ERRORS, Invalid
from app.core.numbers import explain_refusal, normalize_number
from app.core.validation import read
from app.files import uploads
from app.files.recipients import LeftOut, with_numbers
from app.files.table import open_table
from app.files.words import NOTES
from app.optouts import book, consent
from app.optouts.models import By
from app.optouts.schemas import (
    MAX_IMPORTED,
    NOTE_LENGTH,
    OptOutFileImport,
    OptOutImport,
    OptOutsImported,
    SkippedOptOut,
)


@dataclass
class Validated:
    """Notes by number, and the rows that were left out."""

    notes: dict[str, str | None] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)

    def take(self, number: str, note: str | None, place: int) -> None:
        if number in self.notes:
            self.left_out.add("duplicate", place, number, "The number was listed before.")
        elif note and len(note) > NOTE_LENGTH:
            self.left_out.add("too_long", place, number, f"The note has more than {NOTE_LENGTH} characters.")
        else:
            self.notes[number] = note


def validate(body: OptOutImport, region: str | None) -> Validated:
    """Read the rows of an import. Raises `Invalid` for rows that are neither objects nor numbers.

    Reading 100,000 national numbers takes seconds: to be called while no transaction is open.
    """
    if not body.opt_outs:
        raise Invalid({"opt_outs": ["The opt outs field is required."]})
    if len(body.opt_outs) > MAX_IMPORTED:
        raise Invalid({"opt_outs": [f"The opt outs field must not have more than {MAX_IMPORTED} items."]})
    validated = Validated()
    wrong: dict[str, list[str]] = {}
    for place, written, note in _rows(body.opt_outs, wrong):
        number = normalize_number(written, region)
        if number is None:
            validated.left_out.add("invalid" if written else "empty", place, written, explain_refusal(written, region))
        else:
            validated.take(number, note, place)
    if wrong:
        raise Invalid(wrong)
    return validated


def _rows(items: Sequence[object], wrong: dict[str, list[str]]) -> Iterator[tuple[int, str, str | None]]:
    for place, item in enumerate(items):
        if len(wrong) >= MAX_NAMED_ERRORS:
            return
        row = {"phone_number": item} if isinstance(item, str) else item
        if not isinstance(row, dict):
            wrong[f"opt_outs.{place}"] = [f"The opt_outs.{place} field must be an object or a string."]
            continue
        values = {}
        for name in ("phone_number", "note"):
            values[name] = row.get(name)
            if values[name] is not None and not isinstance(values[name], str):
                sentence = f"The opt_outs.{place}.{name.replace('_', ' ')} field must be a string."
                wrong[f"opt_outs.{place}.{name}"] = [sentence]
        if not any(name.startswith(f"opt_outs.{place}.") for name in wrong):
            yield place, values["phone_number"] or "", (values["note"] or "").strip() or None


def validate_file(file: BinaryIO, charset: str | None, wanted: OptOutFileImport, region: str | None) -> Validated:
    """The rows of a file. Raises `Invalid` for a file that cannot be read. To be called as `validate`."""
    table = open_table(
        file, max_rows=MAX_IMPORTED, region=region, charset=charset, number_column=wanted.phone_number_column
    )
    column = table.guess(NOTES) if wanted.note_column is None else table.find(wanted.note_column, "note_column")
    validated = Validated()
    for line, number, cells in with_numbers(table, region, validated.left_out):
        note = cells[column] if column is not None and column < len(cells) else ""
        validated.take(number, note or None, line)
    return validated


_UNHURRIED = (
    # A large import may wait for another one of the same numbers, which takes seconds.
    text("SET LOCAL lock_timeout = '30s'"),
    text("SET LOCAL statement_timeout = '60s'"),
)


def write(session: Session, user_id: int, validated: Validated) -> int:
    """Opt the numbers out; how many had not before."""
    for statement in _UNHURRIED:
        session.execute(statement)
    new = [book.New(user_id, number, By.IMPORT, note) for number, note in validated.notes.items()]
    added = book.add(session, new)
    consent.settle(session, [user_id])
    return len(added)


def take_in(user: Principal, body: OptOutImport) -> OptOutsImported:
    """Import the numbers of a request, in a transaction of its own. Raises `Invalid`."""
    return _store(user, validate(body, user.default_region))


def take_in_file(user: Principal, body: BinaryIO, content_type: str, wanted: OptOutFileImport) -> OptOutsImported:
    """Import the file in a request's body, in a transaction of its own. Raises `Invalid`."""
    with uploads.opened(body, content_type) as upload:
        return read_in(user, upload, {**wanted.given(), **upload.fields})


def read_in(user: Principal, upload: uploads.Upload, fields: Mapping[str, Any]) -> OptOutsImported:
    """Import an opened file. `fields` name columns. Raises `Invalid`."""
    chosen = read(OptOutFileImport, fields)
    return _store(user, validate_file(upload.file, upload.charset, chosen, user.default_region))


def _store(user: Principal, validated: Validated) -> OptOutsImported:
    with transaction() as session:
        added = write(session, user.user_id, validated)
    left_out = validated.left_out
    skipped = [SkippedOptOut(index=row.line, reason=row.sentence, reason_code=row.code) for row in left_out.rows]
    known = len(validated.notes) - added
    return OptOutsImported(added=added, known=known, skipped=left_out.total, skipped_rows=skipped)
