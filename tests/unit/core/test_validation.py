from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from app.core.errors import Invalid
from app.core.validation import MAX_ID, Body, Boolean, Email, Integer, Moment, Numeric, Price, read, row_id


class Item(Body):
    number: str
    note: Annotated[str | None, Field(max_length=5)] = None


class Everything(Body):
    text: Annotated[str, Field(min_length=2, max_length=5)] = "abc"
    message: str = ""
    whole: Annotated[Integer, Field(ge=0, le=86400)] = 0
    number: Numeric = Decimal(0)
    price: Price | None = None
    flag: Boolean = True
    kind: Literal["a", "b"] = "a"
    email: Email = "a@b.c"
    moment: Moment | None = None
    some_items: Annotated[list[Item], Field(min_length=1, max_length=2)] = Field(default_factory=list)


def told(**fields):
    with pytest.raises(Invalid) as caught:
        read(Everything, fields)
    return caught.value.errors


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("text", 5, "The text field must be a string."),
        ("text", "a", "The text field must be at least 2 characters."),
        ("text", "abcdef", "The text field must not be greater than 5 characters."),
        ("text", None, "The text field is required."),
        ("text", " ", "The text field is required."),
        ("whole", "5.5", "The whole field must be an integer."),
        ("whole", True, "The whole field must be an integer."),
        ("whole", 1.5, "The whole field must be an integer."),
        ("whole", [], "The whole field must be an integer."),
        ("whole", "٣", "The whole field must be an integer."),
        ("whole", -1, "The whole field must be at least 0."),
        ("whole", "86401", "The whole field must not be greater than 86400."),
        ("whole", 10**30, "The whole field must be an integer."),
        ("number", "abc", "The number field must be a number."),
        ("number", "NaN", "The number field must be a number."),
        ("number", True, "The number field must be a number."),
        ("number", float("inf"), "The number field must be a number."),
        ("price", "0.00001", "The price field must have 0-4 decimal places."),
        ("price", -0.5, "The price field must be at least 0."),
        ("price", 1_000_000_001, "The price field must not be greater than 1000000000."),
        ("price", "1e999", "The price field must not be greater than 1000000000."),
        ("flag", "yes", "The flag field must be true or false."),
        ("flag", 2, "The flag field must be true or false."),
        ("flag", {}, "The flag field must be true or false."),
        ("kind", "c", "The selected kind is invalid."),
        ("email", "nobody", "The email field must be a valid email address."),
        ("email", "a b@c.d", "The email field must be a valid email address."),
        ("moment", "tomorrow", "The moment field must be a valid date."),
        ("moment", 5, "The moment field must be a valid date."),
        ("some_items", "x", "The some items field must be an array."),
        ("some_items", [], "The some items field must have at least 1 items."),
        ("some_items", [{"number": "1"}] * 3, "The some items field must not have more than 2 items."),
    ],
)
def test_sentences(field, value, sentence):
    assert told(**{field: value}) == {field: [sentence]}


def test_nested_names_are_dotted():
    assert told(some_items=[{"number": "1"}, {"note": "too long"}]) == {
        "some_items.1.number": ["The some items.1.number field is required."],
        "some_items.1.note": ["The some items.1.note field must not be greater than 5 characters."],
    }


def test_a_name_that_an_object_may_not_have():
    class Slots(Body):
        slots: dict[Literal["0", "1"], Item]

    with pytest.raises(Invalid) as caught:
        read(Slots, {"slots": {"5": {"number": "1"}, "1": {}}})
    assert caught.value.errors == {
        "slots.5": ["The selected slots.5 is invalid."],
        "slots.1.number": ["The slots.1.number field is required."],
    }


def test_message_counts_the_others():
    with pytest.raises(Invalid) as one:
        read(Everything, {"flag": 2})
    with pytest.raises(Invalid) as two:
        read(Everything, {"flag": 2, "kind": "c"})
    with pytest.raises(Invalid) as three:
        read(Everything, {"flag": 2, "kind": "c", "moment": ""} | {"email": "x"})
    assert str(one.value) == "The flag field must be true or false."
    assert str(two.value) == "The flag field must be true or false. (and 1 more error)"
    assert str(three.value).endswith("(and 2 more errors)")


@pytest.mark.parametrize(
    ("field", "given_value", "value"),
    [
        ("text", " abc ", "abc"),
        ("message", "  as it is ", "  as it is "),
        ("whole", "15", 15),
        ("whole", 15.0, 15),
        ("number", "1.50", Decimal("1.5")),
        ("number", 0.1, Decimal("0.1")),
        ("number", "1e3", Decimal(1000)),
        ("price", "0.1234", Decimal("0.1234")),
        ("price", "", None),
        ("flag", 0, False),
        ("flag", "1", True),
        ("moment", "2026-06-08", datetime(2026, 6, 8, tzinfo=UTC)),
        ("moment", "2026-06-08T10:00:00+05:00", datetime(2026, 6, 8, 5, tzinfo=UTC)),
        ("moment", "2026-06-08T10:00:00 05:00", datetime(2026, 6, 8, 5, tzinfo=UTC)),
        ("moment", "2026-06-08 10:00 0500", datetime(2026, 6, 8, 5, tzinfo=UTC)),
        ("moment", "2026-06-08T10:00:00.5 05:00", datetime(2026, 6, 8, 5, 0, 0, 500_000, tzinfo=UTC)),
        ("moment", "2026-06-08 10:00", datetime(2026, 6, 8, 10, tzinfo=UTC)),
        ("moment", "2026-06-08T10:00:00.000000Z", datetime(2026, 6, 8, 10, tzinfo=UTC)),
    ],
)
def test_values_as_laravel_takes_them(field, given_value, value):
    assert getattr(read(Everything, {field: given_value}), field) == value


def test_strings_in_lists_are_trimmed_too():
    class Names(Body):
        names: list[str | None]

    assert read(Names, {"names": [" a ", "", "b"]}).names == ["a", None, "b"]


def test_given_are_the_fields_that_were_there():
    assert read(Everything, {"price": None, "flag": "0", "unknown": 1}).given() == {"price": None, "flag": False}


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1.0", str(MAX_ID + 1), "9" * 6000, "\u0661"])
def test_no_row_ids(text):
    assert row_id(text) is None


def test_row_ids():
    assert (row_id("1"), row_id("007"), row_id(str(MAX_ID))) == (1, 7, MAX_ID)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(list(Everything.model_fields)), anything))
def test_anything_is_read_or_told(fields):
    try:
        read(Everything, fields)
    except Invalid as error:
        assert all(sentences and all(sentences) for sentences in error.errors.values())  # noqa: PT017 - either is right
