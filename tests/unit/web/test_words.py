"""The dashboard's languages: nothing of its own is untranslated, and what the domain says is translated too."""

import re
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.devices import condition
from app.devices.failures import REASONS
from app.web import catalogs, shown, words

TEMPLATES = sorted((Path(catalogs.__file__).parent / "templates").glob("*.html"))
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+[:}|]")
# What is written alike in every language, and the code that a page shows.
ALIKE = re.compile(r"smsfleet|PostgreSQL|Telegram|webhook-id|API URL|Private Token|\bms\b|\bMB\b|[A-Z]{3,}")
SPOKEN = ("aria-label", "title", "placeholder", "alt", "data-copied")


class Texts(HTMLParser):
    """What a template says that is no expression of Jinja's."""

    def __init__(self) -> None:
        super().__init__()
        self.found = []
        self.within = []

    def handle_starttag(self, tag, attributes):
        if tag in {"pre", "code"}:
            self.within.append(tag)
        self.found += [value for name, value in attributes if name in SPOKEN and value]

    def handle_endtag(self, tag):
        if self.within and self.within[-1] == tag:
            self.within.pop()

    def handle_data(self, data):
        if not self.within:
            self.found.append(data)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_says_nothing_that_cannot_be_translated(path) -> None:
    text = re.sub(
        r"\{#.*?#\}|\{% trans .*?endtrans %\}|\{% trans %\}.*?endtrans %\}", "", path.read_text(), flags=re.DOTALL
    )
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    parser = Texts()
    parser.feed(text)
    bare = [said.strip() for said in parser.found if re.search(r"[A-Za-z]{2,}", ALIKE.sub("", said))]
    assert bare == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_the_end_of_a_span_is_not_called_as_a_recipient_is(path) -> None:
    assert not re.search(r"""\bto\]?", _\('To'\)""", path.read_text())


def test_campaigns_and_messages_share_no_word_for_their_states() -> None:
    """Whether one is masculine, feminine or neuter is another thing in many languages."""
    assert not set(shown.CAMPAIGN_STATUSES.values()) & set(shown.STATUSES.values())


@pytest.mark.parametrize("language", catalogs.translated())
def test_everything_of_the_dashboard_is_translated(language) -> None:
    catalog = catalogs.load(language)
    missing = [text for text in catalogs.own_strings() if not (catalog[text] and catalog[text].string)]
    assert missing == [], "run `make catalogs` and translate them"


@pytest.mark.parametrize("language", catalogs.translated())
def test_a_translation_speaks_of_the_same(language) -> None:
    for message in catalogs.load(language):
        if message.id and message.string:
            wanted, told = (
                {each.strip("{}:|") for each in PLACEHOLDER.findall(text)} for text in (message.id, message.string)
            )
            assert told == wanted, message.id


@pytest.mark.parametrize("language", catalogs.translated())
def test_what_is_read_is_what_was_written(language) -> None:
    path = catalogs.path(language)
    assert path.with_suffix(".mo").read_bytes() == catalogs.compiled(catalogs.load(language)), "run `make catalogs`"


def test_a_sentence_of_the_domain_is_translated_with_what_it_speaks_of() -> None:
    sentence = "Pixel {7} sends one message every 30 seconds; messages ahead: 4."
    assert words.said(sentence) == sentence
    with words.speaking("ru"):
        assert words.said(sentence) == "Pixel {7} отправляет одно сообщение раз в 30 секунд; впереди сообщений: 4."
        assert words.said("The name field is required.") == "Обязательное поле (name)."
        assert words.said("Nobody ever said this.") == "Nobody ever said this."


def test_moments_in_sentences_are_told_by_the_clock_of_the_page() -> None:
    sentence = "Pixel was last seen at 2026-11-27T23:29:43.898722Z."
    with words.speaking("en", ZoneInfo("Asia/Tashkent")):
        assert words.said(sentence) == "Pixel was last seen at 2026-11-28 04:29."


def test_a_sentence_inside_of_a_sentence_is_translated_too() -> None:
    sentence = condition.FAILING.format(card=2, reason=REASONS["no_service"].sentence, until="2026-11-27T02:29:43Z")
    with words.speaking("ru"):
        told = words.said(sentence)
    assert "SIM-карты 2" in told
    assert "2026-11-27 02:29" in told
    assert REASONS["no_service"].sentence not in told


@pytest.mark.parametrize(
    ("account", "browser", "expected"),
    [
        (None, "ru-RU,ru;q=0.9,en;q=0.8", "ru"),
        (None, "de,uz;q=0.5", "uz"),
        (None, "de", "en"),
        ("uz", "ru", "uz"),
        ("xx", "", "en"),
    ],
)
def test_the_account_chooses_else_the_browser(account, browser, expected) -> None:
    assert words.chosen(account, browser) == expected
