"""Segments, as phones split texts."""

import time

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from app.messages.segments import segments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (1, "gsm7")),
        ("x" * 160, (1, "gsm7")),
        ("x" * 161, (2, "gsm7")),
        ("x" * 306, (2, "gsm7")),
        ("x" * 307, (3, "gsm7")),
        ("€" * 80, (1, "gsm7")),
        ("€" * 80 + "x", (2, "gsm7")),
        # The escape and its character stay together, so a part of 153 holds 76 of them.
        ("€" * 152, (2, "gsm7")),
        ("€" * 153, (3, "gsm7")),
        ("x" * 152 + "€" + "x" * 151, (2, "gsm7")),
        ("x" * 152 + "€" + "x" * 152, (3, "gsm7")),
        ("ΔΦΓ[]{}~|\\^\f", (1, "gsm7")),
        ("`", (1, "ucs2")),
        ("ç", (1, "ucs2")),
        ("Ç", (1, "gsm7")),
        ("я" * 70, (1, "ucs2")),
        ("я" * 71, (2, "ucs2")),
        ("я" * 134, (2, "ucs2")),
        ("я" * 135, (3, "ucs2")),
        ("👋" * 35, (1, "ucs2")),
        ("👋" * 36, (2, "ucs2")),
        # Two halves of a pair are never in two parts, so a part of 67 holds 33 of them.
        ("👋" * 66, (2, "ucs2")),
        ("👋" * 67, (3, "ucs2")),
        # What is seen as one character is never in two parts, so a part of 67 holds 16 flags.
        ("🇺🇿" * 17, (1, "ucs2")),
        ("🇺🇿" * 18, (2, "ucs2")),
        ("🇺🇿" * 32, (2, "ucs2")),
        ("🇺🇿" * 33, (3, "ucs2")),
        ("👨‍👩‍👧‍👦" * 6, (1, "ucs2")),
        ("👨‍👩‍👧‍👦" * 12, (2, "ucs2")),
        ("👨‍👩‍👧‍👦" * 13, (3, "ucs2")),
        ("👍🏽" * 33, (3, "ucs2")),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f" * 10, (3, "ucs2")),
        ("1\ufe0f\u20e3" * 45, (3, "ucs2")),
        ("и\u0306" * 67, (3, "ucs2")),
        ("नि" * 67, (3, "ucs2")),
        ("한" * 134, (2, "ucs2")),
        ("\u1112\u1161\u11ab" * 45, (3, "ucs2")),
        # One character of 71 units has to be split all the same, between its code points.
        ("я" + "\u0301" * 70, (2, "ucs2")),
        ("я" * 40 + "я" + "\u0301" * 70, (3, "ucs2")),
    ],
)
def test_counts(text, expected):
    assert segments(text) == expected


_BEFORE = ["a", "я", "\n", "\r", "👋", "🇺", "🇿", "👨", "👩", "न", "\u1112", "한", "\u0600", "\u200b"]
_JOINED = ["\u200d", "\ufe0f", "🏽", "\u0301", "\u20e3", "ि", "\u094d", "\u1161", "\u11ab", "\U000e0067"]
_PIECES = st.sampled_from([*_BEFORE, *_JOINED])
_CLUSTER = regex.compile(r"\X")


def as_android_fragments(text: str) -> int:
    """The number of parts by the algorithm of Android's `SmsMessageBase.findNextUnicodePosition`."""
    raw = text.encode("utf-16-le")
    length, at = len(raw) // 2, 0
    boundaries = {0}
    for cluster in _CLUSTER.findall(text):
        at += len(cluster.encode("utf-16-le")) // 2
        boundaries.add(at)
    if length <= 70:
        return 1
    position, parts = 0, 0
    while position < length:
        end = min(position + 67, length)
        if end < length and end not in boundaries:
            before = max(boundary for boundary in boundaries if boundary < end)
            if before > position:
                end = before
            elif 0xD8 <= raw[2 * end - 1] <= 0xDB:
                end -= 1
        position, parts = end, parts + 1
    return parts


@given(st.lists(st.one_of(_PIECES, _PIECES.map(lambda piece: piece * 40)), max_size=60).map("".join))
def test_parts_are_those_that_android_makes(text):
    text = "ж" + text
    assert segments(text) == (as_android_fragments(text), "ucs2")


@given(st.text())
def test_any_text_has_segments(text):
    parts, encoding = segments(text)
    assert parts >= 1
    assert encoding in {"gsm7", "ucs2"}


@pytest.mark.parametrize("piece", ["🇺🇿", "👩‍", "e\u0301", "न\u094d", "\u0600🇺", "\u1100", "я"])
def test_long_texts_of_any_kind_are_counted_in_a_moment(piece):
    began = time.process_time()
    segments("ж" + piece * (100_000 // len(piece)))
    assert time.process_time() - began < 2, "by the square of its length it would be a minute"
