"""Addresses of this installation, for links in answers."""

from typing import Any

from app.core.bodies import header
from app.core.settings import get_settings


def base_url(scope: Any) -> str:
    """Scheme and host without a slash at the end: `PUBLIC_URL`, else those of the request with this ASGI scope."""
    if public := get_settings().public_url:
        return str(public).rstrip("/")
    host = header(scope, b"host")
    if not host:
        address, port = scope.get("server") or ("localhost", None)
        host = f"{address}:{port}" if port else address
    return f"{scope['scheme']}://{host}"
