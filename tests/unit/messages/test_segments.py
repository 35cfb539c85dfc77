"""Segments, as phones split texts."""

import pytest

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
    ],
)
def test_counts(text, expected):
    assert segments(text) == expected
