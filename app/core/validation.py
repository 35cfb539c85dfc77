"""Bodies: the base of every request schema, field types that read values as Laravel's rules do, and sentences a person
can act on for what is wrong.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.core import ignored
from app.core.bodies import is_index, storable, unflatten
from app.core.emails import is_email
from app.core.errors import Invalid

MAX_ID = 2**63 - 1
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMERIC = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The + of an offset that was not encoded in a query or a form: a time, a space, an offset.
_LOST_PLUS = re.compile(r"(:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:?[0-9]{2})$")
_PAGING = frozenset({"page", "per_page"})
_BOOLEANS: dict[Any, bool] = {True: True, False: False, "1": True, "0": False}

Model = TypeVar("Model", bound=BaseModel)


class Body(BaseModel):
    """Base of request bodies: strings, in lists too, are trimmed and `""` is null, except in `verbatim`.

    An absent key is not in `model_fields_set`; a null clears a field that may be null.
    """

    model_config = ConfigDict(extra="ignore")
    verbatim: ClassVar[frozenset[str]] = frozenset({"message", "password", "password_confirmation", "current_password"})
    # Names that are read besides those of the fields.
    aliases: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _clean(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if not value.keys() <= (known := known_names(cls)):
            ignored.note(name for name in value if name not in known)
        return {key: item if key in cls.verbatim else _cleaned(item) for key, item in value.items()}

    def given(self) -> dict[str, Any]:
        """The fields that the request has, null ones too: what a `PUT` or `PATCH` changes."""
        return {name: getattr(self, name) for name in self.model_fields_set}


@cache
def known_names(model: type[Body]) -> frozenset[str]:
    """What the body may have, by the names that clients write."""
    return frozenset(field.alias or name for name, field in model.model_fields.items()) | model.aliases


class Strict(Body):
    """Base of objects that are ours alone: a name that they do not have is a mistake, and is refused."""

    model_config = ConfigDict(extra="forbid")


class Filter(Strict):
    """Base of what a list is asked for in the query: a body's rules, and what `bodies.parse_body` does for bodies.

    An unknown filter is refused: ignored, it would answer with everything.
    """

    verbatim = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _filters(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        # Pages are read beside most filters; names like `_` and `_method` are those of clients' libraries.
        beside = _PAGING - cls.model_fields.keys()
        value = {name: item for name, item in value.items() if name not in beside and not name.startswith("_")}
        # `status[]=…` is a list, which no filter takes; left alone it would be no filter at all.
        return unflatten(value.items()) if any("[" in name for name in value) else value

    @field_validator("*", mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        if isinstance(value, str) and not storable(value):
            raise fault("The {name} field contains invalid characters.")
        return value


def _cleaned(item: Any) -> Any:
    if isinstance(item, str):
        return item.strip() or None
    if isinstance(item, list):
        return [(each.strip() or None) if isinstance(each, str) else each for each in item]
    return item


def fault(sentence: str, *, field: str | None = None) -> PydanticCustomError:
    """For validators: what is wrong, where `{name}` stands for the field, spoken with spaces.

    A validator of a whole body names the `field` that it means.
    """
    return PydanticCustomError("sentence", "{sentence}", {"sentence": sentence, "field": field})


def _integer(value: Any) -> Any:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_ID):
        return value
    raise fault("The {name} field must be an integer.")


def _numeric(value: Any) -> Any:
    if isinstance(value, str) and _NUMERIC.fullmatch(value.strip()):
        return Decimal(value.strip())
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    raise fault("The {name} field must be a number.")


def _listed(value: Any) -> Any:
    # What PHP makes of a list after `array_unique` or `array_filter`, which leave the others' keys as they are.
    if isinstance(value, dict) and value and all(map(is_index, value)):
        return list(value.values())
    return value


def _boolean(value: Any) -> Any:
    if value is None:
        return value
    if isinstance(value, bool | int | str) and value in _BOOLEANS:
        return _BOOLEANS[value]
    raise fault("The {name} field must be true or false.")


def _email(value: str) -> str:
    if not is_email(value):
        raise fault("The {name} field must be a valid email address.")
    return value


def _moment(value: Any) -> Any:
    if value is None or isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", value))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise fault("The {name} field must be a valid date.")


def _end_of_day(value: Any) -> Any:
    return f"{value}T23:59:59.999999" if isinstance(value, str) and _DATE.fullmatch(value) else value


def _at_most_four_decimals(value: Decimal) -> Decimal:
    if value != value.quantize(Decimal("0.0001")):
        raise fault("The {name} field must have 0-4 decimal places.")
    return value


# As Laravel's `integer`, `numeric` and `boolean` rules: numbers may come as strings, booleans as 1, 0, "1" and "0".
# Add a range with `Field(ge=…, le=…)`. `Integer` always fits a bigint.
Integer = Annotated[int, BeforeValidator(_integer)]
Numeric = Annotated[Decimal, BeforeValidator(_numeric)]
Boolean = Annotated[bool, BeforeValidator(_boolean)]
Email = Annotated[str, Field(max_length=255), AfterValidator(_email)]
# As Laravel's `array`: an object whose names are all numbers is a list.
Listed = Annotated[list[Any], BeforeValidator(_listed)]
# ISO 8601 with or without offset (UTC then), a date alone is its midnight.
Moment = Annotated[datetime, BeforeValidator(_moment)]
# Of lists: between which times.
Since = Annotated[
    Moment | None, Field(alias="from", description="From this time on (ISO 8601; a date means its midnight in UTC)")
]
Until = Annotated[
    Moment | None,
    BeforeValidator(_end_of_day),
    Field(alias="to", description="Until this time (ISO 8601; a date means its end in UTC)"),
]
Price = Annotated[Numeric, Field(ge=0, le=1_000_000_000), AfterValidator(_at_most_four_decimals)]


def row_id(text: str) -> int | None:
    """The id that a path segment spells, None where it can be no row's."""
    return int(text) if _WHOLE.fullmatch(text) and 0 < int(text) <= MAX_ID else None


