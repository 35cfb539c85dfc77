"""The one place where httpx is imported: what the project uses of it, and a plain client for a few calls."""

from httpx import (
    URL,
    AsyncClient,
    Client,
    HTTPError,
    InvalidURL,
    Request,
    Timeout,
    create_ssl_context,
)

__all__ = [
    "URL",
    "AsyncClient",
    "Client",
    "HTTPError",
    "InvalidURL",
    "Request",
    "Timeout",
    "create_ssl_context",
    "plain_client",
]


def plain_client(*, seconds: float = 5.0) -> Client:
    """A synchronous client for calls to services the operator configured: no redirects, a limit on every wait."""
    return Client(timeout=Timeout(seconds, connect=3.0), follow_redirects=False)
