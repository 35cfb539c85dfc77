"""The quick way to read national numbers against the library's own, over many numbers of every region."""

import random

import phonenumbers
import pytest
from phonenumbers import PhoneMetadata, PhoneNumberFormat, ValidationResult

from app.core.national_numbers import read_quickly


def by_the_library(number: str, region: str) -> str | None:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(parsed, PhoneNumberFormat.E164)


def shapes(region: str, chance: random.Random) -> list[str]:
    """Numbers of a region's own kinds, some of their digits others, as they are written with any prefix."""
    metadata = PhoneMetadata.metadata_for_region(region)
    kinds = (metadata.general_desc, metadata.fixed_line, metadata.mobile, metadata.toll_free, metadata.voip)
    examples = {kind.example_number for kind in kinds if kind is not None and kind.example_number}
    numbers = []
    for example in examples:
        for _ in range(6):
            digits = list(example)
            for place in range(chance.choice((0, 1, 3, len(digits))), len(digits)):
                digits[place] = str(chance.randrange(10))
            number = "".join(digits)
            numbers += [number, number[:-1], f"{number}0"]
    code, trunk = str(metadata.country_code), metadata.national_prefix or ""
    prefixes = {"", code, "0", "1", "8", "00", f"00{code}", f"{code}0", code * 2, trunk, f"{code}{trunk}", trunk * 2}
    random_ones = ["".join(chance.choices("0123456789", k=chance.randrange(3, 18))) for _ in range(100)]
    return [f"{prefix}{number}" for number in numbers for prefix in sorted(prefixes)] + random_ones


def test_the_quick_way_never_differs_from_the_library():
    """Seen too: the 1,274,574 that it tells of ten million numbers, with other seeds."""
    chance = random.Random(7)
    told = 0
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for number in chance.sample(tried := shapes(region, chance), min(len(tried), 120)):
            if quick := read_quickly(number, region):
                told += 1
                assert quick == by_the_library(number, region), (number, region)
    assert told > 3000  # or it is quick at nothing


@pytest.mark.parametrize(
    ("number", "region"),
    [
        ("901112233", "UZ"),
        ("998901112233", "UZ"),
        ("89161234567", "RU"),
        ("79161234567", "RU"),
        ("4155552671", "US"),
        ("14155552671", "US"),
        ("07911123456", "GB"),
        ("01711234567", "DE"),
        ("0612345678", "FR"),
        ("0612345678", "IT"),
        ("9812345678", "IN"),
        ("05321234567", "TR"),
        ("7012345678", "KZ"),
    ],
)
def test_common_shapes_are_read_quickly(number, region):
    assert read_quickly(number, region) == by_the_library(number, region) is not None


def test_what_only_the_library_can_tell_is_left_to_it():
    for number, region in (("00998901112233", "UZ"), ("1112345678", "AR"), ("5550123", "US"), ("901112233", "XX")):
        assert read_quickly(number, region) is None
