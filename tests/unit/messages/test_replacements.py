import unicodedata

import pytest

from app.messages.placeholders import fill
from app.messages.segments import forcing_ucs2, replacement, segments


@pytest.mark.parametrize(
    ("character", "expected"),
    [("ş", "s"), ("ğ", "g"), ("ı", "i"), ("á", "a"), ("Ő", "O"), ("œ", "oe"), ("ʻ", "'"), ("\u200b", ""), ("\t", " ")],  # noqa: RUF001 - what it is about
)
def test_a_replacement(character, expected):
    assert replacement(character) == expected


def test_every_replacement_is_gsm7():
    for code in range(0x30000):
        found = replacement(character := chr(code)) if unicodedata.category(chr(code)) != "Cs" else None
        assert found is None or segments(found)[1] == "gsm7", character


def test_a_text_whose_characters_are_replaced_is_gsm7():
    text = "“Oʻzbekiston” — 5 € · ş…"  # noqa: RUF001 - what it is about
    for character in forcing_ucs2(text):
        text = text.replace(character, replacement(character))
    assert (forcing_ucs2(text), segments(text)) == ([], (1, "gsm7"))


def test_names_are_found_in_any_letter_case_and_spacing():
    assert fill("{ First  NAME }{first name|x}{a\nb}", {"first name": "Ali"}) == ("AliAli{a\nb}", [])
    assert fill("{a}{ a }{b}", {}) == ("{a}{ a }{b}", ["a", "b"])
