"""Segments and encoding of a text as phones split it (3GPP TS 23.038 alphabets, TS 23.040 concatenation)."""

import unicodedata

import regex

_GSM7_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM7_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM7 = _GSM7_BASIC | _GSM7_EXTENSION

GSM7_SINGLE, GSM7_PART = 160, 153
UCS2_SINGLE, UCS2_PART = 70, 67

# A pair of regional indicators is a flag. `\X` alone looks back over all flags before each: 50,000 take a minute.
_CLUSTER = regex.compile(r"\p{RI}{2}(?=\p{RI})|\X")
# Where none of these is, each character is a cluster of its own: to look for them is a tenth of finding clusters.
_JOINING = regex.compile(r"[^\p{GCB=Other}\p{GCB=Control}\p{GCB=LV}\p{GCB=LVT}\n]")


def segments(text: str) -> tuple[int, str]:
    """Number of SMS segments and `gsm7` or `ucs2`.

    Android splits GSM 7 between characters, of which those of the extension table take two septets, and UCS-2 between
    grapheme clusters: flags, families and letters with their marks stay whole, so a part may hold less than it could.
    """
    if _GSM7.issuperset(text):
        if len(text) <= GSM7_SINGLE and _GSM7_EXTENSION.isdisjoint(text):
            return 1, "gsm7"
        widths = [2 if char in _GSM7_EXTENSION else 1 for char in text]
        return (1 if sum(widths) <= GSM7_SINGLE else _parts(widths, GSM7_PART)), "gsm7"
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if units <= UCS2_SINGLE:
        return 1, "ucs2"
    if _JOINING.search(text):
        return _parts_of_clusters(_CLUSTER.findall(text)), "ucs2"
    if units == len(text):
        return -(-units // UCS2_PART), "ucs2"
    return _parts([2 if char > "\uffff" else 1 for char in text], UCS2_PART), "ucs2"


def _parts(widths: list[int], part: int) -> int:
    parts, used = 1, 0
    for width in widths:
        if used + width > part:
            parts, used = parts + 1, 0
        used += width
    return parts


def _parts_of_clusters(clusters: list[str]) -> int:
    """A cluster that is longer than a part begins one, and is split between its characters."""
    parts, used = 1, 0
    for cluster in clusters:
        widths = [2 if char > "\uffff" else 1 for char in cluster]
        if used and used + sum(widths) > UCS2_PART:
            parts, used = parts + 1, 0
        for width in widths:
            if used + width > UCS2_PART:
                parts, used = parts + 1, 0
            used += width
    return parts


# ruff: disable[RUF001]
# What looks like ASCII, and is not, is what this table is for.
_REPLACEMENTS = {
    **dict.fromkeys("‘’‚‛′´`ʻʼʹʿʽ", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‹", "<"),
    **dict.fromkeys("›", ">"),
    **dict.fromkeys("‐‑‒–—―−•·", "-"),
    **dict.fromkeys("\t\v\u2028\u2029", " "),
    "…": "...",
    "×": "x",
    "÷": "/",
    "™": "(TM)",
    "©": "(c)",
    "®": "(R)",
    "№": "No.",
    "¢": "c",
    "₽": "RUB",
    "ı": "i",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ħ": "h",
    "Ħ": "H",
    "œ": "oe",
    "Œ": "OE",
    "ð": "d",
    "þ": "th",
}
# ruff: enable[RUF001]


def replacement(character: str) -> str | None:
    """What could stand for a character that GSM 7 lacks, in GSM 7; None where nothing does."""
    if character in _REPLACEMENTS:
        return _REPLACEMENTS[character]
    category = unicodedata.category(character)
    if category == "Zs":
        return " "
    if category in {"Cf", "Mn", "Me"}:
        return ""
    apart = unicodedata.normalize("NFKD", character)
    plain = "".join(each for each in apart if not unicodedata.combining(each))
    return plain if plain and _GSM7.issuperset(plain) else None


def forcing_ucs2(text: str) -> list[str]:
    """The characters for whose sake a text is sent as UCS-2, each once, in the order of the text."""
    return [character for character in dict.fromkeys(text) if character not in _GSM7]
