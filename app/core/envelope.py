"""Shapes every answer shares: the success envelope, times, and numbers that are money."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, PlainSerializer, WithJsonSchema

Data = TypeVar("Data")


class Envelope(BaseModel, Generic[Data]):
    """Answer with data and no message."""

    success: Literal[True] = True
    data: Data


class MessageEnvelope(BaseModel, Generic[Data]):
    """Answer with data and a message."""

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
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
Money = Annotated[
    Decimal,
    PlainSerializer(plain_number, return_type=Any),
    WithJsonSchema({"type": "number"}, mode="serialization"),
]
