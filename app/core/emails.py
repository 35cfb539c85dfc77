"""The one spelling under which an e-mail address is found, counted and proven.

People type one address in many ways, and programs disagree about what lower case is: Python and PostgreSQL differ on
`İ`. So both ends of every comparison come from here, and the database only compares what it was given.
"""

import re
import unicodedata

import idna

MAX_LENGTH = 255
_FORM = re.compile(r"[^\s@\"(),:;<>\[\]\\]{1,64}@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9-]{1,63}")


def normalize(address: str) -> str:
    """NFKC, without case, an international domain as its ASCII form. Of what is no address, something that is none."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address.strip()).casefold())
    local, at, domain = folded.rpartition("@")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            return folded
    return f"{local}{at}{domain}"


def is_email(address: str) -> bool:
    """Whether the address, normalized, has the form of one; what cannot be seen in it belongs to none."""
    normalized = normalize(address)
    return (
        normalized.isprintable()
        and address.strip().isprintable()
        and len(normalized) <= MAX_LENGTH
        and _FORM.fullmatch(normalized) is not None
    )
