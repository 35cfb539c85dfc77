"""Segments and encoding of a text as phones split it (3GPP TS 23.038 alphabets, TS 23.040 concatenation)."""

_GSM7_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM7_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM7 = _GSM7_BASIC | _GSM7_EXTENSION

GSM7_SINGLE, GSM7_PART = 160, 153
UCS2_SINGLE, UCS2_PART = 70, 67


def segments(text: str) -> tuple[int, str]:
    """Number of SMS segments and `gsm7` or `ucs2`.

    A character of the extension table takes two septets and a character beyond the BMP two code units; neither is split
    between two parts, so a part may hold one unit less than it could.
    """
    if _GSM7.issuperset(text):
        if len(text) <= GSM7_SINGLE and _GSM7_EXTENSION.isdisjoint(text):
            return 1, "gsm7"
        return _parts([2 if char in _GSM7_EXTENSION else 1 for char in text], GSM7_SINGLE, GSM7_PART), "gsm7"
    return _parts([2 if char > "\uffff" else 1 for char in text], UCS2_SINGLE, UCS2_PART), "ucs2"


def _parts(widths: list[int], single: int, part: int) -> int:
    if sum(widths) <= single:
        return 1
    parts, used = 1, 0
    for width in widths:
        if used + width > part:
            parts, used = parts + 1, 0
        used += width
    return parts
