"""Addresses of this installation, for links in answers."""

import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from app.core.bodies import header
from app.core.settings import get_settings, is_loopback

# What stands for the address of this installation in the examples of schemas.
EXAMPLE_URL = "https://sms.example.com"
_HOST = re.compile(r"(?P<name>[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def base_url(scope: Any) -> str:
    """Scheme and host without a slash at the end: `PUBLIC_URL`, else those of the request with this ASGI scope.

    A host that is malformed, or not among `ALLOWED_HOSTS` where these are set, gives way to the address called.
    """
    if public := get_settings().public_url:
        return str(public).rstrip("/")
    host = header(scope, b"host")
    if not host or not _is_allowed(host):
        address, port = scope.get("server") or ("localhost", None)
        host = f"[{address}]" if ":" in address else address
        host = f"{host}:{port}" if port else host
    return f"{scope['scheme']}://{host}"


def _is_allowed(host: str) -> bool:
    found = _HOST.fullmatch(host)
    allowed = get_settings().allowed_hosts
    return found is not None and (not allowed or found["name"].lower() in {name.lower() for name in allowed})


def is_of_local_network(host: str) -> bool:
    """Whether no public authority gives a certificate to this name or address."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa"))


ONLY_HERE = (
    "Phones cannot reach {url}: {host} is valid only on this machine. Start smsfleet with `smsfleet up --lan`, or set"
    " SMSFLEET_PUBLIC_URL to the address at which phones reach it."
)


def why_no_phone_reaches(url: str) -> str | None:
    """A sentence where the text of an address shows that it leads nowhere from another machine."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if is_loopback(host) or (address and (address.is_unspecified or address.is_link_local)):
        return ONLY_HERE.format(url=url, host=host)
    return None
