"""The dashboard's languages: nothing of its own is untranslated, and what the domain says is translated too."""

import ast
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp
import pytest

from app.core.numbers import explain_refusal
from app.devices import condition
from app.devices.failures import REASONS
from app.web import catalogs, shown, words
from app.webhooks.client import explained

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


# Where sentences are for other readers: of commands, of the API's documents, of the log, and of phones.
ELSEWHERE = {"checks", "docs", "local", "migrations", "mobile", "web", "cli.py", "commands.py", "features.py"}
# What programs alone are told.
FOR_PROGRAMS = {
    "A code was sent to your address.",
    "API key created. Copy it now — it will not be shown again.",
    "If there is an account with this address, a code was sent to it.",
    "Private token created. Copy it now — it will not be shown again.",
    "Promo code redeemed — Premium activated.",
    "The _method field must be PUT, PATCH or DELETE.",
    "The account is blocked.",
    "The id token field is required: the account has no password; sign in with Google again.",
    "The idempotency key must not be greater than {} characters.",
    "The opt_outs.{} field must be an object or a string.",
    (
        "The request body is JSON, but its Content-Type is application/x-www-form-urlencoded."
        " Send the header Content-Type: application/json."
    ),
    "The request body is not valid JSON.",
    "The request body must be a JSON object.",
    "This is a test from smsfleet.",
    "This is not a valid token of the Google account you sign in with.",
}
SENTENCE = re.compile(r"[A-Z{][^\n]* [^\n]*\.")
PARAMETER = re.compile(r"\{\w*(?::[^}]*)?\}")


def texts_of(node):
    """What code says below `node`: texts, those with values in them as templates; no documentation."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.keyword) and node.arg in {"description", "examples"}:
        return
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from texts_of(child)


def test_every_sentence_of_the_domain_is_known_to_who_translates() -> None:
    app = Path(catalogs.__file__).parents[1]
    paths = [path for path in app.rglob("*.py") if not ELSEWHERE & {*path.relative_to(app).parts}]
    told = {text for path in paths for text in texts_of(ast.parse(path.read_text())) if SENTENCE.fullmatch(text)}
    sentences = words.domain_sentences()
    patterns = [re.compile(".*".join(map(re.escape, PARAMETER.split(each)))) for each in sentences]

    def is_known(text) -> bool:
        part = re.compile(".*".join(map(re.escape, PARAMETER.split(text))))
        filled = PARAMETER.sub("7", text)
        return any(each.fullmatch(filled) for each in patterns) or any(map(part.search, sentences))

    assert len(told) > 150
    assert sorted(text for text in told - FOR_PROGRAMS if not is_known(text)) == []
    assert told >= FOR_PROGRAMS


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


def test_what_is_wrong_with_a_row_is_told_in_the_language_of_the_page() -> None:
    with words.speaking("ru"):
        assert words.said(explain_refusal("9.98901E+11")).startswith("Таблица округлила этот номер")
        assert words.said("Duplicate of line 3.") == "Повтор строки 3."
        names = "The message field has placeholders that the recipients have no field for: {sum}. They have: name."
        assert words.said(names) == "Для этих мест в тексте у получателей нет полей: {sum}. Есть: name."  # noqa: RUF001


def test_why_a_webhook_was_not_delivered_is_told_in_the_language_of_the_page() -> None:
    told, _ = explained(TimeoutError())
    broken, _ = explained(aiohttp.ServerDisconnectedError("Server disconnected"))
    with words.speaking("ru"):
        assert words.said(told) == "Получатель не ответил вовремя."
        assert words.said(broken) == "Получатель разорвал соединение: Server disconnected"


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_how_long_until_then_ends_no_sentence(language) -> None:
    now = datetime.now(UTC)
    with words.speaking(language):
        for seconds in (5, 90, 9000, 900_000):
            assert not shown.after(now + timedelta(seconds=seconds), now).endswith(".")


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
