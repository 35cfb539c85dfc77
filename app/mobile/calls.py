"""A phone's pull, its reports, its event stream and its hooks, answered in front of the framework.

Concurrent calls of one kind share a transaction (`core.batching`).
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from app.core.batching import Batcher
from app.core.bodies import OFFLOAD_BYTES, header
from app.core.database import transaction
from app.core.direct import Call
from app.core.edge import respond
from app.core.errors import BadRequest, Unauthenticated
from app.core.reading import LARGE_BODY_LIMIT, AccountOf, offload, read_body
from app.core.security import bearer, digest
from app.devices import phone_news, presence, versions
from app.devices.callers import HOOKS
from app.devices.streams import Streams
from app.messages import inbox
from app.messages.dispatch import handout
from app.messages.life import opting_out, reports
from app.mobile import events, wire

PHONES = "/api/mobile/v1"
MAX_REPORTS_AT_ONCE = 500


class PhoneCalls:
    """Reads what phones ask and tell, and gathers it into batches."""

    def __init__(self, streams: Streams, account_of: AccountOf) -> None:
        self._account_of = account_of
        self._streams = streams
        self._pull = Batcher("pull", opting_out.hand_out)
        self._report = Batcher("report", reports.record, size=lambda item: len(item.reports))
        self._receive = Batcher("receive", inbox.receive)
        # Apart, so that who posts a login code waits for nobody's pictures; and one after the other, since to read one
        # takes all of a processor.
        self._large = ThreadPoolExecutor(1, thread_name_prefix="read large")
        self._receive_large = Batcher("receive large", inbox.receive, size=inbox.Post.size)
        self._open = Batcher("open", presence.stream_opened)
        self.calls = (
            Call("GET", f"{PHONES}/message", self._messages),
            Call("GET", f"{PHONES}/messages", self._messages),
            Call("PATCH", f"{PHONES}/message", self._reports),
            Call("PATCH", f"{PHONES}/messages", self._reports),
            Call("GET", f"{PHONES}/events", self._events),
            Call("POST", f"{HOOKS}{{secret}}", self._hook),
        )

    async def _messages(self, scope: Scope, _: Receive, send: Send) -> None:
        order = parse_qs(scope["query_string"].decode("latin-1")).get("order", ["lifo"])[-1]
        if order not in {"lifo", "fifo"}:
            raise BadRequest("order must be lifo or fifo")
        asked = time.monotonic()
        pull = handout.Pull(_device_token(scope), versions.from_user_agent(header(scope, b"user-agent")))
        device_id, released = await self._pull.submit(pull)
        await respond(send, 200, wire.messages(released))
        self._streams.answered(device_id, asked)

    async def _reports(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = _device_token(scope)
        raw = await read_body(scope, receive, self._account_of)
        items = await offload(wire.read_reports, raw)
        for start in range(0, len(items) or 1, MAX_REPORTS_AT_ONCE):
            await self._report.submit(reports.Reported(token, items[start : start + MAX_REPORTS_AT_ONCE]))
        await respond(send, 204, b"")

    async def _hook(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_body(scope, receive, self._account_of, LARGE_BODY_LIMIT)
        post = inbox.Post(
            secret=scope["path"].removeprefix(HOOKS),
            raw=raw,
            timestamp=header(scope, b"x-timestamp") or "",
            signature=header(scope, b"x-signature") or "",
            app_version=versions.from_user_agent(header(scope, b"user-agent")),
        )
        if len(raw) > OFFLOAD_BYTES:
            del raw
            await asyncio.get_running_loop().run_in_executor(self._large, _read_large, post)
            await self._receive_large.submit(post)
        else:
            post.content = events.read(raw)
            await self._receive.submit(post)
        await respond(send, 200, b"{}")

    async def _events(self, scope: Scope, receive: Receive, send: Send) -> None:
        device_id = await self._open.submit(_device_token(scope))
        await self._streams.serve(device_id, receive, send)


def _device_token(scope: Scope) -> bytes:
    token = bearer(header(scope, b"authorization"))
    if token is None:
        raise Unauthenticated
    return digest(token)


def _read_large(post: inbox.Post) -> None:
    """Read a post that costs many times its size; first see whether it comes from a phone."""
    with transaction() as session:
        device = phone_news.by_secret(session, {post.secret}).get(post.secret)
    raw = post.raw
    inbox.prove(post, device)
    post.content = events.read(raw)
