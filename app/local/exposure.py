"""Who can reach this gateway, and what that means for registration, webhooks and phones; in words for its operator."""

import socket
from collections.abc import Iterator
from ipaddress import ip_network

from app.core.settings import Settings
from app.local.errors import LocalError

_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
# Kept for documentation, so nobody has it; nothing is sent there.
_SOMEWHERE = ("192.0.2.1", 9)


def registration(settings: Settings) -> str:
    """Who may make an account."""
    if settings.registration == "closed":
        return "closed; create accounts with `smsfleet user create`"
    if settings.registration == "open":
        return "open to everyone who can reach this gateway (SMSFLEET_REGISTRATION)"
    if settings.is_local:
        return "open, because only programs on this machine can reach the gateway"
    return "open until the first account exists, then closed; SMSFLEET_REGISTRATION=open keeps it open"


def webhook_reach(settings: Settings) -> str:
    """Whether users' webhooks reach programs of this machine."""
    if not reaches_loopback(settings):
        return "to public addresses only; SMSFLEET_WEBHOOK_ALLOWED_NETWORKS allows others"
    if settings.is_local:
        return "to this machine as well, because only its own programs can reach the gateway"
    return "to this machine as well (SMSFLEET_WEBHOOK_ALLOWED_NETWORKS): every account can reach what listens here"


def reaches_loopback(settings: Settings) -> bool:
    return any(
        ours.version == named.version and ours.overlaps(named)
        for ours in _LOOPBACK
        for named in settings.webhook_allowed_networks
    )


def statements(settings: Settings) -> Iterator[str]:
    """What the start says of a gateway that is not for this machine alone."""
    if not settings.is_local:
        yield f"Registration is {registration(settings)}"
        yield f"Webhooks go {webhook_reach(settings)}"
    if settings.public_url:
        yield f"Phones reach it at {address_for_phones(settings)}; `smsfleet phones pair` pairs one"


def address_for_phones(settings: Settings) -> str:
    return str(settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")


def lan_address() -> str:
    """The address of this machine in its network: the one by which it would send to elsewhere."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_SOMEWHERE)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise LocalError(
            f"cannot determine this machine's network address ({error.strerror}): connect it to the phones' network,"
            " or set SMSFLEET_PUBLIC_URL to the address at which phones reach it"
        ) from None
