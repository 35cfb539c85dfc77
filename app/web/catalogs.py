"""For developers: `python -m app.web.catalogs` brings the catalogs in line with what code and templates say, and
compiles them. What it adds is untranslated until somebody translates it.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from app.web.words import DEFAULT, LANGUAGES, LOCALE, domain_sentences

HERE = Path(__file__).parent
_METHODS = [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")]
_OPTIONS = {"templates/**.html": {"newstyle_gettext": "true", "trimmed": "false"}}
_KEYWORDS = {"_": None, "gettext": None, "marked": None}


def translated() -> list[str]:
    """The languages that have a catalog."""
    return [name for name in LANGUAGES if name != DEFAULT]


def own_strings() -> Iterator[str]:
    """Every string that code and templates of the dashboard show."""
    for _, _, text, _, _ in extract_from_dir(HERE, _METHODS, _OPTIONS, keywords=_KEYWORDS):
        yield str(text)


def template() -> Catalog:
    made = Catalog(project="smsfleet", fuzzy=False)
    for text in (*own_strings(), *domain_sentences()):
        made.add(text)
    return made


def path(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / "smsfleet.po"


def load(language: str) -> Catalog:
    with path(language).open("rb") as file:
        return read_po(file, locale=language)


def compiled(catalog: Catalog) -> bytes:
    written = io.BytesIO()
    write_mo(written, catalog)
    return written.getvalue()


def main() -> None:
    wanted = template()
    for language in translated():
        place = path(language)
        place.parent.mkdir(parents=True, exist_ok=True)
        catalog = load(language) if place.exists() else Catalog(locale=language, project="smsfleet", fuzzy=False)
        catalog.update(wanted, no_fuzzy_matching=True)
        catalog.obsolete.clear()
        with place.open("wb") as file:
            write_po(file, catalog, width=120, omit_header=False, sort_output=True, no_location=True)
        place.with_suffix(".mo").write_bytes(compiled(catalog))
        missing = [message.id for message in catalog if message.id and not message.string]
        sys.stdout.write(f"{language}: {len(catalog)} strings, {len(missing)} untranslated\n")


if __name__ == "__main__":
    main()
