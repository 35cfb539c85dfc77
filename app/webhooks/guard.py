"""Keeps webhooks away from what is not on the public internet.

Twice: when a URL is registered, by what its text shows and without DNS; and at every connect, by the address that is
about to be connected to, whatever the name resolved to before. The second is the guard, the first is an early answer.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, Field

from app.core.http_client import InvalidURL, Request
from app.core.settings import get_settings
from app.core.validation import fault

MAX_URL_LENGTH = 2000
Address = IPv4Address | IPv6Address

# Letters, digits and hyphens, and a last label that begins with a letter: can be no spelling of an address.
_PLAIN = re.compile(
    r"https?://(?=[a-z0-9.-]{1,253}(?:[:/]|\Z))(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,10}(?!local)[a-z][a-z-]{0,61}[a-z](?::[1-9][0-9]{0,3})?"
    r"(?:/[!$-;=@-\[\]_a-z~]*(?:\?[!$-;=?-\[\]_a-z~]*)?)?",
    re.IGNORECASE,
)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]|[^\S ]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_REFUSED = "The {name} field must not point to a host that this installation refuses."
_AUTHORITY_END = re.compile(r"[/?#]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_PORTS = {"http": 80, "https": 443}

# Routable by name only: Python's `is_global` takes these, or takes some of them in some versions.
_NEVER_V4 = tuple(
    map(IPv4Network, ("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24"))
)
_UNICAST_V6 = IPv6Network("2000::/3")
_NEVER_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20", "2620:4f:8000::/48")))
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_ISATAP = {0x00005EFE, 0x02005EFE}


class ForbiddenAddressError(OSError):
    """Raised in place of connecting."""


class RefusedHostError(ForbiddenAddressError):
    """The operator's own list forbids it."""


@lru_cache(4096)
def check_address(address: str) -> None:
    """Raises `ForbiddenAddressError` unless `address`, as a resolver spells it, may be connected to."""
    found = _parse_address(address.partition("%")[0])
    if found is not None and _is_refused(found):
        raise RefusedHostError(f"The address {address} is refused by this installation.")
    if found is None or not _may_connect(found):
        raise ForbiddenAddressError(f"The address {address} is not on the public internet.")


def _parse_address(text: str) -> Address | None:
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return None


def _may_connect(address: Address) -> bool:
    return (_is_allowed(address) or _is_open(_end(address))) and all(_is_open(one) for one in _tunnelled(address))


def check_host_name(host: str) -> None:
    """Raises `RefusedHostError` if the operator refuses the name `host`, or one that it lies under."""
    refused = get_settings().webhook_refused_hosts
    if not refused:
        return
    names = {one for one in refused if isinstance(one, str)}
    labels = host.removesuffix(".").split(".")
    if any(".".join(labels[start:]) in names for start in range(len(labels))):
        raise RefusedHostError(f"The host {host} is refused by this installation.")


def _is_refused(address: Address) -> bool:
    networks = [one for one in get_settings().webhook_refused_hosts if not isinstance(one, str)]
    ends = (address, _end(address), *_tunnelled(address))
    return any(one.version == network.version and one in network for network in networks for one in ends)


def is_allowed(address: str) -> bool:
    """Whether the operator allowed the network of `address`."""
    found = _parse_address(address.partition("%")[0])
    return found is not None and (_is_allowed(found) or _is_allowed(_end(found)))


def _is_open(address: Address) -> bool:
    if _is_allowed(address):
        return True
    if isinstance(address, IPv4Address):
        return address.is_global and not (
            address.is_multicast or address.is_reserved or any(address in network for network in _NEVER_V4)
        )
    return address.is_global and address in _UNICAST_V6 and not any(address in network for network in _NEVER_V6)


def _is_allowed(address: Address) -> bool:
    networks = get_settings().webhook_allowed_networks
    return any(address.version == network.version and address in network for network in networks)


