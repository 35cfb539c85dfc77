"""Which texts stop messages, and which only look like it."""

from pathlib import Path

import pytest

from app.optouts.words import BUILT_IN, MAX_LENGTH, Meaning, folded, keywords, may_be

TEXTS = Path(__file__).parents[2] / "data" / "keywords"
STOPS = (TEXTS / "opt-out.txt").read_text().splitlines()
NOT_STOPS = (TEXTS / "none.txt").read_text().splitlines()


@pytest.mark.parametrize("text", STOPS)
def test_a_text_that_is_nothing_but_a_keyword_opts_out(text):
    assert BUILT_IN.meaning(text) is Meaning.OPT_OUT


@pytest.mark.parametrize("text", NOT_STOPS)
def test_a_text_that_says_anything_else_does_not(text):
    assert BUILT_IN.meaning(text) is not Meaning.OPT_OUT


STARTS = ["START", "unstop", "Yes!", "yes.", "opt-in", "Старт", "подписаться", "boshlash", "бошлаш", "Obuna bo'lish",
          "Iniciar", "ALTA", "démarrer", "Starten", "anmelden", "começar", "Başla", "ابدأ", "ابدا"]  # fmt: skip
HELPS = ["HELP", "help?", "Info", "помощь", "Yordam", "ёрдам", "ayuda", "Aide", "HILFE", "ajuda", "YARDIM", "مساعدة"]


@pytest.mark.parametrize("text", STARTS)
def test_words_that_take_it_back(text):
    assert BUILT_IN.meaning(text) is Meaning.OPT_IN


@pytest.mark.parametrize("text", HELPS)
def test_words_that_ask_for_help(text):
    assert BUILT_IN.meaning(text) is Meaning.HELP


@pytest.mark.parametrize("text", ["да", "ja", "oui", "sim", "evet", "نعم", "help me please", "start now", "yes I can"])
def test_what_belongs_to_a_conversation_means_nothing(text):
    assert BUILT_IN.meaning(text) is None


def test_an_account_adds_words_and_replaces_those_that_take_it_back():
    mine = keywords(["Basta!", "Yes"], ["Ja, gerne"])
    assert mine.meaning("basta") is Meaning.OPT_OUT
    assert mine.meaning("stop") is Meaning.OPT_OUT
    assert mine.meaning("YES") is Meaning.OPT_OUT, "its own word goes first"
    assert mine.meaning("ja gerne") is Meaning.OPT_IN
    assert mine.meaning("start") is None
    assert keywords([], []).meaning("start") is None
    assert keywords(["help"], None).meaning("Help") is Meaning.OPT_OUT


def test_no_keyword_means_two_things():
    assert not BUILT_IN.opt_out & BUILT_IN.opt_in
    assert not (BUILT_IN.opt_out | BUILT_IN.opt_in) & BUILT_IN.help
    assert all(BUILT_IN.opt_out | BUILT_IN.opt_in | BUILT_IN.help), "none folds to nothing"


def test_long_texts_are_not_read_as_keywords():
    assert BUILT_IN.meaning("stop " * 6) is Meaning.OPT_OUT
    assert BUILT_IN.meaning("stop " * 7) is None
    assert BUILT_IN.meaning("stop" + "!" * MAX_LENGTH) is None
    assert BUILT_IN.meaning("") is None
    assert folded("?!") == ""
    assert [may_be(text) for text in (None, "", "?", "stop", "x" * (MAX_LENGTH + 1))] == [False] * 3 + [True, False]