def read(model: type[Model], value: Any) -> Model:
    """`value`, a body as `bodies.parse_body` gives it, as the schema's object. Raises `Invalid`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> Invalid:
    """The 422 for what pydantic found."""
    return Invalid(sentences(error.errors(include_url=False)))


def sentences(errors: Iterable[Mapping[str, Any]], *, skip: int = 0) -> dict[str, list[str]]:
    """Dotted field names to sentences, from pydantic's error list; the first `skip` parts of a place name no field."""
    told: dict[str, list[str]] = {}
    for error in errors:
        field = (error.get("ctx") or {}).get("field") or _field(error["loc"][skip:])
        sentence = _sentence(field, error)
        if sentence not in told.setdefault(field, []):
            told[field].append(sentence)
    return told


def _field(place: Sequence[int | str]) -> str:
    # Pydantic's word for a name that an object may not have: the name stands before it.
    named = place[:-1] if place[-1:] == ("[key]",) else place
    return ".".join(map(str, named)) or "body"


def _sentence(field: str, error: Mapping[str, Any]) -> str:
    name = field.replace("_", " ")
    kind = error["type"]
    if field == "body" and kind in {"model_attributes_type", "model_type", "dict_type"}:
        return "The request body must be a JSON object."
    if kind == "extra_forbidden":
        return f"There is no {name} field here."
    if kind == "missing" or error.get("input", ...) is None or error.get("input", ...) == "":
        return f"The {name} field is required."
    context = error.get("ctx") or {}
    pattern = _SENTENCES.get(kind, "The {name} field is invalid.")
    if kind == "sentence":
        pattern = context["sentence"]
    limit = next((context[name] for name in _LIMITS if name in context), "")
    return str(pattern).replace("{limit}", str(limit)).replace("{name}", name)


_LIMITS = ("max_length", "min_length", "ge", "le", "gt", "lt")
_AT_LEAST = "The {name} field must be at least {limit}."
_AT_MOST = "The {name} field must not be greater than {limit}."
_SENTENCES = {
    "string_type": "The {name} field must be a string.",
    "string_too_long": "The {name} field must not be greater than {limit} characters.",
    "string_too_short": "The {name} field must be at least {limit} characters.",
    "list_type": "The {name} field must be an array.",
    "too_long": "The {name} field must not have more than {limit} items.",
    "too_short": "The {name} field must have at least {limit} items.",
    "dict_type": "The {name} field must be an object.",
    "model_type": "The {name} field must be an object.",
    "model_attributes_type": "The {name} field must be an object.",
    "int_type": "The {name} field must be an integer.",
    "int_parsing": "The {name} field must be an integer.",
    "int_parsing_size": "The {name} field must be an integer.",
    "int_from_float": "The {name} field must be an integer.",
    "float_type": "The {name} field must be a number.",
    "float_parsing": "The {name} field must be a number.",
    "decimal_type": "The {name} field must be a number.",
    "decimal_parsing": "The {name} field must be a number.",
    "finite_number": "The {name} field must be a number.",
    "bool_type": "The {name} field must be true or false.",
    "bool_parsing": "The {name} field must be true or false.",
    "greater_than_equal": _AT_LEAST,
    "greater_than": "The {name} field must be greater than {limit}.",
    "less_than_equal": _AT_MOST,
    "less_than": "The {name} field must be less than {limit}.",
    "literal_error": "The selected {name} is invalid.",
    "enum": "The selected {name} is invalid.",
    "uuid_type": "The {name} field must be a valid UUID.",
    "uuid_parsing": "The {name} field must be a valid UUID.",
    "datetime_type": "The {name} field must be a valid date.",
    "datetime_parsing": "The {name} field must be a valid date.",
    "datetime_from_date_parsing": "The {name} field must be a valid date.",
    "date_from_datetime_parsing": "The {name} field must be a valid date.",
    "date_parsing": "The {name} field must be a valid date.",
}
# What is said of fields wherever a schema checks them, with `{name}` and `{limit}`; for who translates.
SENTENCES = tuple(
    dict.fromkeys([*_SENTENCES.values(), "The {name} field is required.", "The {name} field is invalid."])
)
