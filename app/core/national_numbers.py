"""National numbers to E.164 as `phonenumbers` reads them, for files of a million of them.

`phonenumbers` reads 35,000 a second. The common shapes (the number as it is dialled from abroad without its country
code, with the country code but no `+`, with the prefix that is dialled at home) are judged here by the library's own
patterns, in the cases where they alone decide; everything else is left to the library.
"""

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from phonenumbers import PhoneMetadata, region_code_for_country_code


@dataclass(frozen=True, slots=True)
class _Region:
    """A region's patterns. `foreign` is what is dialled at home for a call abroad, `trunk` for one within."""

    country_code: str
    pattern: re.Pattern[str]
    lengths: frozenset[int]
    foreign: re.Pattern[str] | None
    trunk: re.Pattern[str] | None
    may_have_country_code: bool


def read_quickly(digits: str, region: str) -> str | None:
    """A national number in E.164, None where it takes the library to tell."""
    rules = _rules_of(region)
    if rules is None or (rules.foreign is not None and rules.foreign.match(digits)):
        return None
    trunk = None if rules.trunk is None else rules.trunk.match(digits)
    if rules.pattern.fullmatch(digits):
        number = None if trunk else digits
    elif digits.startswith(rules.country_code):
        number = digits[len(rules.country_code) :] if rules.may_have_country_code else ""
        if rules.trunk is not None and rules.trunk.match(number):
            return None
    else:
        number = digits[trunk.end() :] if trunk else None
    if number is None or len(number) not in rules.lengths or not rules.pattern.fullmatch(number):
        return None
    return f"+{rules.country_code}{number}" if number.strip("0") else None


@cache
def _rules_of(region: str) -> _Region | None:
    metadata: Any = PhoneMetadata.metadata_for_region(region)  # its parts are all there, whatever their types say
    # A rule that rewrites numbers is the library's to apply.
    if metadata is None or metadata.national_prefix_transform_rule:
        return None
    main = region_code_for_country_code(metadata.country_code)  # whose lengths hold for all regions of a country code
    of_main: Any = PhoneMetadata.metadata_for_region(main)
    return _Region(
        str(metadata.country_code),
        re.compile(metadata.general_desc.national_number_pattern),
        frozenset(of_main.general_desc.possible_length),
        _compiled(metadata.international_prefix),
        _compiled(metadata.national_prefix_for_parsing),
        may_have_country_code=region == main,
    )


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    return re.compile(pattern) if pattern else None
