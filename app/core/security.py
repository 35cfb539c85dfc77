"""Secrets: API tokens as `<id>|<secret>` of which only the secret's SHA-256 is stored, and device tokens."""

import hashlib
import hmac
import re
import secrets

_TOKEN_ID = re.compile(r"[0-9]{1,18}")
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_text(length: int) -> str:
    """Random letters and digits: 21 of them hold 125 bits, 43 hold 256."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def digest(secret: str) -> bytes:
    """SHA-256. Only for secrets that we drew with full entropy, never for passwords."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def parse_token(plain: str) -> tuple[int, bytes] | None:
    """Id and secret digest of a token's plaintext, None where it has not the form of one."""
    number, separator, secret = plain.partition("|")
    if not separator or not secret or not _TOKEN_ID.fullmatch(number):
        return None
    return int(number), digest(secret)


def bearer(authorization: str | None) -> str | None:
    """The credentials of an `Authorization: Bearer …` header (RFC 6750), None where there are none."""
    scheme, _, credentials = (authorization or "").partition(" ")
    return credentials.strip() or None if scheme.lower() == "bearer" else None


def same(left: bytes, right: bytes) -> bool:
    return hmac.compare_digest(left, right)
