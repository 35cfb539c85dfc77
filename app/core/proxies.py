"""Whose word about a client's address is taken: that of proxies the operator named (`TRUSTED_PROXIES`), nobody else's.

uvicorn's own switch for this trusts loopback unless told otherwise, so its processes run with `--no-proxy-headers`.
"""

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.core.bodies import header
from app.core.settings import get_settings

log = structlog.get_logger(__name__)

_SAID = b"x-forwarded-for"


class TrustedProxies:
    """Gives what is inside the address and scheme of the client that a named proxy speaks for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        networks = [str(network) for network in get_settings().trusted_proxies]
        self._trusting = ProxyHeadersMiddleware(app, networks)  # type: ignore[arg-type]
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or header(scope, _SAID) is None:
            await self._app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else None
        if peer in self._trusting.trusted_hosts:
            await self._trusting(scope, receive, send)  # type: ignore[arg-type]
            return
        if not self._warned:
            self._warned = True
            log.warning(
                "X-Forwarded-For of a proxy that is not named is ignored: its clients all count as one, and share their"
                " limits. If it is yours, set SMSFLEET_TRUSTED_PROXIES",
                proxy=peer,
            )
        await self._app(scope, receive, send)
