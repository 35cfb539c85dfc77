"""The dashboard's languages: gettext catalogs, and the domain's own sentences in them.

English is what the code says; a catalog that lacks a string shows it in English. Catalogs are made by
`make catalogs`, and a test finds strings that one of them lacks.
"""

import gettext as library
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path

from app.campaigns import sentences
from app.core import links, refusals, validation
from app.core.once import once
from app.core.refusals import Refusal
from app.devices import android_limit, condition, failures, invitation
from app.messages.accepting import suppression
from app.messages.life.sentences import SENTENCES
from app.webhooks import records

LANGUAGES = {"en": "English", "ru": "Русский", "uz": "O\N{MODIFIER LETTER TURNED COMMA}zbekcha"}
DEFAULT = "en"
LOCALE = Path(__file__).parent / "locale"

# `{name}`, and how it is written: `{share:.0%}`.
_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")

# How sentences of the domain write a moment.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")

_language: ContextVar[str] = ContextVar("language", default=DEFAULT)
_zone: ContextVar[tzinfo] = ContextVar("zone", default=UTC)


def marked(text: str) -> str:
    """`text`, noted as one to translate where it is shown."""
    return text


@contextmanager
def speaking(language: str, zone: tzinfo = UTC) -> Iterator[None]:
    """Translate into this language, and tell moments by the clock of this time zone."""
    token, before = _language.set(language if language in LANGUAGES else DEFAULT), _zone.set(zone)
    try:
        yield
    finally:
        _language.reset(token)
        _zone.reset(before)


def language() -> str:
    return _language.get()


@cache
def _catalog(name: str) -> library.NullTranslations:
    return library.translation("smsfleet", LOCALE, [name], fallback=name == DEFAULT)


def gettext(text: str) -> str:
    return _catalog(_language.get()).gettext(text) if text else ""


def ngettext(one: str, many: str, n: int) -> str:
    return _catalog(_language.get()).ngettext(one, many, n)


def chosen(wanted: str | None, accepted: str) -> str:
    """The account's language, else the first of the browser's (`Accept-Language`) that there is."""
    if wanted in LANGUAGES:
        return str(wanted)
    for part in accepted.split(","):
        name = part.partition(";")[0].strip().lower()[:2]
        if name in LANGUAGES:
            return name
    return DEFAULT


def domain_sentences() -> list[str]:
    """Sentences of the domain that pages show, with `{name}` for their parameters."""
    refused = [each.sentence for each in vars(refusals).values() if isinstance(each, Refusal)]
    reasons = [reason.sentence for reason in failures.REASONS.values()]
    found = [
        *refused,
        *reasons,
        *SENTENCES.values(),
        *sentences.SENTENCES.values(),
        *suppression.SENTENCES.values(),
        *validation.SENTENCES,
        *condition.SENTENCES,
        *invitation.SENTENCES,
        android_limit.ADVICE,
        links.ONLY_HERE,
        records.GONE_REASON,
        records.FAILING_REASON,
        records.NEVER_ACCEPTED_REASON,
        *_FIELD_SENTENCES,
    ]
    return list(dict.fromkeys(found))


# What validators of single fields say.
_FIELD_SENTENCES = (
    "The email has already been taken.",
    "The password is incorrect.",
    "The current password field is required.",
    "The phone number has already been taken.",
    "The {name} field must be a valid phone number, with + and the country code.",
    "The {name} field confirmation does not match.",
    "The {name} field must be a valid email address.",
    "The selected {name} is invalid.",
    "This code is invalid, was already used, or has expired.",
    "The {name} field must be a date after or equal to from.",
)


def said(sentence: str) -> str:
    """A sentence of the domain, filled already, in the language and by the clock of the page."""
    return _MOMENT.sub(_by_the_clock, _translated(sentence))


def _by_the_clock(found: re.Match[str]) -> str:
    return datetime.fromisoformat(found[0]).astimezone(_zone.get()).strftime("%Y-%m-%d %H:%M")


def _translated(sentence: str) -> str:
    translated = gettext(sentence)
    if translated != sentence or _language.get() == DEFAULT:
        return translated
    for pattern, original in _patterns():
        if found := pattern.fullmatch(sentence):
            # A parameter may be a sentence of the domain itself.
            values = {
                name: _translated(value) if value.endswith(".") else value for name, value in found.groupdict().items()
            }
            return _filled(gettext(original), values)
    return sentence


def _filled(text: str, values: dict[str, str]) -> str:
    return _PARAMETER.sub(lambda found: values.get(found[1], found[0]), text)


@once
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    found = []
    for sentence in domain_sentences():
        if "{" in sentence:
            seen: set[str] = set()
            parts = _PARAMETER.split(sentence)
            pattern = "".join(re.escape(part) if at % 2 == 0 else _group(part, seen) for at, part in enumerate(parts))
            found.append((re.compile(pattern, re.DOTALL), sentence))
    return sorted(found, key=lambda each: -len(each[1]))


def _group(name: str, seen: set[str]) -> str:
    if name in seen:
        return f"(?P={name})"
    seen.add(name)
    return f"(?P<{name}>.*?)"
