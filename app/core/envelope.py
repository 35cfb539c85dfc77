"""Shapes every answer shares: the success envelope, times, and numbers that are money."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, PlainSerializer, WithJsonSchema

Data = TypeVar("Data")

# In the schema of a field that an answer leaves out where there is nothing to say; the document demands all others.
SOMETIMES = "x-sometimes"


class Named(BaseModel):
    """Base of generic answers: their schemas are named for what is in them, as people would."""

    suffix: ClassVar[str]

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{_name(params[0])}{cls.suffix}"


def _name(data: Any) -> str:
    inner = [part for part in get_args(data) if part is not type(None)]
    if inner:
        return _name(inner[0]) + ("List" if get_origin(data) is list else "")
    return str(getattr(data, "__name__", data)).removesuffix("Out")


class Envelope(Named, Generic[Data]):
    """Answer with data and no message."""

    suffix = "Answer"

    success: Literal[True] = True
    data: Data


class MessageEnvelope(Named, Generic[Data]):
    """Answer with data and a message."""

    suffix = "Result"

    success: Literal[True] = True
    data: Data
    message: str


class Done(BaseModel):
    """Answer with a message alone."""

    success: Literal[True] = True
    message: str


def timestamp(moment: datetime) -> str:
    """UTC with six digits: `2026-06-08T10:00:00.000000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def plain_number(value: Decimal | float) -> int | float:
    """A JSON number as people write it: 100, not 100.0; 0.5 stays 0.5."""
    number = float(value)
    return int(number) if number.is_integer() else number


Timestamp = Annotated[
    datetime,
    PlainSerializer(timestamp, return_type=str),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "examples": ["2026-06-08T10:00:00.000000Z"]}, mode="serialization"
    ),
]
Money = Annotated[
    Decimal,
    PlainSerializer(plain_number, return_type=Any),
    WithJsonSchema({"type": "number", "examples": [100]}, mode="serialization"),
]
