import pytest

from app.core.numbers import explain_refusal, is_region, normalize_number


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
        ("00998901234567", "UZ", "+998901234567"),
        # RFC 5733 writes a dot behind the country code.
        ("+1.4155552671", None, "+14155552671"),
        # A spreadsheet's number, with a fraction of nothing.
        ("+998901234567.0", None, "+998901234567"),
        ("+998901234567,00", None, "+998901234567"),
        ("998901112233.0", "UZ", "+998901112233"),
        ("015112345678.0", "DE", "+4915112345678"),
        # A person's last group of digits is none.
        ("+1 202 555.0000", None, "+12025550000"),
        ("+1 202 555.0100", None, "+12025550100"),
        ("+1202555.0000", None, "+12025550000"),
        ("+9989011122 .00", None, "+998901112200"),
        ("+49 89 1234567.0", None, "+498912345670"),
        # The zero that is dialled at home, and the country that always dials it.
        ("+44 (0)20 7946 0958", None, "+442079460958"),
        ("+49 (0) 30 123456", None, "+4930123456"),
        ("+39 (0)6 1234 5678", None, "+390612345678"),
        # What web pages, messengers and right-to-left text leave around and in a number.
        ("\u202a+998 90 123 45 67\u202c", None, "+998901234567"),
        ("\u200e+998901234567\u200b", None, "+998901234567"),
        ("\ufeff+998901234567", None, "+998901234567"),
        ("+998\u00a090\u2011123\u201345\u2212\u202f67", None, "+998901234567"),
        (
            "\uff0b\uff19\uff19\uff18\uff08\uff19\uff10\uff09\uff11\uff12\uff13\uff14\uff15\uff16\uff17",
            None,
            "+998901234567",
        ),
        ("90\u2060 123\u00ad45\u200767", "UZ", "+998901234567"),
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
        # Digits behind a separator never join the number.
        ("+998901234567.5", None),
        ("998901234567.25", "UZ"),
        ("015112345678,5", "DE"),
        ("9.98901E+11", "UZ"),
        ("998901234567e0", "UZ"),
        # Without the area code it would be somebody else's.
        ("555-0123", "US"),
        ("5550123.0", "US"),
        ("123-45-67", "RU"),
        ("7946 0958", "GB"),
        ("5512 3456", "MX"),
        # No country code begins with 0.
        ("+00998901234567", None),
        ("+0123456789", "DE"),
        ("+7 (0)495 123 45 67", None),
        ("+44 (0)", None),
        ("+44 20 7946 0958 ext. 5", None),
        ("+998901234567/8", None),
    ],
)
def test_no_numbers(text, region):
    assert normalize_number(text, region) is None


def test_regions():
    assert is_region("UZ")
    assert not is_region("XX")
    assert not is_region("uz")


@pytest.mark.parametrize(
    ("text", "region", "sentence"),
    [
        (" \u200b", None, "is empty"),
        ("9.98901E+11", "UZ", "last digits are lost"),
        ("998901234567.5", "UZ", "decimal fraction"),
        ("ask Ali", "UZ", "not digits"),
        ("+00998901234567", None, "country code"),
        ("998901234567", None, "no default region"),
        ("555-0123", "US", "area code"),
    ],
)
def test_a_refusal_says_why(text, region, sentence):
    assert normalize_number(text, region) is None
    assert sentence in explain_refusal(text, region)
