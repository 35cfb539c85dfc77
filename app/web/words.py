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
from app.webhooks import client, records

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
        *client.SENTENCES,
        records.GAVE_UP,
        records.GONE_REASON,
        records.FAILING_REASON,
        records.NEVER_ACCEPTED_REASON,
        *_FIELD_SENTENCES,
        *_ROW_SENTENCES,
        *_FILE_SENTENCES,
        *_CALL_SENTENCES,
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
    "The {name} field contains invalid characters.",
    "The {name} field must have 0-4 decimal places.",
    "The {name} field must be a time like 09:00.",
    "The {name} field must be a time zone like Asia/Tashkent.",
    "The {name} field must contain letters or digits.",
    "The {name} field must be a date after now.",
    "The {name} field must be more than 0 and at most 1.",
    "The {name} field is required when group ids is not present.",
    "The {name} field cannot be given together with a template.",
    "The {name} field cannot be changed once the campaign has started.",
    "The start at field is required once the campaign is scheduled.",
    "The {name} field cannot be changed when the campaign is over.",
    "The {name} field must not be a keyword itself.",
    "The opt in words field must not have words that opt out.",
    "The send at field cannot be changed together with the status.",
    "The send at field must be a date within the next year.",
    "The send at field must be a date in the future; if it has no offset, it is read as UTC.",
    "The search field needs a date range of at most {days} days, given by from and to.",
    "There is no {name} field here.",
    "There is no {name} field here: use send_at to send later.",
    "The name has already been taken.",
    "The code is wrong. Check that the phone's clock is right.",
    "No mail server is configured; enable device events as well, so that your webhook receives the alert.",
    "The canary needs delivered_share or sent_share, and not both.",
    "The message field is required; nothing is left of it once it is filled.",
    "The message field is required; {number} has no name to fill it.",
    "The message field must not be greater than {limit} characters; once it is filled it has {n}.",
    "The message field must not be greater than {limit} characters; with the name of {number} it has {n}.",
    "The message field has placeholders that no field fills: {names}.",
    "The message field has placeholders that the recipients have no field for: {names}. They have: {columns}.",
    "A campaign can have at most {limit} recipients.",
    "A campaign's recipients can have at most {limit} fields.",
    "A field's name can have at most {limit} characters.",
    "The fields of a recipient must be an object.",
    "None of the recipients is a valid phone number.",
    "The selected groups have no contacts.",
    "The {name} field must not contain spaces, backslashes or control characters.",
    "The {name} field must be a valid URL.",
    "The {name} field must be an http or https URL.",
    "The {name} field must not contain a user name or password.",
    "The {name} field must spell its address as four plain decimal numbers.",
    "The {name} field must have a valid host name.",
    "The {name} field must not point to a private, local or reserved address.",
    "The {name} field must not point to a host that this installation refuses.",
)

# Why a row of a file, or a recipient, was left out.
_ROW_SENTENCES = (
    "The phone number is empty.",
    "The spreadsheet rounded this number: its last digits are lost. Format the column as text.",
    "The phone number has a decimal fraction.",
    "The phone number contains characters that are not digits.",
    "After + come the country code, which never begins with 0, and 7 to 15 digits in all.",
    "The phone number lacks + and the country code, and the account has no default region.",
    "This is not a complete phone number of {region}: check its length and area code.",
    "{zone} is not a time zone like Asia/Tashkent.",
    "The {name} has more than {limit} characters.",
    "Duplicate of line {line}.",
    "Duplicate of {place}.",
    "The campaign already has this number.",
    "The number was listed before.",
    "Nothing is left of the text once it is filled.",
    "The text is too long once it is filled.",
    "No phone had it in time, or the phone that it was for was removed.",
)

# What is wrong with a file, or with a form as a whole.
_FILE_SENTENCES = (
    "The request body is not a valid form.",
    "The request body has too many fields.",
    "The request body has too many values.",
    "The request body is nested too deeply.",
    "The request body has a field whose name is not valid text.",
    "The file field must be one file.",
    "The file has no rows.",
    "The file must not have more than {limit} rows.",
    "The file is an old .xls workbook or has a password. Save it as .xlsx without one, or as CSV.",
    "The file is not a readable XLSX workbook.",
    "The workbook is too large once it is unpacked.",
    "The workbook has no sheet with rows.",
    "The workbook has a cell of more than {limit} characters.",
    "The sheet has more than {limit} columns.",
    "The sheet has more than {limit} rows.",
    "Line {line} of the file is too long.",
    "Line {line} of the file is not valid UTF-8. Save the file as CSV UTF-8.",
    "Line {line} of the file has more than {limit} columns.",
    "Line {line} of the file has a cell of more than {limit} characters.",
    "A quotation mark that opens in line {line} of the file is never closed.",
    "No column of phone numbers was found in the file. Name it in {parameter}.",
    "The {name} is none of the file's columns: {columns}.",
)

# Why a webhook could not be delivered.
_CALL_SENTENCES = (
    "Not called: too many failed calls to {address} in the last minute.",
    "The address {address} is not on the public internet.",
    "The address {address} is refused by this installation.",
    "The call failed: {kind}.",
    "The headers are too large.",
    "The host {host} is refused by this installation.",
    "The receiver did not answer in time.",
    "The webhook URL was removed or disabled.",
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
