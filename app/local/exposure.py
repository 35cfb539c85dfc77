"""What the start says of a gateway that others can reach, and at which address phones reach it."""

import socket
from collections.abc import Iterator

from app.core.exposure import registration, webhook_reach
from app.core.settings import Settings
from app.local.errors import LocalError

# Kept for documentation, so nobody has it; nothing is sent there.
_SOMEWHERE = ("192.0.2.1", 9)


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
