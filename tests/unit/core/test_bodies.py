import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.bodies import parse_body, unflatten, without_blanks
from app.core.errors import Invalid, UnsupportedMediaType
from tests.support.memory import memory_below


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ([("a", "1"), ("b", "")], {"a": "1", "b": ""}),
        ([("a[]", "1"), ("a[]", "2")], {"a": ["1", "2"]}),
        (
            [("r[1][number]", "2"), ("r[0][number]", "1"), ("r[0][name]", "x")],
            {"r": [{"number": "1", "name": "x"}, {"number": "2"}]},
        ),
        ([("r[10]", "b"), ("r[9]", "a")], {"r": ["a", "b"]}),
        ([("r[1]", "a"), ("r[]", "b"), ("r[][number]", "c")], {"r": ["a", "b", {"number": "c"}]}),
        ([("r[x]", "a"), ("r[]", "b")], {"r": {"x": "a", "0": "b"}}),
        ([("a[]", "1"), ("a[0][b]", "2")], {"a": [{"b": "2"}]}),
        ([("a[b][c]", "1"), ("a[b][d]", "2")], {"a": {"b": {"c": "1", "d": "2"}}}),
        ([("a", "1"), ("a[b]", "2")], {"a": {"b": "2"}}),
        ([("a[b]", "2"), ("a", "1")], {"a": "1"}),
        ([("a[", "1"), ("b]", "2"), ("[c]", "3")], {"a[": "1", "b]": "2", "[c]": "3"}),
        ([("0", "top level names stay names")], {"0": "top level names stay names"}),
    ],
)
def test_bracket_names(fields, value):
    assert unflatten(fields) == value


def test_bracket_names_nested_too_deeply():
    with pytest.raises(Invalid) as caught:
        unflatten([("a" + "[b]" * 5000, "1")])
    assert list(caught.value.errors) == ["body"]


@pytest.mark.parametrize("raw", [b"", b"  \r\n"])
@pytest.mark.parametrize("content_type", [None, "application/json", "multipart/form-data", "text/plain"])
def test_nothing_is_an_empty_object(raw, content_type):
    assert parse_body(raw, content_type) == {}


def test_unknown_content_type():
    with pytest.raises(UnsupportedMediaType):
        parse_body(b"x", "text/plain")


storable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | storable,
    lambda children: st.lists(children) | st.dictionaries(storable, children),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values.filter(lambda value: value != ""))
def test_storable_json_comes_through_as_it_is(value):
    for ascii_only in (True, False):
        assert parse_body(json.dumps(value, ensure_ascii=ascii_only).encode(), "application/json") == value


def test_of_many_texts_that_cannot_be_stored_the_first_are_named():
    """All of them took a hundred times the body's size, and the answer ten times."""
    raw = b'{"message": "x", "recipients": ["a", ' + b'"\\u0000", ' * 200_000 + b'{"number": "\\ud800"}]}'
    with memory_below(60), pytest.raises(Invalid) as raised:
        parse_body(raw, "application/json")
    assert list(raised.value.errors) == [f"recipients.{place}" for place in range(1, 101)]
    sentence = "The recipients.1 field contains invalid characters."
    assert raised.value.message == f"{sentence} (and 200000 more errors)"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(),
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"]),
)
def test_any_bytes_are_a_value_or_a_named_error(raw, content_type):
    try:
        value = parse_body(raw, content_type)
    except Invalid as error:
        assert error.errors  # noqa: PT017 - either is right
    else:
        json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("query", "left"),
    [(b"", b""), (b"a=1&b=2", b"a=1&b=2"), (b"a=&b=2&c", b"b=2"), (b"cursor=abc=", b"cursor=abc="), (b"a=", b"")],
)
def test_blank_parameters(query, left):
    assert without_blanks(query) == left
