"""The hot calls, in plain ASGI: accept one message, a phone's pull, a phone's report; its hooks and its event streams.

Concurrent calls of one kind share a transaction (`core.batching`). Everything else goes on to FastAPI.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core import ignored
from app.core.batching import Batcher
from app.core.bodies import READ_ASIDE, aside, header, parse_body
from app.core.database import transaction
from app.core.edge import respond
from app.core.errors import AppError, BadRequest, MethodNotAllowed, Unauthenticated
from app.core.reading import LARGE_BODY_LIMIT, AccountOf, read_body
from app.core.security import bearer, digest, parse_token
from app.core.validation import read
from app.devices import hooked, presence, versions
from app.devices.askers import HOOKS
from app.devices.streams import Streams
from app.messages import inbox
from app.messages.accepting import idempotency, intake
from app.messages.dispatch import handout
from app.messages.life import reports
from app.messages.schemas import SmsDraft
from app.mobile import events, wire

PHONES = "/api/mobile/v1"
MOST_REPORTS_AT_ONCE = 500

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class HotCalls:
    """Answers the hot calls itself and hands every other request to `app`."""

    def __init__(self, app: ASGIApp, streams: Streams, account_of: AccountOf) -> None:
        self._app = app
        self._account_of = account_of
        self._streams = streams
        self._accept = Batcher("accept", intake.accept, intake.is_one_statement)
        self._pull = Batcher("pull", handout.hand_out)
        self._report = Batcher("report", reports.record, size=lambda item: len(item.reports))
        self._receive = Batcher("receive", inbox.receive)
        # Apart, so that who posts a login code waits for nobody's pictures; and one after the other, since to read one
        # takes all of a processor.
        self._large = ThreadPoolExecutor(1, thread_name_prefix="read large")
        self._receive_large = Batcher("receive large", inbox.receive, size=inbox.Post.size)
        self._open = Batcher("open", presence.stream_opened)
        self._handlers: dict[tuple[str, str], Handler] = {
            ("POST", "/api/sms"): self._send,
            ("GET", f"{PHONES}/message"): self._messages,
            ("GET", f"{PHONES}/messages"): self._messages,
            ("PATCH", f"{PHONES}/message"): self._reports,
            ("PATCH", f"{PHONES}/messages"): self._reports,
            ("GET", f"{PHONES}/events"): self._events,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler, template = self._handler(scope) if scope["type"] == "http" else (None, "")
        if handler is None:
            if scope["type"] == "http":
                self._refuse_other_methods(scope["method"], scope["path"])
            await self._app(scope, receive, send)
            return
        scope["route_template"] = template
        await handler(scope, receive, send)

    def _handler(self, scope: Scope) -> tuple[Handler | None, str]:
        path = scope["path"]
        if scope["method"] == "POST" and path.startswith(HOOKS):
            return self._hook, f"{HOOKS}{{secret}}"
        return self._handlers.get((scope["method"], path)), path

    def _refuse_other_methods(self, method: str, path: str) -> None:
        """405 at the paths that are answered here alone."""
        known = {"POST"} if path.startswith(HOOKS) else {m for m, p in self._handlers if p == path}
        if known and path.startswith((HOOKS, PHONES)):
            raise MethodNotAllowed(method, path, (["GET", "HEAD"] if "GET" in known else []) + sorted(known - {"GET"}))

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_body(scope, receive, self._account_of)
        token = bearer(header(scope, b"authorization"))
        key = header(scope, b"idempotency-key")
        unread_fields = ignored.collect()
        item = intake.Send(
            credentials=parse_token(token) if token else None,
            draft=_draft(raw, header(scope, b"content-type"), key),
            idempotency_key=key or None,
            request_hash=hashlib.sha256(raw).digest() if key else b"",
        )
        data = await self._accept.submit(item)
        body = to_json({"success": True, "message": "SMS queued for sending", "data": data})
        await respond(send, 201, body, ignored.headers(unread_fields))

    async def _messages(self, scope: Scope, _: Receive, send: Send) -> None:
        order = parse_qs(scope["query_string"].decode("latin-1")).get("order", ["lifo"])[-1]
        if order not in {"lifo", "fifo"}:
            raise BadRequest("order must be lifo or fifo")
        pull = handout.Pull(_device_token(scope), versions.told_by(header(scope, b"user-agent")))
        device_id, released = await self._pull.submit(pull)
        await respond(send, 200, wire.messages(released))
        self._streams.answered(device_id)

    async def _reports(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = _device_token(scope)
        raw = await read_body(scope, receive, self._account_of)
        items = await aside(wire.read_reports, raw)
        for start in range(0, len(items) or 1, MOST_REPORTS_AT_ONCE):
            await self._report.submit(reports.Reported(token, items[start : start + MOST_REPORTS_AT_ONCE]))
        await respond(send, 204, b"")

    async def _hook(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_body(scope, receive, self._account_of, LARGE_BODY_LIMIT)
        post = inbox.Post(
            secret=scope["path"].removeprefix(HOOKS),
            raw=raw,
            timestamp=header(scope, b"x-timestamp") or "",
            signature=header(scope, b"x-signature") or "",
            app_version=versions.told_by(header(scope, b"user-agent")),
        )
        if len(raw) > READ_ASIDE:
            del raw
            await asyncio.get_running_loop().run_in_executor(self._large, _read_large, post)
            await self._receive_large.submit(post)
        else:
            post.told = events.read(raw)
            await self._receive.submit(post)
        await respond(send, 200, b"{}")

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        device_id = await self._open.submit(_device_token(scope))
        await self._streams.serve(device_id, receive, send)


def _draft(raw: bytes, content_type: str | None, key: str | None) -> SmsDraft | AppError:
    try:
        draft = read(SmsDraft, parse_body(raw, content_type))
        idempotency.checked(key)
    except AppError as error:
        return error
    return draft


def _device_token(scope: Scope) -> bytes:
    token = bearer(header(scope, b"authorization"))
    if token is None:
        raise Unauthenticated
    return digest(token)


def _read_large(post: inbox.Post) -> None:
    """Read a post that costs many times its size; first see whether it comes from a phone."""
    with transaction() as session:
        device = hooked.by_secret(session, {post.secret}).get(post.secret)
    raw = post.raw
    inbox.prove(post, device)
    post.told = events.read(raw)
