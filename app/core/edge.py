"""The outermost part of the HTTP side, in plain ASGI: what every answer has, whoever makes it.

`Edge` wraps everything, the hot calls included: readable paths, HEAD, CORS, request metrics, and an envelope for what
nobody caught. `Bodies` stands before FastAPI: it reads and checks the body, and hands a readable one on as JSON. What
is wrong with a body is told only by the route's own validation, so that 401 and 404 come first.
"""

import json
import re
import time
from collections.abc import Iterable, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import caller, ignored, metrics, tracing
from app.core.bodies import header, is_file, is_json, parse_body, without_blanks
from app.core.errors import AppError, Invalid, RouteNotFound, TooLarge, Unauthenticated, as_app_error
from app.core.reading import (
    BODY_LIMIT,
    LARGE_BODY_LIMIT,
    AccountOf,
    closing,
    is_unread,
    offload,
    read_body,
    read_file,
    release,
)

log = structlog.get_logger(__name__)

Headers = Iterable[tuple[bytes, bytes]]

# What the API answers is for the caller alone, and some of it is a secret shown once.
_NO_STORE = (b"cache-control", b"no-store")
_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_EXPOSED = (b"access-control-expose-headers", b"Retry-After, Allow, X-Ignored-Fields")
_PHONES = "/api/mobile/v1/"
_SLASHES = re.compile("/{2,}")
_SERVER_ERROR = 500
# What stands in for a body that cannot be read: JSON that no request schema takes.
_NO_BODY_THAT_FITS = b'"unreadable"'


