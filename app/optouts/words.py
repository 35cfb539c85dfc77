"""Words by which somebody stops messages, takes that back, or asks for help, in nine languages.

A text counts that is nothing but such words: letter case, blanks, punctuation, symbols and diacritics aside.
"""

# ruff: noqa: RUF001 - letters of several scripts are what this is about

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

# Longer texts are no keyword, whatever is in them.
MAX_LENGTH = 80
MAX_WORDS = 6


class Meaning(StrEnum):
    """What a text asks for."""

    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"
    HELP = "help"


# As people write them; `folded` makes them alike.
# fmt: off
_OPT_OUT = (
    # English
    "stop", "stop all", "stop it", "stop sms", "stop texts", "stop messages", "unsubscribe", "unsubscribe me", "unsub",
    "cancel", "end", "quit", "revoke", "opt out", "remove me",
    # Russian
    "стоп", "стоп все", "стоп смс", "стоп рассылка", "отписка", "отписаться", "отпиши", "отпишите", "отпиши меня",
    "отпишите меня", "отказ", "отказаться", "отказаться от рассылки", "отказ от рассылки", "отмена", "отменить",
    "отмена подписки", "прекратить", "прекратите", "хватит", "выход", "конец", "не беспокоить", "не беспокойте",
    # Uzbek, in Latin and in Cyrillic letters
    "toʻxtat", "toʻxtating", "toʻxtatish", "toʻxta", "bekor", "bekor qil", "bekor qiling", "bekor qilish",
    "obunani bekor qilish", "obunani bekor qiling", "obunadan chiqish", "rad etish", "rad etaman", "chiqish",
    "tugatish",
    "тўхтат", "тўхтатинг", "тўхтатиш", "тўхта", "бекор", "бекор қил", "бекор қилинг", "бекор қилиш",
    "обунани бекор қилиш", "обунани бекор қилинг", "обунадан чиқиш", "рад этиш", "рад этаман", "чиқиш", "тугатиш",
    # Spanish
    "alto", "baja", "dar de baja", "darme de baja", "cancelar", "cancelar suscripción", "detener", "parar", "salir",
    "fin", "anular", "desuscribir", "desuscribirme", "desuscribirse", "no más", "no más mensajes",
    # French
    "arrêt", "arrêter", "arrêtez", "désabonner", "désabonnement", "me désabonner", "se désabonner", "désinscription",
    "désinscrire", "me désinscrire", "annuler", "résilier", "quitter",
    # German
    "stopp", "abmelden", "abmeldung", "abbestellen", "austragen", "beenden", "ende", "kündigen", "kuendigen",
    "widerruf", "widerrufen", "abbrechen", "keine sms mehr",
    # Portuguese
    "pare", "sair", "fim", "remover", "descadastrar", "descadastre", "cancelar inscrição", "cancelar assinatura",
    "desinscrever", "encerrar", "não enviar mais",
    # Turkish
    "dur", "durdur", "iptal", "iptal et", "ret", "reddet", "çık", "çıkış", "bitir", "abonelikten çık", "listeden çık",
    "istemiyorum",
    # Arabic
    "توقف", "إيقاف", "أوقف", "قف", "ستوب", "إلغاء", "إلغاء الاشتراك", "الغي الاشتراك", "إنهاء", "خروج",
    "لا أريد", "لا ترسل",
)
# Words for "yes" in other languages than English are part of too many conversations.
_OPT_IN = (
    "start", "unstop", "yes", "opt in", "subscribe", "resubscribe", "resume",
    "старт", "подписаться", "возобновить", "boshlash", "obuna boʻlish", "бошлаш", "обуна бўлиш",
    "iniciar", "alta", "comenzar", "démarrer", "reprendre", "starten", "anmelden", "começar", "voltar",
    "başla", "başlat", "ابدأ", "بدء", "اشتراك",
)
_HELP = (
    "help", "info", "помощь", "справка", "инфо", "yordam", "ёрдам", "ayuda", "aide", "hilfe", "ajuda", "yardım",
    "مساعدة",
)
# fmt: on

_WORD = re.compile(r"[^\W_]+")
# What is left of two ways to write a letter once its marks are gone: the dotless i; letters of Uzbek that keyboards for
# Russian lack; endings of Arabic words.
_ALIKE = str.maketrans({"ı": "i", "қ": "к", "ҳ": "х", "ғ": "г", "ى": "ي", "ة": "ه", "ٱ": "ا"})


def _words(text: str) -> list[str]:
    """The words of a text, without case, diacritics, apostrophes and signs between or within them."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    # Modifier letters are the apostrophes of Uzbek and the stretching of Arabic.
    bare = "".join(
        each
        for each in apart
        if unicodedata.category(each) not in {"Mn", "Me", "Cf", "Lm"}
        and each not in "'`\N{RIGHT SINGLE QUOTATION MARK}‘"
    )
    return _WORD.findall(bare.translate(_ALIKE))


def folded(text: str) -> str:
    """A text as keywords are compared: its words joined. Empty where there are none."""
    return "".join(_words(text))


@dataclass(frozen=True, slots=True)
class Keywords:
    """Folded words by meaning. An account has words of its own."""

    opt_out: frozenset[str]
    opt_in: frozenset[str]
    help: frozenset[str]

    def meaning(self, text: str) -> Meaning | None:
        """What a text asks for that is nothing but keywords of one meaning; None for any other."""
        if len(text) > MAX_LENGTH:
            return None
        words = _words(text)
        if not 0 < len(words) <= MAX_WORDS:
            return None
        whole = "".join(words)
        for meaning, known in (
            (Meaning.OPT_OUT, self.opt_out),
            (Meaning.OPT_IN, self.opt_in),
            (Meaning.HELP, self.help),
        ):
            if whole in known or known.issuperset(words):
                return meaning
        return None


def _all(words: Collection[str]) -> frozenset[str]:
    return frozenset(map(folded, words))


BUILT_IN = Keywords(_all(_OPT_OUT), _all(_OPT_IN), _all(_HELP))


def keywords(opt_out: Collection[str], opt_in: Collection[str] | None) -> Keywords:
    """The keywords of an account: its words to opt out are added, its words to opt in replace the built-in ones."""
    mine = BUILT_IN.opt_in if opt_in is None else _all(opt_in)
    return Keywords(BUILT_IN.opt_out | _all(opt_out), mine - _all(opt_out), BUILT_IN.help - _all(opt_out))


def may_be(text: str | None) -> bool:
    """Whether it is worth looking up an account's words for this text."""
    return text is not None and len(text) <= MAX_LENGTH and 0 < len(_words(text)) <= MAX_WORDS
