"""Phone numbers, as users write them, to E.164."""

import re

import phonenumbers

_SPACING = re.compile(r"[\s\-.()]+")
_INTERNATIONAL = re.compile(r"\+[0-9]{7,15}")
_NATIONAL = re.compile(r"[0-9]{3,17}")


def normalize_number(text: str, region: str | None = None) -> str | None:
    """`text` as `+` and 7 to 15 digits, None where it is no number.

    A number with `+` is taken whether or not its range is assigned; one without is read by `region` (ISO 3166, two
    letters), and is none where no region is given.
    """
    number = _SPACING.sub("", text)
    if _INTERNATIONAL.fullmatch(number):
        return number
    if region is None or not _NATIONAL.fullmatch(number):
        return None
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def is_region(code: str) -> bool:
    """Whether `code` is a region whose national numbers can be read."""
    return code in phonenumbers.SUPPORTED_REGIONS
