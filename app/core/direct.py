"""Calls that are answered in plain ASGI, in front of the framework, for those of which there are thousands a second.

A feature hands over its calls; what is none of them goes on to the application. For the documents it describes them as
routes of a router `described`, beside its `router`; those functions are never called.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import MethodNotAllowed

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """An endpoint: `path` may end in one `{name}`, which stands for the rest of a path.

    `alone` says that no route of the framework has this path, so that its other methods are refused here.
    """

    method: str
    path: str
    handler: Handler
    alone: bool = True

    @property
    def prefix(self) -> str | None:
        """The path up to its `{name}`, None where it has none."""
        start, brace, _ = self.path.partition("{")
        return start if brace else None


class DirectCalls:
    """Answers the calls handed over and passes every other request on to `app`."""

    def __init__(self, app: ASGIApp, calls: Iterable[Call]) -> None:
        self._app = app
        self.calls = tuple(calls)
        self._exact = {(call.method, call.path): call for call in self.calls if call.prefix is None}
        self._prefixed = [(call.prefix, call) for call in self.calls if call.prefix is not None]
        self._methods: dict[str, set[str]] = {}
        for call in self.calls:
            self._methods.setdefault(call.path, set()).add(call.method)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = self._call(scope["method"], scope["path"])
        if call is None:
            self._refuse_other_methods(scope["method"], scope["path"])
            scope["direct_methods"] = self._methods.get(scope["path"], ())
            await self._app(scope, receive, send)
            return
        scope["route_template"] = call.path
        await call.handler(scope, receive, send)

    def _call(self, method: str, path: str) -> Call | None:
        found = self._exact.get((method, path))
        if found is None:
            found = next((c for prefix, c in self._prefixed if c.method == method and path.startswith(prefix)), None)
        return found

    def _refuse_other_methods(self, method: str, path: str) -> None:
        known = {call.method for call in self.calls if call.alone and call.path == path}
        known |= {call.method for prefix, call in self._prefixed if call.alone and path.startswith(prefix)}
        if known:
            raise MethodNotAllowed(method, path, (["GET", "HEAD"] if "GET" in known else []) + sorted(known - {"GET"}))