async def respond(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Send a whole JSON answer; an empty one (204) has no content type."""
    fixed = _json_headers(body) if body else []
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: AppError) -> None:
    """Send an error in its envelope."""
    headers = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()]
    await respond(send, error.status, json.dumps(error.body(), ensure_ascii=False).encode(), headers)


def _json_headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]


class Edge:
    """Wraps the whole application. Put what has no FastAPI around it inside of this."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        is_api = _tidy_path(scope)
        if is_api and method == "OPTIONS":
            await _preflight(scope, send)
            return
        answer = _Answer(send, is_api=is_api)
        if method == "HEAD":
            # A copy: by its own the server knows that no body may follow.
            scope = {**scope, "method": "GET"}
        began = time.perf_counter()
        try:
            if tracing.is_on():
                await self._traced(scope, receive, answer)
            else:
                await self._serve(scope, receive, answer)
        finally:
            release(scope)
            metrics.observe(method, metrics.route_of(scope), answer.status, time.perf_counter() - began)

    async def _traced(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        with tracing.span(scope["method"], "server", header(scope, b"traceparent")) as span:
            scope["span"] = span
            try:
                await self._serve(scope, receive, answer)
            finally:
                route = metrics.route_of(scope)
                span.rename(f"{scope['method']} {route}")
                span.note({"http.route": route, "http.request.method": scope["method"]})
                span.note({"http.response.status_code": answer.status})

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            if "\0" in scope["path"]:
                raise RouteNotFound(scope["path"].replace("\0", ""))  # noqa: TRY301 - one way out for all errors
            scope["whole_query"] = scope["query_string"]
            scope["query_string"] = without_blanks(scope["query_string"])
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            return
        except Exception as error:
            if not await self._refused(scope, receive, answer, error):
                raise

    async def _refused(self, scope: Scope, receive: Receive, answer: "_Answer", error: Exception) -> bool:
        """Answer with the error; False where part of another answer is out already.

        A function of its own: kept by a variable of a frame that its traceback names, an error would stay, and with it
        all that the request holds, until the garbage collector comes.
        """
        told = as_app_error(error)
        if told.status >= _SERVER_ERROR and told is not error:
            _log_failure(scope, error, told)
        if answer.status >= _SERVER_ERROR:  # the framework inside has answered
            return True
        if answer.status:
            return False
        await respond_error(closing(receive, answer) if is_unread(scope) else answer, told)
        return True


def _log_failure(scope: Scope, error: Exception, told: AppError) -> None:
    where = {"method": scope["method"], "route": metrics.route_of(scope), "status": told.status}
    if told.status == _SERVER_ERROR:
        log.error("request failed", **where, exc_info=error)
    else:
        # Of these errors the database's own words hold no texts and numbers.
        log.warning("request refused", **where, error=error)


class _Answer:
    """`send` of one request, with the headers every answer has; remembers the status."""

    def __init__(self, send: Send, *, is_api: bool) -> None:
        self._send = send
        self._is_api = is_api
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._is_api:
                headers = message["headers"] = [*message.get("headers", ()), _ANY_ORIGIN, _EXPOSED]
                if _NO_STORE[0] not in [name for name, _ in headers]:
                    headers.append(_NO_STORE)
        await self._send(message)


def _tidy_path(scope: MutableMapping[str, Any]) -> bool:
    """Drop what users type at the end of a base address; whether the path belongs to the API."""
    path: str = scope["path"]
    if not path.startswith(("/api/", "//")):
        return path == "/api"
    if "//" in path:
        single = _SLASHES.sub("/", path)
        if single.startswith(_PHONES):
            path = scope["path"] = single
    if path.endswith("/"):
        path = scope["path"] = path.rstrip("/") or "/"
    return path == "/api" or path.startswith("/api/")


async def _preflight(scope: Scope, send: Send) -> None:
    # Browsers do not count Authorization as part of "*", so what they ask for is named back to them.
    asked = header(scope, b"access-control-request-headers") or "*"
    headers = [
        _ANY_ORIGIN,
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"access-control-allow-headers", asked.encode("latin-1")),
        (b"access-control-max-age", b"86400"),
        (b"vary", b"Access-Control-Request-Headers"),
    ]
    await respond(send, 204, b"", headers)


class Bodies:
    """Stands before FastAPI and reads the body. Sets `scope["state"]`:

    `raw_body` and `content_type`, as they came; `body_error`, why no value can be read from them. A large body is read
    by its route (`dependencies.Large`), which knows by then who sends it. Where a route takes files, `file` is the body
    of a request with one, and of any form, else None; `raw_body` is empty then.
    """

    def __init__(self, app: ASGIApp, account_of: AccountOf, large: re.Pattern[str], files: re.Pattern[str]) -> None:
        self._app = app
        self._account_of = account_of
        self._large, self._files = large, files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            caller.begin(caller.Caller("visitor", scope["client"][0] if scope.get("client") else None))
        if scope["type"] != "http" or scope["method"] not in {"POST", "PUT", "PATCH", "DELETE"}:
            await self._app(scope, receive, send)
            return
        takes_files = self._files.fullmatch(scope["path"]) is not None
        is_large = takes_files or self._large.fullmatch(scope["path"]) is not None
        content_type = header(scope, b"content-type")
        raw, file, unread = b"", None, None
        try:
            if takes_files and is_file(content_type):
                file = await read_file(scope, receive, self._account_of)
            else:
                raw = await read_body(scope, receive, self._account_of, LARGE_BODY_LIMIT if is_large else BODY_LIMIT)
        except Unauthenticated:
            # The route says what it says to strangers, and to whom it lets in that this is too much.
            unread, send = TooLarge(), closing(receive, send)
        except AppError as error:
            await respond_error(closing(receive, send), error)
            return
        state = scope.setdefault("state", {})
        state.update(raw_body=raw, file=file, content_type=content_type, body_error=unread)
        body, value = _NO_BODY_THAT_FITS, None
        if not is_large and unread is None:
            try:
                value = await offload(partial(parse_body, content_type=content_type), raw)
                body = raw if raw.strip() and is_json(content_type) else json.dumps(value).encode()
            except AppError as error:
                value, state["body_error"] = None, error.with_traceback(None)  # which names this frame, and so itself
        try:
            scope["method"] = _method(scope, value)
        except AppError as error:
            await respond_error(closing(receive, send) if unread else send, error)
            return
        scope["headers"] = [
            *(pair for pair in scope["headers"] if pair[0] not in {b"content-type", b"content-length"}),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await self._app(scope, _replay(body, receive), _naming(ignored.collect(), send))


_OVERRIDES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def _method(scope: Scope, value: Any) -> str:
    """The method that a POST stands for, where its client can send no other: only ever one that changes something.

    It decides which route is asked, whose own checks follow. Tokens come in a header that no other site's form can set.
    """
    method: str = scope["method"]
    if method != "POST" or not scope["path"].startswith("/api/") or scope["path"].startswith(_PHONES):
        return method
    asked: Any = header(scope, b"x-http-method-override")
    if asked is None and isinstance(value, dict):
        asked = value.get("_method")
    if asked is None and b"_method=" in scope["query_string"]:
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("_method")
    if asked is None:
        return method
    if not isinstance(asked, str) or asked.strip().upper() not in _OVERRIDES:
        raise Invalid({"_method": ["The _method field must be PUT, PATCH or DELETE."]})
    return asked.strip().upper()


def _naming(fields: list[str], send: Send) -> Send:
    """`send`, which names the fields that were found to be ignored by then."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start" and fields:
            message["headers"] = [*message.get("headers", ()), *ignored.headers(fields)]
        await send(message)

    return answer


def _replay(body: bytes, receive: Receive) -> Receive:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replay() -> Message:
        return next(messages, None) or await receive()

    return replay
