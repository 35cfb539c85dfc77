import pytest

from app.core.numbers import is_region, normalize_number


@pytest.mark.parametrize(
    ("text", "region", "number"),
    [
        ("+998901234567", None, "+998901234567"),
        (" +998 (90) 123-45.67 ", None, "+998901234567"),
        ("+1234567", None, "+1234567"),
        ("+123456789012345", None, "+123456789012345"),
        ("+99912345678", None, "+99912345678"),  # a range that nobody has
        ("90 123 45 67", "UZ", "+998901234567"),
        ("0171 2345678", "DE", "+491712345678"),
        ("00998901234567", "DE", "+998901234567"),
        ("(415) 555-2671", "US", "+14155552671"),
    ],
)
def test_numbers(text, region, number):
    assert normalize_number(text, region) == number


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("", None),
        ("+", None),
        ("+123456", None),
        ("+1234567890123456", None),
        ("998901234567", None),
        ("90 123 45 67", None),
        ("12", "UZ"),
        ("hello", "UZ"),
        ("+99890123456x", "UZ"),
        ("+٩٩٨٩٠١٢٣٤٥٦٧", None),
        ("1" * 400, "UZ"),
        ("++998901234567", "UZ"),
        ("9012345", "XX"),
    ],
)
def test_no_numbers(text, region):
    assert normalize_number(text, region) is None


def test_regions():
    assert is_region("UZ")
    assert not is_region("XX")
    assert not is_region("uz")
