"""Phone numbers, as people and spreadsheets write them, to E.164."""

import re
import unicodedata

import phonenumbers
from phonenumbers import PhoneNumberFormat, ValidationResult

from app.core.national_numbers import read_quickly

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SEPARATORS = re.compile(r"[\-.()]+")
_DIGITS = re.compile(r"\+?[0-9]+")
_NATIONAL = re.compile(r"[0-9]{3,17}")
# A spreadsheet's number: digits without any separator or blank, and a fraction too short for a group of digits.
_DECIMAL = re.compile(r"(\+?[0-9]{7,})[.,]([0-9]{1,2})")
_SCIENTIFIC = re.compile(r"\+?[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+")
# "+44 (0)20 …": the zero that is dialled at home only, or in some countries always.
_TRUNK_ZERO = "(0)"
# The block of full-width forms mirrors ASCII.
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_MINUS_SIGN = "\N{MINUS SIGN}"


def normalize_number(text: str, region: str | None = None) -> str | None:
    """`text` as `+` and 7 to 15 digits, None if it is not a phone number.

    A number with `+` is taken whether or not its range is assigned; one without is read by `region` (ISO 3166, two
    letters), and refused without a region or where it lacks its area code.
    """
    if _E164.fullmatch(text):
        return text
    cleaned = _clean(text)
    if decimal := _decimal(text, cleaned):
        if decimal[2].strip("0"):
            return None
        cleaned = decimal[1]
    number = _SEPARATORS.sub("", cleaned)
    if _TRUNK_ZERO in cleaned and number.startswith("+"):
        return _parse(number, None)
    if _E164.fullmatch(number):
        return number
    if region is None or not _NATIONAL.fullmatch(number):
        return None
    return read_quickly(number, region) or _parse(number, region)


def explain_refusal(text: str, region: str | None = None) -> str:
    """A sentence that says why `normalize_number` refused this text."""
    cleaned = _clean(text)
    number = _SEPARATORS.sub("", cleaned)
    if region is None:
        otherwise = "The phone number lacks + and the country code, and the account has no default region."
    else:
        otherwise = f"This is not a complete phone number of {region}: check its length and area code."
    cases = (
        (not cleaned, "The phone number is empty."),
        (
            _SCIENTIFIC.fullmatch(cleaned),
            "The spreadsheet rounded this number: its last digits are lost. Format the column as text.",
        ),
        (
            (decimal := _decimal(text, cleaned)) and decimal[2].strip("0"),
            "The phone number has a decimal fraction.",
        ),
        (not _DIGITS.fullmatch(number), "The phone number contains characters that are not digits."),
        (
            number.startswith("+"),
            "After + come the country code, which never begins with 0, and 7 to 15 digits in all.",
        ),
    )
    return next((sentence for applies, sentence in cases if applies), otherwise)


def region_of(number: str | None) -> str | None:
    """The region of a number in E.164, None where it is of several or of none."""
    if number is None or not _E164.fullmatch(number):
        return None
    region: str | None = phonenumbers.region_code_for_number(phonenumbers.parse(number))
    return region if region in phonenumbers.SUPPORTED_REGIONS else None


def is_region(code: str) -> bool:
    """Whether `code` is a region whose national numbers can be read."""
    return code in phonenumbers.SUPPORTED_REGIONS


def _clean(text: str) -> str:
    """Without blanks and invisible characters, in ASCII digits and signs: what web pages and messengers add."""
    if text.isascii():
        return "".join(text.split())
    return "".join(
        "-" if character == _MINUS_SIGN or category == "Pd" else character
        for character in text.translate(_FULL_WIDTH)
        if (category := unicodedata.category(character)) not in {"Cf", "Zs"} and not character.isspace()
    )


def _decimal(text: str, cleaned: str) -> re.Match[str] | None:
    return _DECIMAL.fullmatch(cleaned) if len(text.split()) == 1 else None


def _parse(number: str, region: str | None) -> str | None:
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    # Possible "locally only" means without the area code: sent abroad it would be somebody else's number, or nobody's.
    if phonenumbers.is_possible_number_with_reason(parsed) != ValidationResult.IS_POSSIBLE:
        return None
    e164 = phonenumbers.format_number(parsed, PhoneNumberFormat.E164)
    return e164 if _E164.fullmatch(e164) else None
