"""Where a campaign's recipients come from: rows of a file, or those that a request names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring as quoted
from typing import BinaryIO, NamedTuple

from app.campaigns.models import NAME_LENGTH
from app.campaigns.recipient_schemas import MAX_RECIPIENTS, FileColumns
from app.core.numbers import explain_refusal, normalize_number
from app.files.recipients import LeftOut, with_numbers
from app.files.table import Table, open_table
from app.files.words import NAME
from app.messages.placeholders import plain
from app.messages.schemas import MAX_FILLING

NAME_FIELD = "name"
_TOO_LONG = f"The name has more than {NAME_LENGTH} characters."


class Row(NamedTuple):
    """A recipient: its line, number and name, and the other fields as JSON, of each what a text is too long with."""

    line: int
    number: str
    name: str | None
    fields: str | None


@dataclass
class Source:
    """Rows, read once; while they are, `left_out` and `columns` come to be what they are in the end.

    `columns` are the names of the fields, in the order in which they were seen.
    """

    rows: Iterator[Row]
    left_out: LeftOut = field(default_factory=LeftOut)
    columns: dict[str, None] = field(default_factory=dict)


def of_file(file: BinaryIO, charset: str | None, wanted: FileColumns, region: str | None) -> Source:
    """The rows of a CSV or XLSX file, whose columns are the fields. Raises `Invalid`, and while it is read too."""
    table = open_table(
        file,
        max_rows=MAX_RECIPIENTS,
        region=region,
        charset=charset,
        number_column=wanted.number_column,
        parameter="number_column",
    )
    name_column = table.guess(NAME) if wanted.name_column is None else table.find(wanted.name_column, "name_column")
    source = Source(iter(()))
    source.rows = _of_table(table, name_column, region, source)
    return source


def _of_table(table: Table, name_column: int | None, region: str | None, source: Source) -> Iterator[Row]:
    places = [place for place in range(len(table.columns)) if place != table.number_column]
    if name_column is not None and plain(table.columns[name_column]) == NAME_FIELD:
        places.remove(name_column)  # `{name}` is the recipient's name already
    source.columns.update(dict.fromkeys(table.columns[place] for place in places))
    keys = [(place, f"{quoted(table.columns[place])}:") for place in places]
    for line, number, cells in with_numbers(table, region, source.left_out):
        name = cells[name_column] if name_column is not None and name_column < len(cells) else ""
        if len(name) > NAME_LENGTH:
            source.left_out.add("too_long", line, number, _TOO_LONG)
            continue
        width = len(cells)
        fields = ",".join(
            [key + quoted(cells[place][:MAX_FILLING]) for place, key in keys if place < width and cells[place]]
        )
        yield Row(line, number, name or None, f"{{{fields}}}" if fields else None)


def of_list(asked: Sequence[object], region: str | None) -> Source:
    """The recipients that a request names: numbers, or objects with `number`, `name` and `fields`."""
    source = Source(iter(()))
    source.rows = _of_list(asked, region, source)
    return source


def _of_list(asked: Sequence[object], region: str | None, source: Source) -> Iterator[Row]:
    for line, item in enumerate(asked, 1):
        given = item if isinstance(item, dict) else {"number": item}
        written, name, fields = _text(given.get("number")), _text(given.get("name")), given.get("fields") or {}
        number = normalize_number(written, region)
        if number is None:
            reason = "invalid" if written else "empty"
            source.left_out.add(reason, line, written, explain_refusal(written, region))
        elif len(name) > NAME_LENGTH:
            source.left_out.add("too_long", line, number, _TOO_LONG)
        elif not isinstance(fields, dict):
            source.left_out.add("invalid", line, number, "The fields of a recipient must be an object.")
        else:
            values = {" ".join(key.split()): _text(value) for key, value in fields.items()}
            source.columns.update(dict.fromkeys(values))
            filled = ",".join(
                [f"{quoted(key)}:{quoted(value[:MAX_FILLING])}" for key, value in values.items() if value]
            )
            yield Row(line, number, name or None, f"{{{filled}}}" if filled else None)


def _text(value: object) -> str:
    """A value as it is written into a text: numbers too; what is neither is nothing."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