def _end(address: Address) -> Address:
    """Where packets to `address` end: the IPv4 address that a mapped, NAT64 or 6to4 one stands for, else itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    return address


def _tunnelled(address: Address) -> list[IPv4Address]:
    """The IPv4 address in an interface id of ISATAP's form. Only some routers look at it, so it never stands alone."""
    number = int(address)
    isatap = isinstance(address, IPv6Address) and (number >> 32) & 0xFFFFFFFF in _ISATAP
    return [IPv4Address(number & 0xFFFFFFFF)] if isatap else []


def check_url_text(url: str) -> None:
    """Raises `ValueError` with a sentence where the text of `url` shows that it cannot be a webhook's.

    Judged are scheme, credentials, and hosts that are addresses in any spelling or `localhost`; names are not resolved.
    The sentence speaks of the field as `{name}`.
    """
    if len(url) <= MAX_URL_LENGTH and not get_settings().webhook_refused_hosts and _PLAIN.fullmatch(url):
        return
    _check_carefully(url)


def _checked(url: str) -> str:
    try:
        check_url_text(url)
    except ValueError as error:
        raise fault(str(error)) from None
    return url


# The one type of every field that takes a webhook's URL.
ValidWebhookUrl = Annotated[str, Field(max_length=MAX_URL_LENGTH), AfterValidator(_checked)]


def _check_carefully(url: str) -> None:
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"The {{name}} field must not be greater than {MAX_URL_LENGTH} characters.")
    if _UNSAFE.search(url):
        raise ValueError("The {name} field must not contain spaces, backslashes or control characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = Request("POST", url).url.raw_host.decode("ascii").lower()
    except (ValueError, InvalidURL, UnicodeError):
        raise ValueError("The {name} field must be a valid URL.") from None
    if parts.scheme not in _PORTS or not url.lower().startswith(f"{parts.scheme}://"):
        raise ValueError("The {name} field must be an http or https URL.")
    if "@" in parts.netloc:
        raise ValueError("The {name} field must not contain a user name or password.")
    if port == 0 or not host:
        raise ValueError("The {name} field must be a valid URL.")
    try:
        check_host_name(host)
    except RefusedHostError:
        raise ValueError(_REFUSED) from None
    _check_host(host)


def _check_host(host: str) -> None:
    if ":" in host or host.startswith("["):
        _check_literal(host.strip("[]"))
        return
    host = host.removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # WHATWG: a host whose last label is a number is an IPv4 address, or nothing.
        if _parse_address(host) is None:
            raise ValueError("The {name} field must spell its address as four plain decimal numbers.")
        _check_literal(host)
    elif host == "localhost" or host.endswith(".localhost"):
        _check_literal("127.0.0.1")
    elif len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):  # noqa: PLR2004 - DNS
        raise ValueError("The {name} field must have a valid host name.")


def _check_literal(address: str) -> None:
    try:
        check_address(address)
    except RefusedHostError:
        raise ValueError(_REFUSED) from None
    except ForbiddenAddressError:
        raise ValueError("The {name} field must not point to a private, local or reserved address.") from None


def host_and_target(url: str) -> tuple[str, str, int, str]:
    """Of a judged URL scheme, host, port, and what the request line says.

    That is what stands behind the host, byte for byte, without a fragment. Only what is not ASCII is encoded: as it
    stands, it cannot be said there.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    end = _AUTHORITY_END.search(rest)
    target = rest[end.start() :].partition("#")[0] if end else ""
    if not target.startswith("/"):
        target = "/" + target
    host = Request("POST", url).url.raw_host.decode("ascii").lower()
    encoded = target if target.isascii() else _NOT_ASCII.sub(lambda found: quote(found[0]), target)
    return scheme, host, urlsplit(url).port or _PORTS[scheme], encoded


def origin_of(url: str) -> str:
    """`scheme://host:port` of a judged URL, in one spelling: what room and back-off are counted by."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii():
        host = Request("POST", url).url.raw_host.decode("ascii")
    host = host.removesuffix(".")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port or _PORTS[parts.scheme]}"


def host_of(origin: str) -> str:
    return origin.partition("://")[2].rpartition(":")[0]
